"""Running what a plan asks for, skipping what is done, and collecting the results."""

from __future__ import annotations

import functools
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.errors import FastmlpError
from fastmlp.locking import FileLock, InUseError
from fastmlp.memory import human_bytes
from fastmlp.report.jobs import Job, needed_jobs, run_job
from fastmlp.report.plan import RUNS, Observer, Plan
from fastmlp.report.pool import describe, run_in_processes
from fastmlp.report.store import Store
from fastmlp.report.training_record import TrainingRecord
from fastmlp.runs import RunFolderError, write_json

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset

_MARK, _LOCK = "about.json", ".lock"
_BYTES_PER_JOB, _BYTES_OF_REPORT = 1 << 20, 16 << 20


class IncompleteError(FastmlpError):
    """Some pieces of work failed; the others are done and kept."""


@dataclass(frozen=True)
class Results:
    """Everything that was found out.

    Parameters
    ----------
    trainings : dict of str to list of TrainingRecord
        For each experiment one per seed.
    gradients : dict of str to dict
        For some experiments what `fastmlp.report.gradients` says; others have the same gradients.
    seconds : float or None
        What all the work took; None if some of it was done in an earlier run.
    """

    trainings: dict[str, list[TrainingRecord]]
    gradients: dict[str, dict[str, Any]]
    seconds: float | None = None


def claim_folder(folder: Path, *, force: bool, resume: bool) -> FileLock:
    """Make sure before all work that a report can be written, and by nobody else at the same time.

    Parameters
    ----------
    folder : Path
        Where the report is to be; made if it does not exist.
    force : bool
        Accept a folder with files in it.
    resume : bool
        Accept a folder with an earlier run of this command in it.

    Returns
    -------
    FileLock
        Held; to be released when the report is written.

    Raises
    ------
    RunFolderError
        If the folder holds files, cannot be made or written to, or another process works on it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not force:
            if not resume:
                raise RunFolderError(f"{folder}: exists and is not empty")
            if not (folder / RUNS / _MARK).is_file() and not _is_hardly_begun(folder):
                raise RunFolderError(f"{folder}: holds files, but no run of this command to resume")
        runs = folder / RUNS
        runs.mkdir(exist_ok=True)
        lock = FileLock(runs / _LOCK)
        lock.acquire()
        try:
            probe = folder / f".{os.urandom(4).hex()}.tmp"
            probe.touch()
            probe.unlink()
            write_json(runs / _MARK, {"command": "fastmlp reproduce"})
        except BaseException:
            lock.release()
            raise
        return lock
    except InUseError as error:
        raise RunFolderError(str(error)) from error
    except OSError as error:
        is_file = isinstance(error, (NotADirectoryError, FileExistsError))
        reason = "is not a folder" if is_file else (error.strerror or str(error)).lower()
        raise RunFolderError(f"{error.filename or folder}: {reason}") from error


def _is_hardly_begun(folder: Path) -> bool:
    """Whether a folder holds nothing but what a run leaves that is killed before it has left its mark."""
    paths = [path for path in (*folder.iterdir(), *(folder / RUNS).glob("*")) if path != folder / RUNS]
    return all(path.name == _LOCK or (path.name.startswith(".") and path.suffix == ".tmp") for path in paths)


def run(plan: Plan, dataset: Dataset, observer: Observer, *, resume: bool) -> Results:
    """Do all work of a plan.

    Parameters
    ----------
    plan : Plan
        What to do; its folder was claimed.
    dataset : Dataset
        The plan's data, loaded.
    observer : Observer
        Is told how it goes.
    resume : bool
        Keep results that an earlier run left in the folder and that answer the same questions.

    Returns
    -------
    Results

    Raises
    ------
    IncompleteError
        If some of the work failed.
    FastmlpError
        If the disk has no room for the results.
    KeyboardInterrupt
        If it was interrupted; what is done is kept.
    """
    store = Store(plan.runs, plan.protocol, dataset.fingerprint)
    store.remove_remains()
    jobs = needed_jobs(plan.experiments, plan.seeds)
    left = [job for job in jobs if not resume or _result(store, job) is None]
    _check_space(plan.folder, len(left))
    observer.planned(left, len(jobs) - len(left))
    started = time.perf_counter()
    failures = _Failures(observer)
    try:
        if plan.workers > 1 and len(left) > 1:
            run_in_processes(left, plan, dataset.fingerprint, failures)
        else:
            _run_here(left, plan, dataset, store, failures)
    finally:
        store.remove_remains()
    if failures.reasons:
        job, reason = failures.reasons[0]
        count = f"{len(failures.reasons)} of {len(left)} pieces of work failed"
        raise IncompleteError(f"{count}; the first: {job.name}: {reason}. The others are kept: try again with --resume")
    seconds = time.perf_counter() - started if len(left) == len(jobs) else None
    return _collect(store, jobs, plan, seconds)


def _result(store: Store, job: Job) -> TrainingRecord | dict[str, Any] | None:
    """What a job found; None if it has to be done (again)."""
    document = store.load(job)
    if document is None or job.kind == "gradients":
        return document
    try:
        return TrainingRecord.from_dict(document)
    except (KeyError, TypeError, ValueError):
        return None


def _run_here(jobs: list[Job], plan: Plan, dataset: Dataset, store: Store, observer: Observer) -> None:
    """Do the work in this process, one after the other."""
    for job in jobs:
        observer.started(job)
        progress = functools.partial(observer.progressed, job)
        try:
            result, network = run_job(job, plan.protocol, dataset, plan.threads, progress)
            store.save(job, result, network)
        except Exception as error:  # whatever it is, the other jobs go on
            observer.failed(job, describe(error))
        else:
            observer.finished(job)


def _collect(store: Store, jobs: list[Job], plan: Plan, seconds: float | None) -> Results:
    """Read all results."""
    trainings: dict[str, list[TrainingRecord]] = {name: [] for name in plan.experiments}
    gradients: dict[str, dict[str, Any]] = {}
    for job in sorted(jobs, key=lambda job: job.seed):
        result = _result(store, job)
        if result is None:
            raise IncompleteError(f"{job.name}: the result file was removed or damaged; try again with --resume")
        if isinstance(result, TrainingRecord):
            trainings[job.experiment.name].append(result)
        else:
            gradients[job.experiment.name] = result
    return Results(trainings, {name: gradients[name] for name in plan.experiments if name in gradients}, seconds)


def _check_space(folder: Path, jobs: int) -> None:
    needed = jobs * _BYTES_PER_JOB + _BYTES_OF_REPORT
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FastmlpError(f"{folder}: disk full: needs {human_bytes(needed)}, {human_bytes(free)} are free")


class _Failures:
    """Passes everything on to an observer and remembers what failed."""

    def __init__(self, observer: Observer) -> None:
        self.planned, self.started, self.progressed = observer.planned, observer.started, observer.progressed
        self.finished = observer.finished
        self.reasons: list[tuple[Job, str]] = []
        self._failed = observer.failed

    def failed(self, job: Job, reason: str) -> None:
        """Remember it."""
        self.reasons.append((job, reason))
        self._failed(job, reason)
