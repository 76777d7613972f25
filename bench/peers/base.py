"""What every implementation can do: take weights, train, evaluate, hand back weights."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.workload import Parameters, Workload, initial_parameters, standardised_data
from fastmlp.shuffling import epoch_order


class Measured(NamedTuple):
    """A network's quality on one part of the data, and how long it took to find out."""

    loss: float
    accuracy: float
    seconds: float


class Peer(ABC):
    """One implementation, set up for one workload.

    Parameters
    ----------
    workload : Workload
        Network, settings and data.
    dtype : {"float32", "float64"}
        Of weights and data.
    threads : int
        Threads it may use. The worker process has also set the environment variables of the thread pools.

    Attributes
    ----------
    compile_seconds : float
        What compiling cost, apart from all training time; 0 for implementations that compile nothing.
    """

    def __init__(self, workload: Workload, dtype: str, threads: int) -> None:
        self.workload = workload
        self.dtype = dtype
        self.threads = threads
        self.compile_seconds = 0.0
        self.setup()
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Go back to initial weights, the same for everyone: those of the workload, or of a seed."""
        workload = self.workload if seed is None else replace(self.workload, seed=seed)
        self.set_parameters(initial_parameters(workload, self.dtype))

    def train(self, epochs: int, seed: int) -> float:
        """Train on from the present weights and return the seconds that it took.

        The order of the samples comes from `fastmlp.shuffling`, so it is the same for every implementation.
        Peers get it for free, outside the clock; fastmlp and the NumPy twin draw it themselves, inside:
        the twin, in plain Python, in two hundredths of its time at 784-64-10, batch 32.
        """
        workload = self.workload
        rates = learning_rates(workload, epochs * workload.steps_per_epoch).astype(self.dtype)
        seconds = 0.0
        for epoch in range(epochs):
            order = epoch_order(workload.n_train, seed, epoch)[: workload.samples_per_epoch]
            prepared = self.prepare(order.astype(np.int64))
            first = epoch * workload.steps_per_epoch
            start = time.perf_counter()
            self.train_epoch(prepared, rates[first : first + workload.steps_per_epoch])
            seconds += time.perf_counter() - start
        return seconds

    def evaluate(self, part: str) -> Measured:
        """Return mean cross-entropy and accuracy over the part "train" or "test", and the seconds it took."""
        start = time.perf_counter()
        loss, accuracy = self.loss_and_accuracy(part)
        return Measured(loss, accuracy, time.perf_counter() - start)

    @abstractmethod
    def setup(self) -> None:
        """Bring the data to where training wants them, and compile."""

    @abstractmethod
    def set_parameters(self, parameters: Parameters) -> None:
        """Train on from these weights; arrays are copied."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the present weights and biases as NumPy arrays."""

    def prepare(self, order: NDArray[np.int64]) -> Any:
        """Bring an epoch's order into the form that `train_epoch` takes, outside the clock."""
        return order

    def train_epoch(self, prepared: Any, rates: NDArray[Any]) -> None:
        """Train one epoch, a learning rate per batch, and return when it is really done."""
        raise NotImplementedError("an adapter gives either this or a `train` of its own")

    @abstractmethod
    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Return mean cross-entropy and accuracy over the part "train" or "test"."""


def learning_rates(workload: Workload, steps: int) -> NDArray[np.float64]:
    """Return the learning rate of every step of a run."""
    base = workload.learning_rate
    if workload.schedule == "constant":
        return np.full(steps, base)
    if workload.schedule == "linear":
        return base * (1.0 - np.arange(steps) / steps)
    raise ValueError(f"schedule: the peers know 'constant' and 'linear' (got {workload.schedule!r})")


def training_settings(workload: Workload) -> dict[str, Any]:
    """Return the keywords that `fastmlp.train` and the NumPy twin share."""
    return {
        "batch_size": workload.batch_size,
        "learning_rate": workload.learning_rate,
        "schedule": workload.schedule,
        "momentum": workload.momentum,
        "nesterov": workload.nesterov,
        "drop_last": True,
    }


def require_plain_sgd(workload: Workload, library: str) -> None:
    """Refuse settings that an adapter does not implement, rather than time something else."""
    if workload.momentum or workload.nesterov or workload.activation != "relu":
        raise ValueError(f"{library}: this adapter trains ReLU networks with plain SGD only")


def standardised(peer: Peer) -> dict[str, tuple[NDArray[Any], NDArray[np.int64]]]:
    """Return both parts of a peer's workload, standardised, in its dtype."""
    data = standardised_data(peer.workload, peer.dtype)
    return {part: data.part(part) for part in ("train", "test")}
