"""What is seen of ``fastmlp reproduce`` while it runs: how far the whole is, and each training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastmlp.cli.base import Preferences
from fastmlp.cli.live import is_terminal, rich_live
from fastmlp.cli.output import note, percent, printable, seconds
from fastmlp.report.jobs import Job

if TYPE_CHECKING:
    from fastmlp.training import Progress

_PLAIN_SECONDS = 5.0  # between lines where nothing can be overwritten, such as a log file
_LIVE_SECONDS = 0.1
_LEAST_FRACTION = 0.01  # of the work, before the time that is left can be guessed from it


class ReproductionDisplay:
    """Shows progress on stderr; a context manager, and an observer of `fastmlp.report.runner`.

    Parameters
    ----------
    preferences : Preferences
        The user's wish about colour.
    check : callable
        Called at each report; raises KeyboardInterrupt if the user wants to stop.
    quiet : bool, default False
        Show nothing.
    """

    def __init__(self, preferences: Preferences, check: Callable[[], None], *, quiet: bool = False) -> None:
        self._check, self._quiet = check, quiet
        self._live: Any = rich_live(preferences) if not quiet and is_terminal() else None
        self._running: dict[Job, Progress | None] = {}
        self._work = self._work_done = 0
        self._jobs = self._before = self._done = 0
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> ReproductionDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def progress(self) -> tuple[int, int]:
        """How many jobs are done, and how many there are."""
        return self._before + self._done, self._before + self._jobs

    def tell(self, text: str) -> None:
        """Say something on a line of its own, above the live lines."""
        if self._quiet:
            return
        if self._live is not None and self._live.is_started:
            self._live.console.print(printable(text), markup=False)
        else:
            note(text)

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Remember what there is to do."""
        self._jobs, self._before = len(jobs), done
        self._work = sum(job.cost for job in jobs)
        self._started = time.monotonic()
        if done:
            self.tell(f"{done} of {done + len(jobs)} results are there already")
        if self._live is not None and jobs:
            self._live.start()

    def started(self, job: Job) -> None:
        """Take a job in."""
        self._running[job] = None
        self._show()

    def progressed(self, job: Job, progress: Progress) -> None:
        """Remember where a training is."""
        self._check()
        self._running[job] = progress
        self._show()

    def finished(self, job: Job) -> None:
        """Take a job out."""
        self._check()
        self._running.pop(job, None)
        self._done += 1
        self._work_done += job.cost
        self._show()

    def failed(self, job: Job, reason: str) -> None:
        """Say at once what went wrong; the other jobs go on."""
        self._running.pop(job, None)
        self._work_done += job.cost
        self.tell(f"{job.name} failed: {reason}")

    def _show(self) -> None:
        now = time.monotonic()
        if self._quiet or now - self._shown < (_PLAIN_SECONDS if self._live is None else _LIVE_SECONDS):
            return
        self._shown = now
        if self._live is None:
            note(f"{self._whole()}; now {', '.join(map(describe, self._running.items())) or 'nothing'}")
        else:
            self._live.update(self._table(), refresh=True)

    def _fraction(self) -> float:
        """How much of the work is done, by its estimated cost."""
        partly = sum(
            job.cost * progress.step / max(progress.steps, 1)
            for job, progress in self._running.items()
            if progress is not None
        )
        return min((self._work_done + partly) / max(self._work, 1), 1.0)

    def _whole(self) -> str:
        done, jobs = self.progress
        fraction, elapsed = self._fraction(), time.monotonic() - self._started
        if fraction < _LEAST_FRACTION or elapsed < 2:
            return f"{done}/{jobs} done"
        return f"{done}/{jobs} done, {seconds(elapsed / fraction - elapsed)} left"

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_row("all experiments", ProgressBar(total=1.0, completed=self._fraction(), width=24), self._whole())
        for job, progress in self._running.items():
            share = progress.step / max(progress.steps, 1) if progress is not None else 0.0
            bar = ProgressBar(total=1.0, completed=share, width=24)
            table.add_row(job.name, bar if job.kind == "training" else "", printable(_where(progress)))
        return table


def describe(running: tuple[Job, Progress | None]) -> str:
    """Return "relu-he-seed0 (epoch 3/50, validation accuracy 95.10 %)"."""
    job, progress = running
    where = _where(progress)
    return f"{job.name} ({where})" if where else job.name


def _where(progress: Progress | None) -> str:
    if progress is None:
        return ""
    if progress.message:
        return f"{progress.message} (once per version and machine)"
    text = f"epoch {progress.epoch}/{progress.epochs}"
    if progress.validation_accuracy is not None:
        text += f", validation accuracy {percent(progress.validation_accuracy)}"
    return text
