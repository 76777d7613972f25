"""``fastmlp profile``."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.interrupts import Interrupts
from fastmlp.cli.live import preferences_of, report_compile_time
from fastmlp.cli.mistakes import INTERRUPTED
from fastmlp.cli.options import (
    DATA,
    NETWORK,
    OUTPUT,
    TRAINING,
    data_option,
    force_option,
    json_option,
    max_bytes_option,
    option,
)
from fastmlp.cli.output import hush_matplotlib, note, print_json
from fastmlp.cli.profile_view import ProfileDisplay, headline, print_profile, roughly
from fastmlp.cli.types import FigureFile, HiddenLayers, OneOf, Threads, WholeNumber
from fastmlp.experiment import DEFAULTS, DTYPES, Settings
from fastmlp.memory import check_memory
from fastmlp.runs import replacing

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.profile_point import Point
    from fastmlp.profiling import Profile, ProfileProgress

_DEFAULT_SAMPLES = 20_000


class Widths(HiddenLayers):
    """Widths to compare: "64,128"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the widths or fail with one line."""
        widths = super().convert(value, param, ctx)
        if not widths:
            self.fail("must name one width at least", param, ctx)
        return widths


class ThreadCounts(Threads):
    """Numbers of threads to compare: "1,2"; "auto" for one and all."""

    name = "N,N,..|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the numbers, without repetition, or fail with one line that names the limit."""
        if isinstance(value, tuple):
            return value
        from fastmlp.system import usable_cpus

        counts: list[int] = []
        for part in str(value).split(","):
            count = super().convert(part, param, ctx)
            counts += [1, usable_cpus()] if count is None else [count]
        return tuple(dict.fromkeys(counts))


