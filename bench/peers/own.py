"""fastmlp itself, given the raw data: standardising and shuffling are inside its clock."""

from __future__ import annotations

import time
from typing import Any

from numpy.typing import NDArray

from bench.peers.base import Peer
from bench.peers.numpy_twin import training_settings
from bench.workload import Parameters, raw_data
from fastmlp import Network, train


class Fastmlp(Peer):
    """The public functions `fastmlp.train` and `Network.evaluate`, nothing below them."""

    def setup(self) -> None:
        """Load the raw data and compile by training one batch."""
        self.data = raw_data(self.workload)
        self.network = Network(
            self.workload.layers,
            activation=self.workload.activation,
            dtype=self.dtype,
            seed=self.workload.seed,
            mean=self.data.mean,
            std=self.data.std,
        )
        rows = slice(0, self.workload.batch_size)
        history = train(
            self.network,
            self.data.X_train[rows],
            self.data.y_train[rows],
            epochs=1,
            threads=self.threads,
            **training_settings(self),
        )
        self.compile_seconds = history.compile_seconds
        self.input_path = ""

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights into the network."""
        self.network.weights = [W for W, _ in parameters]
        self.network.biases = [b for _, b in parameters]

    def parameters(self) -> Parameters:
        """Return copies of the network's weights."""
        return [(W.copy(), b.copy()) for W, b in zip(self.network.weights, self.network.biases, strict=True)]

    def train(self, epochs: int, seed: int) -> float:
        """Train in one call, timed from outside: all preparation that the call does counts."""
        start = time.perf_counter()
        history = train(
            self.network,
            self.data.X_train,
            self.data.y_train,
            epochs=epochs,
            seed=seed,
            threads=self.threads,
            **training_settings(self),
        )
        seconds = time.perf_counter() - start
        self.input_path = history.input_path
        return seconds

    def train_epoch(self, prepared: Any, rates: NDArray[Any]) -> None:
        """Not used: `train` runs all epochs in one call."""
        raise NotImplementedError

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate through the public method."""
        X, y = self.data.part(part)
        loss, accuracy = self.network.evaluate(X, y, threads=self.threads)
        return loss, accuracy
