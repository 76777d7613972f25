"""Ctrl-C and SIGTERM, during a training."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupts:
    """Turns SIGTERM (a batch system's "time is up") into Ctrl-C, and sees to it that neither gets lost.

    Python drops an exception that a signal raises inside a callback or a destructor, which happens while
    Numba is imported and compiles. So the signal is remembered as well, and `check` raises it again.
    """

    def __init__(self) -> None:
        self._came = False
        self._previous: dict[int, signal.Handlers | object] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            if previous is signal.SIG_IGN:  # as for a job in the background of a script
                continue
            try:
                signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: signals are the caller's business
                return self
            self._previous[number] = previous
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as Python calls it
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came.

        Raises
        ------
        KeyboardInterrupt
        """
        if self._came:
            raise KeyboardInterrupt
