"""fastmlp itself, given the raw data: standardising and shuffling are inside its clock."""

from __future__ import annotations

import time

from bench.peers.base import Peer, training_settings
from bench.workload import Parameters, raw_data
from fastmlp import History, Network, train
from fastmlp.system import usable_cpus


class Fastmlp(Peer):
    """The public functions `fastmlp.train` and `Network.evaluate`, nothing below them."""

    def setup(self) -> None:
        """Load the raw data and compile by training one batch."""
        workload, self.data = self.workload, raw_data(self.workload)
        self.network = Network(
            workload.layers, workload.activation, dtype=self.dtype, mean=self.data.mean, std=self.data.std
        )
        # With all threads, fastmlp is asked as users ask it: it takes as many as help.
        self.limit = None if self.threads == usable_cpus() > 1 else self.threads
        self.compile_seconds = self._train(1, 0, samples=workload.batch_size).compile_seconds

    def _train(self, epochs: int, seed: int, samples: int | None = None) -> History:
        X, y = self.data.X_train[:samples], self.data.y_train[:samples]
        settings = training_settings(self.workload)
        return train(self.network, X, y, epochs=epochs, seed=seed, threads=self.limit, **settings)

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
        history = self._train(epochs, seed)
        seconds = time.perf_counter() - start
        self.input_path = history.input_path
        return seconds

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate through the public method."""
        return self.network.evaluate(*self.data.part(part), threads=self.limit)
