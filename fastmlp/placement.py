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
    """Processors of the threads that have started a piece of work together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[int] = set()

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
                allowed = os.sched_getaffinity(0)
                free = sorted(allowed - self._taken)
                if not free:
                    return
                processor = free[0]
                try:
                    os.sched_setaffinity(0, {processor})
                finally:
                    os.sched_setaffinity(0, allowed)
            self._taken.add(processor)
