"""``fastmlp predict``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.models import load_model, model_argument
from fastmlp.cli.options import DATA, OUTPUT, json_option, max_bytes_option, option, threads_option
from fastmlp.cli.output import note, print_columns, print_json

_SPREADSHEET_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command(
    cls=Command,
    examples=[
        ("fastmlp predict runs/NAME digit.png", "one picture"),
        ("fastmlp predict runs/NAME scan.jpg --invert", "black ink on white paper"),
        ("fastmlp predict runs/NAME samples.npy --csv > classes.csv", "a row per sample"),
    ],
)
@model_argument()
@click.argument("files", type=click.Path(path_type=Path), metavar="FILE...", nargs=-1, required=True)
@option(DATA, "--invert", is_flag=True, help="Turn dark into light: MNIST is white on black.")
@max_bytes_option()
@threads_option()
@option(OUTPUT, "--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option()
def predict(
    model: Path,
    files: tuple[Path, ...],
    invert: bool,
    max_bytes: int,
    threads: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Classify images or rows of numbers.

    MODEL is a run folder or a model file. Each FILE is a PNG or JPEG picture, an .npy file with samples, or
    an .npz file with samples in X. Prints the most probable class of every sample and its probability.
    """
    from fastmlp.datasets.images import read_images

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    network = load_model(model)
    images = read_images(files, image_shape(network.n_features), invert=invert, max_bytes=max_bytes)
    for text in images.notes:
        note(text)
    probabilities = network.predict_proba(images.rows, threads=threads)
    classes = probabilities.argmax(axis=1)
    certainty = probabilities.max(axis=1)
    rows = list(zip(images.names, classes.tolist(), certainty.tolist(), strict=True))
    if as_json:
        predictions = [
            {"sample": name, "class": label, "probability": probability, "probabilities": each}
            for (name, label, probability), each in zip(rows, probabilities, strict=True)
        ]
        print_json({"command": "predict", "model": model, "predictions": predictions})
    elif as_csv:
        click.echo(_csv(rows), nl=False)
    else:
        print_columns(
            ("sample", "class", "probability"),
            [(name, str(label), f"{probability:.4f}") for name, label, probability in rows],
        )


def image_shape(n_features: int) -> tuple[int, int]:
    """Return the height and width of a network's input: square if it can be, else one row of features."""
    side = math.isqrt(n_features)
    return (side, side) if side * side == n_features else (1, n_features)


def _csv(rows: Sequence[tuple[str, Any, Any]]) -> str:
    """Return the predictions as CSV; names that a spreadsheet would run as a formula get a quote in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sample", "class", "probability"))
    for name, label, probability in rows:
        safe = f"'{name}" if name.startswith(_SPREADSHEET_FORMULA) else name
        writer.writerow((safe, label, f"{probability:.6f}"))
    return text.getvalue()
