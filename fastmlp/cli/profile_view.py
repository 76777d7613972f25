"""How ``fastmlp profile`` looks: progress on stderr, tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Preferences
from fastmlp.cli.live import is_terminal
from fastmlp.cli.output import note, print_columns, seconds

if TYPE_CHECKING:
    from fastmlp.profile_point import Point
    from fastmlp.profiling import Profile, ProfileProgress

_PLAIN_SECONDS = 5.0  # between lines where nothing can be overwritten, such as a log file

_NETWORK = ("N", "threads")
_RATE = ("samples/s", "spread", "GFLOP/s", "of peak")


class ProfileDisplay:
    """Shows the progress of a profile on stderr; a context manager whose instance is the callback.

    Nothing is drawn while something is measured, only in between.

    Parameters
    ----------
    preferences : Preferences
        The user's wish about colour.
    """

    def __init__(self, preferences: Preferences) -> None:
        self._preferences = preferences
        self._live: Any = None
        self._shown = time.monotonic()

    def __enter__(self) -> ProfileDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: ProfileProgress) -> None:
        """Show where the profile is."""
        left = roughly(progress.remaining_seconds)
        line = f"{100 * progress.done // progress.total:3d} %  {progress.doing}  about {left} left"
        if is_terminal():
            if self._live is None:
                self._live = _rich_live(self._preferences)
                self._live.start()
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._shown >= _PLAIN_SECONDS and progress.done < progress.total:
            self._shown = time.monotonic()
            note(line)


def _rich_live(preferences: Preferences) -> Any:
    """Return a line that is redrawn only when told to."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr, no_color=preferences.color_flag() is False, highlight=False, markup=False)
    return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)


def roughly(value: float) -> str:
    """Return a time that is only an estimate: "34 s", "3 min 05 s"."""
    return f"{value:.0f} s" if value < 60.0 else seconds(value)


def headline(profile: Profile) -> str:
    """Return what is measured: "784-N-10, float32, batch 32, 20,000 samples of mnist"."""
    layers = (profile.X.shape[1], *[0] * profile.depth, profile.dataset.n_classes)
    hidden = "N" if profile.depth == 1 else f"Nx{profile.depth}"
    network = f"{layers[0]}-{hidden}-{layers[-1]}"
    data = f"{len(profile.X):,} samples of {profile.dataset.name}"
    return f"{network}, {profile.dtype}, batch {profile.batch_size}, {data}"


def print_profile(profile: Profile, points: Sequence[Point], *, color: bool | None) -> None:
    """Print the tables: speed, and where the time goes.

    Parameters
    ----------
    profile : Profile
        What was measured.
    points : sequence of Point
        Its points that have been measured.
    color : bool or None
        The user's wish about colour; None: as the terminal can.
    """
    peaks = [
        f"{peak:,.0f} GFLOP/s with {count} {'thread' if count == 1 else 'threads'}"
        for count, peak in profile.peaks.items()
    ]
    click.echo(f"{headline(profile)}\nPeak of this machine: {', '.join(peaks)}")
    click.echo(f"Medians of {max(len(point.training) for point in points)} rounds; spread: half of their range")
    training = [(*_rate(point, "training"), _number(point.speed_up.median)) for point in points]
    prediction = [_rate(point, "prediction") for point in points]
    _table("Training", (*_NETWORK, *_RATE, "x NumPy"), points, training, color)
    _table("Prediction", (*_NETWORK, *_RATE), points, prediction, color)
    phases = [tuple(point.phase_seconds.values()) for point in points]
    times = [tuple(_number(1e6 * value) for value in (sum(each), *each)) for each in phases]
    title = "Microseconds per batch of training, mean over the threads"
    _table(title, (*_NETWORK, "all", *points[0].phase_seconds), points, times, color)


def _rate(point: Point, name: str) -> tuple[str, ...]:
    """Return the cells about training or prediction."""
    row = point.to_dict()
    median, low, high = (row[f"{name}_samples_per_second{end}"] for end in ("", "_lowest", "_highest"))
    return (
        _number(median, digits=0),
        _share((high - low) / (2.0 * median)),
        _number(row[f"{name}_gflops"]),
        _share(row[f"{name}_share_of_peak"]),
    )


def _number(value: float, *, digits: int = 1) -> str:
    return "-" if value != value else f"{value:,.{digits}f}"


def _share(value: float) -> str:
    return "-" if value != value else f"{100 * value:.0f} %"


def _table(
    title: str,
    header: Sequence[str],
    points: Sequence[Point],
    cells: Sequence[tuple[str, ...]],
    color: bool | None,
) -> None:
    """Print a rich table on a terminal and aligned columns elsewhere; each row begins with width and threads."""
    rows = [(str(p.layers[1]), str(p.threads), *row) for p, row in zip(points, cells, strict=True)]
    if sys.stdout is None or not sys.stdout.isatty():
        click.echo(f"\n{title}")
        print_columns(header, rows, left=0)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(no_color=color is False, highlight=False).print(table)
