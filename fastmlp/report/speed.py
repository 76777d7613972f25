"""The default network trained by fastmlp and by its NumPy twin, one after the other on the same machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.report.experiments import EXPERIMENTS, Protocol
from fastmlp.report.jobs import new_network

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset


_UNDISTURBED = 0.9  # processor seconds per second: NumPy computes all the time; waiting threads of a BLAS do not count


@dataclass(frozen=True)
class SpeedUp:
    """What the comparison found.

    Parameters
    ----------
    samples : int
        That each of the two trained on, counted once per epoch.
    seconds, numpy_seconds : float
        Of the training steps; there are no validations, and compiling is not counted.
    accuracy, numpy_accuracy : float
        On the validation set afterwards, fractions.
    difference : float
        The largest difference of a batch's loss in the first epoch: both take the same steps in the same order.
    threads : int
        Threads that fastmlp was allowed; NumPy's products are left to its BLAS.
    share : float, default 1.0
        Processor seconds per second of the thread that runs NumPy: less than one if other programs were in the way.
    """

    samples: int
    seconds: float
    numpy_seconds: float
    accuracy: float
    numpy_accuracy: float
    difference: float
    threads: int
    share: float = 1.0

    @property
    def disturbed(self) -> bool:
        """Whether other programs kept the processor busy, so that the times say little."""
        return self.share < _UNDISTURBED

    @property
    def factor(self) -> float:
        """How many times faster fastmlp was."""
        return self.numpy_seconds / self.seconds


def compare_with_numpy(dataset: Dataset, protocol: Protocol) -> SpeedUp:
    """Train the default network with both, in float32, without validations.

    fastmlp goes first: the threads of NumPy's BLAS keep a core busy for a while after their last product.
    """
    from fastmlp.baseline import Baseline, train_baseline
    from fastmlp.training import train

    experiment = EXPERIMENTS["default"]
    network = new_network(experiment, dataset, seed=0)
    twin = Baseline.of(network)
    recipe = {
        "epochs": protocol.epochs,
        "batch_size": protocol.batch_size,
        "learning_rate": experiment.learning_rate,
        "momentum": experiment.momentum,
    }
    history = train(network, dataset.X_train, dataset.y_train, drop_last=True, seed=0, **recipe)  # type: ignore[arg-type]
    started, had = time.perf_counter(), time.thread_time()
    losses = train_baseline(twin, dataset.X_train, dataset.y_train, drop_last=True, seed=0, **recipe)  # type: ignore[arg-type]
    numpy_seconds = time.perf_counter() - started
    share = (time.thread_time() - had) / numpy_seconds
    first = slice(0, history.steps_per_epoch)
    return SpeedUp(
        samples=history.samples,
        seconds=history.training_seconds,
        numpy_seconds=numpy_seconds,
        accuracy=network.evaluate(dataset.X_test, dataset.y_test).accuracy,
        numpy_accuracy=twin.evaluate(dataset.X_test, dataset.y_test)[1],
        difference=float(np.abs(history.batch_loss[first] - np.array(losses)[first]).max()),
        threads=history.threads,
        share=share,
    )
