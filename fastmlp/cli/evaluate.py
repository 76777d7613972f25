"""``fastmlp evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastmlp.cli.base import Command
from fastmlp.cli.models import check_fit, load_model, model_argument
from fastmlp.cli.options import (
    DATA,
    OUTPUT,
    data_option,
    force_option,
    json_option,
    max_bytes_option,
    option,
    threads_option,
)
from fastmlp.cli.output import hush_matplotlib, note, percent, print_columns, print_fields, print_json
from fastmlp.cli.types import FigureFile, OneOf
from fastmlp.runs import network_name, replacing

if TYPE_CHECKING:
    from fastmlp.metrics import ClassificationReport

_MATRIX_UP_TO = 20  # classes; a larger matrix does not fit on a screen


@click.command(
    cls=Command,
    examples=[
        ("fastmlp evaluate runs/NAME", "the MNIST test images"),
        ("fastmlp evaluate runs/NAME --plot errors.png", "draw the confusion matrix"),
        ("fastmlp evaluate model.safetensors --data table.npz --json", "other data; result as JSON"),
    ],
)
@model_argument()
@data_option()
@max_bytes_option()
@option(DATA, "--part", type=OneOf(["test", "train"]), default="test", help="Which part of the data.")
@threads_option()
@option(OUTPUT, "--plot", type=FigureFile(), help="Draw the confusion matrix into a .png, .pdf or .svg file.")
@force_option()
@json_option()
def evaluate(
    model: Path,
    data: str,
    max_bytes: int,
    part: str,
    threads: int | None,
    plot: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure a trained network, class by class.

    MODEL is a run folder or a model file. Precision: how many of the samples taken for a class belong to it.
    Recall: how many samples of a class were found. F1: the harmonic mean of the two. Support: samples of the
    class.
    """
    from fastmlp.datasets import load_dataset
    from fastmlp.metrics import classification_report

    if plot is not None and plot.exists() and not force:
        raise click.BadParameter(f"{plot} exists; use --force", param_hint="--plot")
    network = load_model(model)
    dataset = load_dataset(data, max_bytes=max_bytes)
    check_fit(network, dataset)
    X, y = (dataset.X_test, dataset.y_test) if part == "test" else (dataset.X_train, dataset.y_train)
    loss = network.evaluate(X, y, threads=threads).loss
    report = classification_report(y, network.predict(X, threads=threads), network.n_classes)
    if as_json:
        source = {"model": model, "data": dataset.name, "part": part, "samples": len(y)}
        print_json({"command": "evaluate", **source, "loss": loss, **_document(report)})
    else:
        _print(report, f"{dataset.name}, {part} part, {len(y):,} samples", loss)
    if plot is not None:
        hush_matplotlib()
        from fastmlp.plots import confusion_figure, save_figure

        title = f"{network_name(network.layers)}: {percent(report.accuracy)} of {dataset.name} right"
        with replacing(plot) as temporary:
            save_figure(confusion_figure(report.confusion, title), temporary, file_format=plot.suffix[1:])
        note(f"confusion matrix drawn in {plot}")


def _document(report: ClassificationReport) -> dict[str, object]:
    """Return the report in the terms of JSON."""
    columns = zip(report.precision, report.recall, report.f1, report.support, strict=True)
    return {
        "accuracy": report.accuracy,
        "classes": [
            {"class": index, "precision": precision, "recall": recall, "f1": f1, "support": support}
            for index, (precision, recall, f1, support) in enumerate(columns)
        ],
        "confusion": report.confusion,
    }


def _print(report: ClassificationReport, what: str, loss: float) -> None:
    """Print the report for people."""
    print_fields([("Data", what), ("Accuracy", percent(report.accuracy)), ("Loss", f"{loss:.4f}")])
    click.echo()
    columns = zip(report.precision, report.recall, report.f1, report.support, strict=True)
    print_columns(
        ("class", "precision", "recall", "F1", "support"),
        [
            (str(index), percent(precision), percent(recall), percent(f1), f"{support:,}")
            for index, (precision, recall, f1, support) in enumerate(columns)
        ],
    )
    n_classes = len(report.confusion)
    if n_classes > _MATRIX_UP_TO:
        note(f"the confusion matrix of {n_classes} classes is too wide for a terminal: see --plot and --json")
        return
    click.echo("\nConfusion matrix (rows: true class, columns: predicted class)\n")
    print_columns(
        ("", *map(str, range(n_classes))),
        [(str(index), *(f"{count}" if count else "." for count in row)) for index, row in enumerate(report.confusion)],
    )
