"""The pieces of work that the report needs: a training per experiment and seed, and gradient checks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fastmlp.errors import DivergedError
from fastmlp.report.experiments import Experiment, Protocol

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.network import Network
    from fastmlp.training import Progress


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Parameters
    ----------
    kind : {"training", "gradients"}
        What is to be done.
    experiment : Experiment
        With what.
    seed : int
        Of the initial weights and of the order of the samples.
    """

    kind: Literal["training", "gradients"]
    experiment: Experiment
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of its result file, without the ending."""
        ending = f"seed{self.seed}" if self.kind == "training" else "gradients"
        return f"{self.experiment.name}-{ending}"

    @property
    def keeps_network(self) -> bool:
        """Whether the trained network is kept: the report shows the weights of the first seed."""
        return self.kind == "training" and self.seed == 0

    @property
    def cost(self) -> int:
        """About how long it takes, to begin with the longest: products per sample, and the same again per layer."""
        sizes = self.experiment.sizes(784, 10)
        products = sum(a * b for a, b in itertools.pairwise(sizes))
        return (products + 50_000 * len(sizes)) * (1 if self.kind == "training" else 2)


def needed_jobs(experiments: Mapping[str, Experiment], seeds: int) -> list[Job]:
    """List all work for some experiments and seeds, the longest first.

    Gradients are checked once per initial network: those of experiments that only learn from it otherwise are the same.
    """
    jobs = [Job("training", experiment, seed) for experiment in experiments.values() for seed in range(seeds)]
    checked: dict[tuple[object, ...], Experiment] = {}
    for experiment in experiments.values():
        checked.setdefault(initial_network(experiment), experiment)
    jobs += [Job("gradients", experiment) for experiment in checked.values()]
    return sorted(jobs, key=lambda job: -job.cost)


def initial_network(experiment: Experiment) -> tuple[object, ...]:
    """Return what decides the network that an experiment begins with."""
    return experiment.layers, experiment.activation, experiment.init


def run_job(
    job: Job,
    protocol: Protocol,
    dataset: Dataset,
    threads: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[dict[str, Any], Network]:
    """Do a piece of work.

    Returns
    -------
    dict
        The result, in terms of JSON but for NumPy arrays.
    Network
        As it is afterwards.
    """
    if job.kind == "gradients":
        from fastmlp.report.gradients import compare_gradients

        return compare_gradients(job.experiment, dataset)
    return _run_training(job, protocol, dataset, threads, progress)


def new_network(experiment: Experiment, dataset: Dataset, seed: int, dtype: str = "float32") -> Network:
    """Make the network of an experiment with its initial weights."""
    from fastmlp.network import Network

    return Network(
        experiment.sizes(dataset.X_train.shape[1], dataset.n_classes),
        activation=experiment.activation,
        init=experiment.init,
        dtype=dtype,
        seed=seed,
        mean=dataset.mean,
        std=dataset.std,
    )


def _run_training(
    job: Job,
    protocol: Protocol,
    dataset: Dataset,
    threads: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[dict[str, Any], Network]:
    from fastmlp.report.training_record import TrainingRecord
    from fastmlp.training import train

    network = new_network(job.experiment, dataset, job.seed)
    started = time.perf_counter()
    diverged = False
    try:
        history = train(
            network,
            dataset.X_train,
            dataset.y_train,
            epochs=protocol.epochs,
            batch_size=protocol.batch_size,
            learning_rate=job.experiment.learning_rate,
            momentum=job.experiment.momentum,
            drop_last=True,
            seed=job.seed,
            validation=(dataset.X_test, dataset.y_test),
            validations_per_epoch=protocol.validations_per_epoch,
            patience=protocol.patience,
            threads=threads,
            progress=progress,
        )
    except DivergedError as error:
        history, diverged = error.history, True
    seconds = time.perf_counter() - started - history.compile_seconds
    record = TrainingRecord.of(
        job.experiment.name, job.seed, network.n_parameters, history, diverged=diverged, seconds=seconds
    )
    return record.to_dict(), network
