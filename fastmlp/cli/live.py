"""What is seen of a training while it runs: a live line on a terminal, now and then a plain one elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Preferences
from fastmlp.cli.output import note, percent, printable, seconds

if TYPE_CHECKING:
    from fastmlp.training import Progress

_PLAIN_SECONDS = 3.0  # between lines where nothing can be overwritten, such as a log file


class TrainingDisplay:
    """Shows the progress of a training on stderr; a context manager whose instance is the callback.

    Parameters
    ----------
    preferences : Preferences
        The user's wish about colour.
    quiet : bool, default False
        Show nothing.
    """

    def __init__(self, preferences: Preferences, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._last_line = -_PLAIN_SECONDS
        self._last_epoch = 0
        self._message: str | None = None
        if not quiet and is_terminal():
            self._live = _rich_live(preferences)

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str) -> None:
        """Say something on a line of its own, above the live line."""
        if self._quiet:
            return
        if self._live is not None and self._live.is_started:
            self._live.console.print(printable(text), markup=False)
        else:
            note(text)

    def __call__(self, progress: Progress) -> None:
        """Show where the training is."""
        if self._quiet:
            return
        if progress.message:
            if progress.message != self._message:
                self._message = progress.message
                self.tell(f"{progress.message} ...")
            return
        if self._live is not None:
            if not self._live.is_started:
                self._live.start()
            self._live.update(_line(progress, with_bar=True), refresh=True)
            return
        now = time.monotonic()
        is_last = progress.step == progress.steps
        if is_last or now - self._last_line >= _PLAIN_SECONDS:
            self._last_line = now
            note(str(_line(progress, with_bar=False)))


def is_terminal() -> bool:
    """Tell whether stderr is a terminal on which a line can be overwritten."""
    return (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    )


def _rich_live(preferences: Preferences) -> Any:
    """Return rich's live display, which redraws only when told to."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr, no_color=preferences.color_flag() is False, highlight=False)
    return Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )


def _line(progress: Progress, *, with_bar: bool) -> Any:
    """Return the line: rich's text with a bar, or a plain string."""
    digits = len(str(progress.epochs))
    parts = [
        f"epoch {progress.epoch:>{digits}}/{progress.epochs}",
        f"loss {progress.loss:.4f}",
    ]
    if progress.validation_accuracy is not None:
        parts.append(f"test accuracy {percent(progress.validation_accuracy)}")
    parts += [f"{progress.samples_per_second:,.0f} samples/s", f"{seconds(progress.remaining_seconds)} left"]
    if not with_bar:
        return "  ".join(parts)
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row(parts[0], ProgressBar(total=progress.steps, completed=progress.step, width=24), *parts[1:])
    return table


def report_compile_time(spent: float, *, quiet: bool) -> None:
    """Say how long compiling took, unless the kernels came from the cache."""
    if not quiet and spent >= 1.0:
        note(f"compiled the kernels in {seconds(spent)}; kept for the next time")


def preferences_of(ctx: click.Context) -> Preferences:
    """Return what the user wants of every command."""
    return ctx.ensure_object(Preferences)
