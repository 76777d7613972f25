"""Several pieces of work at a time, each worker a process of its own.

Small networks gain more from one thread per training and a training per core than from all cores in one training. The
processes are spawned, not forked: a forked child could not start the threads of the kernels. A worker that dies costs
its current piece of work only.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from fastmlp.report.jobs import Job, run_job
from fastmlp.report.plan import Observer, Plan
from fastmlp.report.store import Store


def run_in_processes(jobs: Sequence[Job], plan: Plan, fingerprint: str, observer: Observer) -> None:
    """Do the work in ``plan.workers`` processes; results go to files, everything else to the observer.

    If this is interrupted the workers are ended at once: result files are complete or absent.
    """
    waiting = deque(jobs)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < plan.workers:
                workers.append(_Worker(plan, fingerprint))
                _give(workers[-1], waiting, observer)
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                if not _listen(worker, waiting, observer):
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.connection.close()


class _Worker:
    """A process and the job it has."""

    def __init__(self, plan: Plan, fingerprint: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, plan, fingerprint), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()
        self.job: Job | None = None

    def cause_of_death(self) -> str:
        """Why the process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the process ended unexpectedly (exit code {code})"
        name = signal.Signals(-code).name if -code in {int(known) for known in signal.Signals} else str(-code)
        return f"the process was killed by {name}{', maybe out of memory' if name == 'SIGKILL' else ''}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a process that is started not notice Ctrl-C, which goes to all processes of a terminal.

    This one gets it as soon as the other is started.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give(worker: _Worker, waiting: deque[Job], observer: Observer) -> None:
    """Give a worker its next job, or let it go home."""
    worker.job = waiting.popleft() if waiting else None
    with contextlib.suppress(OSError):  # it has died: `_listen` will notice
        worker.connection.send(worker.job)
    if worker.job is not None:
        observer.started(worker.job)


def _listen(worker: _Worker, waiting: deque[Job], observer: Observer) -> bool:
    """Take one message of a worker; returns False if it was the last."""
    try:
        kind, content = worker.connection.recv()
    except (EOFError, OSError):
        if worker.job is not None:
            observer.failed(worker.job, worker.cause_of_death())
        worker.process.join()
        worker.connection.close()
        return False
    assert worker.job is not None
    if kind == "progress":
        observer.progressed(worker.job, content)
        return True
    if kind == "done":
        observer.finished(worker.job)
    else:
        observer.failed(worker.job, content)
    _give(worker, waiting, observer)
    return True


def _work(connection: Connection[Any, Any], plan: Plan, fingerprint: str) -> None:
    """Do jobs until there are no more: the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the parent decides
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while (job := connection.recv()) is not None:
            reason = _attempt(job, plan, fingerprint, connection)
            connection.send(("done", None) if reason is None else ("failed", reason))


_dataset: Any = None


def _attempt(job: Job, plan: Plan, fingerprint: str, connection: Connection[Any, Any]) -> str | None:
    """Do a job and save its result; returns the reason if that fails."""
    global _dataset

    try:
        if _dataset is None:
            from fastmlp.datasets import load_dataset

            _dataset = load_dataset(plan.data, n_train=plan.protocol.n_train)
        result, network = run_job(
            job,
            plan.protocol,
            _dataset,
            plan.threads,
            lambda progress: connection.send(("progress", progress)),
        )
        Store(plan.runs, plan.protocol, fingerprint).save(job, result, network)
    except (BrokenPipeError, EOFError):
        raise
    except Exception as error:  # whatever it is, the other jobs go on
        return describe(error)
    return None


def describe(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, OSError)) and text else f"{type(error).__name__}: {text}"
