"""Everything that the report is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastmlp.report.experiments import TASKS, Experiment
from fastmlp.report.judgement import Verdict
from fastmlp.report.markup import Markup, tag
from fastmlp.report.plan import Plan
from fastmlp.report.runner import Results
from fastmlp.report.speed import SpeedUp
from fastmlp.report.training_record import TrainingRecord

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.network import Network


@dataclass(frozen=True)
class Findings:
    """What was asked, found and concluded.

    Parameters
    ----------
    plan : Plan
    dataset : Dataset
    results : Results
    verdicts : sequence of Verdict
        One per claim.
    networks : mapping of str to Network
        The trained networks of the first seed that are shown: the default one and the best.
    speed_up : SpeedUp or None
        fastmlp and NumPy compared, if that was asked for.
    drawings : dict of str to str
        SVG of the figures by name; filled as they are drawn.
    """

    plan: Plan
    dataset: Dataset
    results: Results
    verdicts: Sequence[Verdict]
    networks: Mapping[str, Network]
    speed_up: SpeedUp | None = None
    drawings: dict[str, str] = field(default_factory=dict)

    def sizes(self, experiment: Experiment) -> tuple[int, ...]:
        """Units of all layers."""
        return experiment.sizes(self.dataset.X_train.shape[1], self.dataset.n_classes)

    def of_task(self, task: str) -> dict[str, Experiment]:
        """The experiments that belong to a task."""
        return {name: each for name, each in self.plan.experiments.items() if task in each.tasks}

    @property
    def sections(self) -> list[str]:
        """Tasks that have a section: those with an experiment of their own, and one for each that would have none.

        The second task always has one: it is also about the pixels and about the gradients of all networks.
        """
        experiments = self.plan.experiments.values()
        tasks = {"task2", *(each.tasks[0] for each in experiments if len(each.tasks) == 1)}
        for each in experiments:
            if not tasks.intersection(each.tasks):
                tasks.add(each.tasks[0])
        return [task for task in TASKS if task in tasks]

    def home(self, experiment: Experiment) -> str:
        """The task in whose section the figures of an experiment are: the first that has one."""
        return next(task for task in experiment.tasks if task in self.sections)

    def records(self, name: str) -> Sequence[TrainingRecord]:
        """The trainings of an experiment, one per seed."""
        return self.results.trainings[name]

    @property
    def is_original(self) -> bool:
        """Whether the data are those of the assignment, so that its numbers can be compared with."""
        return self.plan.data == "mnist" and len(self.dataset.X_train) == 20_000

    def drawing(self, name: str, description: str, caption: str | None = None) -> Markup:
        """One of the figures, as part of the page."""
        from fastmlp.report.embedding import inline_svg

        text = None if caption is None else tag("figcaption", caption)
        return tag("figure", inline_svg(self.drawings[name], name, description), text)


def best_experiment(trainings: Mapping[str, Sequence[TrainingRecord]]) -> str | None:
    """The experiment with the lowest best validation loss, in the mean over its seeds; None if all diverged."""
    means = {
        name: sum(record.best_validation_loss for record in records) / len(records)
        for name, records in trainings.items()
        if all(record.best is not None and record.status != "diverged" for record in records)
    }
    return min(means, key=lambda name: means[name]) if means else None
