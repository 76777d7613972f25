"""What is to be run, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import fastmlp.report.experiments as table
from fastmlp.report.jobs import Job

if TYPE_CHECKING:
    from fastmlp.training import Progress

RUNS = "runs"


@dataclass(frozen=True)
class Plan:
    """A report that is to be made.

    Parameters
    ----------
    experiments : mapping of str to Experiment
        What to run.
    seeds : int
        How often each: seeds 0, 1, 2, ...
    protocol : Protocol
        What all trainings have in common.
    data : str
        As for `fastmlp.load_dataset`.
    folder : Path
        Where the report is to be.
    workers : int
        Trainings at a time.
    threads : int or None
        Threads of each; None: as many as help.
    """

    experiments: Mapping[str, table.Experiment]
    seeds: int
    protocol: table.Protocol
    data: str
    folder: Path
    workers: int = 1
    threads: int | None = None

    @property
    def runs(self) -> Path:
        """Where the result of each piece of work is kept."""
        return self.folder / RUNS


class Observer(Protocol):
    """Somebody who wants to know how the work goes."""

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """These jobs are left to do; so many were done before."""

    def started(self, job: Job) -> None:
        """A job began."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """A training is somewhere."""

    def finished(self, job: Job) -> None:
        """A result was written."""

    def failed(self, job: Job, reason: str) -> None:
        """A job ended without a result."""


class Nobody:
    """An observer who does not care."""

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Ignore it."""

    def started(self, job: Job) -> None:
        """Ignore it."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """Ignore it."""

    def finished(self, job: Job) -> None:
        """Ignore it."""

    def failed(self, job: Job, reason: str) -> None:
        """Ignore it."""
