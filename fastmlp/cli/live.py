"""What is seen of a training while it runs: a live line on a terminal, now and then a plain one elsewhere."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Preferences
from fastmlp.cli.output import note, percent, printable, seconds

if TYPE_CHECKING:
    from fastmlp.training import Progress

_PATIENCE_SECONDS = 1.5  # before saying what one is waiting for
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
        self._shown = -_PLAIN_SECONDS
        self._newest: Progress | None = None
        self._pending: threading.Timer | None = None
        if not quiet and is_terminal():
            self._live = rich_live(preferences)

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._announce(None)
        if self._live is not None:
            self._live.stop()
        elif self._newest is not None and not self._quiet:
            note("  ".join(_describe(self._newest)))

    def tell(self, text: str) -> None:
        """Say something on a line of its own, above the live line."""
        if self._quiet:
            return
        if self._live is not None and self._live.is_started:
            self._live.console.print(printable(text), markup=False)
        else:
            note(text)

    def _announce(self, message: str | None) -> None:
        """Say what one is waiting for, but only if it takes a while: mostly the cache is warm."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if message is not None:
            text = f"{message} (once per version and machine, this takes a while) ..."
            self._pending = threading.Timer(_PATIENCE_SECONDS, self.tell, [text])
            self._pending.daemon = True
            self._pending.start()

    def __call__(self, progress: Progress) -> None:
        """Show where the training is."""
        if self._quiet:
            return
        if progress.message:
            self._announce(progress.message)
            return
        self._announce(None)
        if progress.step == 0:
            return
        if self._newest is not None and progress.step == self._newest.step:
            progress = dataclasses.replace(progress, loss=self._newest.loss)  # of one batch only otherwise
        self._newest = progress
        if self._live is not None:
            if not self._live.is_started:
                self._live.start()
            self._live.update(_with_bar(progress, self._live.console.width), refresh=True)
            return
        now = time.monotonic()
        if now - self._shown >= _PLAIN_SECONDS and progress.step < progress.steps:
            self._shown = now
            note("  ".join(_describe(progress)))


def is_terminal() -> bool:
    """Tell whether stderr is a terminal on which a line can be overwritten."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def rich_live(preferences: Preferences) -> Any:
    """Return rich's live display, which redraws only when told to."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr, no_color=preferences.color_flag() is False, highlight=False)
    return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)


def _describe(progress: Progress) -> list[str]:
    """Return what the line says, leaving out what is not known yet: loss, accuracy, time left."""
    parts = [f"epoch {progress.epoch:>{len(str(progress.epochs))}}/{progress.epochs}"]
    if math.isfinite(progress.loss):
        parts.append(f"loss {progress.loss:.4f}")
    if progress.validation_accuracy is not None:
        parts.append(f"test accuracy {percent(progress.validation_accuracy)}")
    parts.append(f"{progress.samples_per_second:,.0f} samples/s")
    left = progress.remaining_seconds
    if math.isfinite(left):
        parts.append(f"{left:.0f} s left" if left < 60 else f"{seconds(left)} left")
    return parts


def _with_bar(progress: Progress, columns: int) -> Any:
    """Return the line with a bar as wide as the terminal allows."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    first, *others = _describe(progress)
    room = columns - len("  ".join([first, *others])) - 3
    bar = ProgressBar(total=progress.steps, completed=progress.step, width=min(room, 30))
    cells = [first, bar, *others] if room >= 5 else [first, *others]
    table = Table.grid(padding=(0, 2))
    for _ in cells:
        table.add_column(no_wrap=True, overflow="crop")
    table.add_row(*cells)
    return table


def report_compile_time(spent: float, *, quiet: bool) -> None:
    """Say how long compiling took, unless the kernels came from the cache."""
    if not quiet and spent >= 1.0:
        note(f"compiled the kernels in {seconds(spent)}; kept for the next time")


def preferences_of(ctx: click.Context) -> Preferences:
    """Return what the user wants of every command."""
    return ctx.ensure_object(Preferences)
