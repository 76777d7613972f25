"""Made-up results of ``fastmlp reproduce`` for the tests of what is concluded from them and drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastmlp import load_dataset
from fastmlp.datasets import Dataset
from fastmlp.report.experiments import EXPERIMENTS, Experiment, Protocol
from fastmlp.report.jobs import Job, needed_jobs, new_network
from fastmlp.report.plan import Plan
from fastmlp.report.runner import Results
from fastmlp.report.store import Store
from fastmlp.report.training_record import TrainingRecord, averages

STEPS_PER_EPOCH = 50


def record(
    experiment: str = "default",
    seed: int = 0,
    *,
    epochs: int = 6,
    status: Literal["finished", "stopped early", "diverged"] = "finished",
    decay: float = 0.02,
    **changes: Any,
) -> TrainingRecord:
    """Make a training whose validation loss falls exponentially, the faster the larger the decay."""
    random = np.random.default_rng([seed, len(experiment)])
    steps = epochs * STEPS_PER_EPOCH
    loss = 2.0 * np.exp(-decay * np.arange(steps)) + 0.1 + 0.01 * random.random(steps)
    mean, deviation = averages(loss)
    step = np.arange(10, steps + 1, 10)
    validation_loss = 2.0 * np.exp(-decay * step) + 0.15 + 0.01 * random.random(len(step))
    made = TrainingRecord(
        experiment=experiment,
        seed=seed,
        status=status,
        epochs=epochs,
        steps=steps,
        steps_per_epoch=STEPS_PER_EPOCH,
        n_parameters=50_890,
        loss_mean=mean,
        loss_deviation=deviation,
        step=step.astype(np.int64),
        validation_loss=validation_loss,
        validation_accuracy=1.0 - 0.2 * validation_loss,
        training_accuracy=1.0 - 0.1 * validation_loss,
        training_seconds=0.5,
        seconds=1.5,
        threads=1,
    )
    return dataclasses.replace(made, **changes)


def small_mnist() -> Dataset:
    """Load the smallest data set that the protocol can be run on."""
    return load_dataset("mnist", n_train=200)


def made_up_report(folder: Path, dataset: Dataset, **own: Experiment) -> tuple[Plan, Results]:
    """Make results for all experiments of the assignment, and store the networks that a report shows."""
    experiments = EXPERIMENTS | own
    plan = Plan(experiments, 2, Protocol(n_train=200, epochs=8), "mnist", folder, workers=2, threads=1)
    plan.runs.mkdir(parents=True)
    store = Store(plan.runs, plan.protocol, dataset.fingerprint)
    for experiment in experiments.values():
        job = Job("training", experiment)
        store.save(job, record(experiment.name).to_dict(), new_network(experiment, dataset, 0))
    trainings = {
        name: [
            record(name, 0, decay=0.01 + 0.002 * i, epochs=6, status="stopped early"),
            record(name, 1, decay=0.01 + 0.002 * i, epochs=8),
        ]
        for i, name in enumerate(experiments)
    }
    check = {
        "parameters": 50_890,
        "compared": 240,
        "worst": 2.5e-8,
        "tolerance": 1e-6,
        "passed": True,
        "original_worst": 2e-3,
        "original_passed": False,
    }
    checked = [job.experiment.name for job in needed_jobs(experiments, 1) if job.kind == "gradients"]
    return plan, Results(trainings, {name: dict(check) for name in experiments if name in checked}, 123.4)
