"""Worker processes seen from the parent: start, ask, watch that they are idle, stop."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.implementations import Implementation

ROOT = Path(__file__).parents[1]

# A thread pool that spins after its work (OpenBLAS for 0.1 s, OpenMP for some milliseconds) must have
# stopped before another implementation is timed.
_QUIET_WINDOW_SECONDS = 0.03
_QUIET_SHARE = 0.03
_PATIENCE_SECONDS = 5.0


class WorkerFailedError(RuntimeError):
    """A worker raised an exception or died; the message holds its traceback."""


class Worker:
    """A fresh process for one implementation."""

    def __init__(self, implementation: Implementation) -> None:
        self.implementation = implementation
        environment = implementation.environment()
        path = [str(ROOT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", implementation.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask for one method of `bench.worker.Session` and wait for its answer."""
        self.send(method, *arguments)
        return self.receive()

    def send(self, method: str, *arguments: Any) -> None:
        """Ask without waiting."""
        assert self._process.stdin is not None
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailedError(self._last_words()) from None

    def receive(self) -> Any:
        """Wait for the answer to the last request."""
        assert self._process.stdout is not None
        try:
            well, answer = pickle.load(self._process.stdout)
        except EOFError:
            raise WorkerFailedError(self._last_words()) from None
        if not well:
            raise WorkerFailedError(f"{self.implementation.name}:\n{answer}")
        return answer

    def _last_words(self) -> str:
        return f"{self.implementation.name}: the worker process ended with code {self._process.wait()}"

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all its threads, or None where Linux's /proc is missing."""
        return _cpu_seconds(self._process.pid)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the process end by itself; end it if it does not."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _cpu_seconds(pid: int) -> float | None:
    """Sum the run time of a process's threads, in nanoseconds (/proc/PID/stat counts ticks of 10 ms)."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return None
    return total * 1e-9


def total_cpu_seconds(group: Sequence[Worker]) -> float | None:
    """Return the processor time of several workers together."""
    times = [worker.cpu_seconds() for worker in group]
    known = [seconds for seconds in times if seconds is not None]
    return sum(known) if len(known) == len(times) else None


def wait_until_idle(group: Sequence[Worker]) -> None:
    """Return when the workers use no processor time any more.

    Raises
    ------
    WorkerFailedError
        If they are still busy after five seconds: a measurement beside them would be worthless.
    """
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while time.perf_counter() < deadline:
        before = total_cpu_seconds(group)
        time.sleep(_QUIET_WINDOW_SECONDS)
        after = total_cpu_seconds(group)
        if before is None or after is None:
            time.sleep(0.3)  # no way to look: wait for longer than any known pool spins
            return
        if after - before < _QUIET_SHARE * _QUIET_WINDOW_SECONDS:
            return
    names = ", ".join(worker.implementation.name for worker in group)
    raise WorkerFailedError(f"still busy {_PATIENCE_SECONDS:.0f} s after their last answer: {names}")