@click.command(
    cls=Command,
    examples=[
        ("fastmlp profile", "widths from 16 to 2048, one thread and all"),
        ("fastmlp profile --hidden 64,512 --threads 2", "two networks"),
        ("fastmlp profile --depth 3 --plot profile.png", "three hidden layers; draw the result"),
        ("fastmlp profile --dtype float64 --csv profile.csv", "for a spreadsheet"),
    ],
)
@option(
    NETWORK,
    "--hidden",
    type=Widths(),
    default="16,32,64,128,256,512,1024,2048",
    help="Widths of the hidden layers, one network each.",
)
@option(NETWORK, "--depth", type=WholeNumber(1, 900), default=1, help="Number of hidden layers.")
@option(NETWORK, "--dtype", type=OneOf(DTYPES), default=DEFAULTS.dtype, help="Numbers to calculate with.")
@option(
    TRAINING,
    "--batch-size",
    "-b",
    type=WholeNumber(1),
    default=DEFAULTS.batch_size,
    help="Samples per step.",
)
@option(
    TRAINING,
    "--threads",
    "-t",
    type=ThreadCounts(),
    default="auto",
    help="Numbers of threads to compare; auto: one, and as many as this process may use.",
)
@option(TRAINING, "--rounds", type=WholeNumber(1, 1000), default=5, help="How often everything is measured.")
@data_option()
@max_bytes_option()
@option(
    DATA,
    "--n-train",
    type=WholeNumber(1),
    help=f"Use the first N training samples only. Default: {_DEFAULT_SAMPLES:,}, or all if there are fewer.",
)
@option(
    OUTPUT,
    "--csv",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a row per width and number of threads.",
)
@option(
    OUTPUT,
    "--plot",
    type=FigureFile(),
    help="Draw speed and share of the peak against the width into a .png, .pdf or .svg file.",
)
@force_option()
@json_option()
@click.pass_context
def profile(
    ctx: click.Context,
    /,
    hidden: tuple[int, ...],
    depth: int,
    dtype: str,
    batch_size: int,
    threads: tuple[int, ...],
    rounds: int,
    data: str,
    max_bytes: int,
    n_train: int | None,
    csv: Path | None,
    plot: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure the speed of networks of several widths on this machine.

    Shows samples per second in training and in prediction, what that is in operations of the dense algorithm
    (GFLOP/s, a multiply-add counts as two), its share of the peak of the machine (a loop of multiply-adds
    that never leaves the registers; skipping inputs that are 0, or a matrix unit, can exceed it), how many
    times as fast as NumPy in the same number type it is, and where the time of a mini-batch goes. Compiling
    is not counted.

    Each number is the median of several rounds; the spread beside it is half of the range. Ctrl-C prints
    what was measured so far.
    """
    _check_files({"--csv": csv, "--plot": plot}, force=force)
    dataset = _load(data, n_train, max_bytes)
    n_features, n_classes = dataset.X_train.shape[1], dataset.n_classes
    for width in hidden:
        settings = Settings(layers=(width,) * depth, dtype=dtype, batch_size=batch_size, epochs=1, threads=max(threads))
        check_memory(settings, (n_features, *settings.layers, n_classes), len(dataset.X_train))
    from fastmlp.profiling import Profile

    measured = Profile(
        dataset,
        hidden=hidden,
        depth=depth,
        threads=threads,
        batch_size=batch_size,
        dtype=dtype,
        rounds=rounds,
    )
    interrupted = _run(ctx, measured)
    points = [point for point in measured.points if point.training]
    if interrupted and not points:
        raise KeyboardInterrupt
    if as_json:
        print_json(_document(measured, points, interrupted=interrupted))
    else:
        print_profile(measured, points, color=preferences_of(ctx).color_flag())
    _write_files(measured, points, csv, plot)
    if interrupted:
        note("interrupted; this is what was measured so far")
        ctx.exit(INTERRUPTED)


def _check_files(files: dict[str, Path | None], *, force: bool) -> None:
    """Refuse files that could not be written in the end, before anything is measured."""
    for name, path in files.items():
        if path is None:
            continue
        if path.is_dir():
            raise click.BadParameter(f"is a directory: {path}", param_hint=name)
        if not path.absolute().parent.is_dir():
            raise click.BadParameter(f"no such directory: {path.parent}", param_hint=name)
        if path.exists() and not force:
            raise click.BadParameter(f"{path} exists; use --force", param_hint=name)


def _load(data: str, n_train: int | None, max_bytes: int) -> Dataset:
    """Load the samples that were asked for, or as many as are enough for a measurement."""
    from fastmlp.datasets import load_dataset

    dataset = load_dataset(data, n_train=n_train, max_bytes=max_bytes)
    n = len(dataset.X_train) if n_train is not None else _DEFAULT_SAMPLES
    return dataclasses.replace(dataset, X_train=dataset.X_train[:n], y_train=dataset.y_train[:n])


def _run(ctx: click.Context, measured: Profile) -> bool:
    """Measure, showing the progress; return whether it was interrupted."""
    with Interrupts() as interrupts, ProfileDisplay(preferences_of(ctx)) as display:

        def progress(report: ProfileProgress) -> None:
            interrupts.check()
            display(report)

        try:
            measured.prepare()
            interrupts.check()
            report_compile_time(measured.compile_seconds, quiet=False)
            expected = roughly(measured.expected_seconds)
            note(f"measuring {headline(measured)}, {measured.rounds} rounds: about {expected}")
            measured.run(progress)
        except KeyboardInterrupt:
            return True
    return False


def _document(measured: Profile, points: list[Point], *, interrupted: bool) -> dict[str, Any]:
    """Return everything in the terms of JSON."""
    from fastmlp.system import machine, versions

    rounds = ("training", "prediction", "baseline")
    return {
        "command": "profile",
        "data": measured.dataset.name,
        "samples": len(measured.X),
        "dtype": measured.dtype,
        "depth": measured.depth,
        "batch_size": measured.batch_size,
        "rounds": measured.rounds,
        "interrupted": interrupted,
        "compile_seconds": measured.compile_seconds,
        "peak_gflops": measured.peaks,
        "points": [point.to_dict() | {f"{name}_rounds": getattr(point, name) for name in rounds} for point in points],
        "machine": machine(),
        "versions": versions(),
    }


def _write_files(measured: Profile, points: list[Point], table: Path | None, plot: Path | None) -> None:
    """Write the table and the figure that were asked for."""
    if table is not None:
        rows = [point.to_dict() for point in points]
        with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        note(f"table written to {table}")
    if plot is not None:
        hush_matplotlib()
        from fastmlp.plots import profile_curves, save_figure

        with replacing(plot) as temporary:
            figure = profile_curves(points, headline(measured))
            save_figure(figure, temporary, file_format=plot.suffix[1:])
        note(f"figure drawn in {plot}")
