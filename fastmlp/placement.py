"""Keeping the threads of a team on processors of their own.

Threads that have just been woken up are often put on the processor of the one who woke them, while another is idle.
Linux then takes 40 to 60 ms to move one of them away, in which a team of two trains at half its speed: measured in 5
of 14 trainings of 200 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable

_current_processor: Callable[[], int] | None = None
if sys.platform == "linux":
    _current_processor = getattr(ctypes.CDLL(None), "sched_getcpu", None)


class Seats:
    """Processors of the threads that start a piece of work together; made by one that may run wherever they may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        self._allowed: set[int] = set()
        if _current_processor is not None:
            with contextlib.suppress(OSError):
                self._allowed = os.sched_getaffinity(0)

    def keep_for(self, native_id: int) -> None:
        """Let a thread that sleeps wake up on a processor that nobody has taken, if there is one; it then takes it.

        Threads that sleep can be moved at no cost. Woken up like this after 10 ms of rest, the second thread of two
        began after 0.1 ms; started anew, or woken up as it was, after 0.6 to 4 ms, when the first one was done.
        """
        if _current_processor is None:
            return
        with self._lock, contextlib.suppress(OSError):
            free = self._allowed - self._taken
            if free:
                os.sched_setaffinity(native_id, free)

    def take(self) -> None:
        """Move the calling thread elsewhere if it runs where another of the team does and there is a free processor.

        It is not bound to that processor afterwards. Where the system does not allow it, the thread stays: an error
        here would leave the others of the team waiting.
        """
        if _current_processor is None:
            return
        with self._lock, contextlib.suppress(OSError):
            processor = _current_processor()
            if processor in self._taken:
                free = sorted(self._allowed - self._taken)
                if free:
                    processor = free[0]
                    os.sched_setaffinity(0, {processor})
            self._taken.add(processor)
            if os.sched_getaffinity(0) != self._allowed:
                os.sched_setaffinity(0, self._allowed)
