"""Ctrl-C and SIGTERM, during a training."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupts:
    """Turns SIGTERM (a batch system's "time is up") into Ctrl-C, and sees to it that neither gets lost.

    Python drops an exception that a signal raises inside a callback or a destructor, which happens while
    Numba is imported and compiles. So the signal is remembered as well, and `check` raises it again; the traceback that
    Python prints of what it drops would only alarm.
    """

    def __init__(self) -> None:
        self._came = False
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | signal.Handlers] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            # ignored as for a job in the background of a script; or not Python's handler, which could not be restored
            if previous is signal.SIG_IGN or previous is None:
                continue
            try:
                signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: signals are the caller's business
                return self
            self._previous[number] = previous
        if self._previous:
            self._tell, sys.unraisablehook = sys.unraisablehook, self._tell_of_others
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        if self._previous:
            sys.unraisablehook = self._tell

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as Python calls it
        self._came = True
        raise KeyboardInterrupt

    def _tell_of_others(self, dropped: sys.UnraisableHookArgs) -> None:
        """Tell of an exception that Python has dropped, unless `check` raises it again."""
        if not (self._came and dropped.exc_type is KeyboardInterrupt):
            self._tell(dropped)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came.

        Raises
        ------
        KeyboardInterrupt
        """
        if self._came:
            raise KeyboardInterrupt
