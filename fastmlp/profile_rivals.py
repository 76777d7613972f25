"""One network measured in rounds: fastmlp with every number of threads, and the NumPy baseline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fastmlp.baseline import Baseline, train_baseline
from fastmlp.network import Network
from fastmlp.profile_point import Point, training_flops
from fastmlp.training import train

# How long one measurement takes, about: long enough for the clock, short enough for several rounds.
TRAINING_SECONDS = 0.3
PREDICTION_SECONDS = 0.1
BASELINE_SECONDS = 0.2

# The idle threads of NumPy's BLAS spin for about 0.1 s after a product: whoever comes next must not suffer.
PAUSE_SECONDS = 0.2

# One measurement is an epoch at least, so an epoch may not take longer than this: it gets fewer samples.
_LONGEST_EPOCH = 1.0

# Nothing is to be learnt here, only timed: a rate at which no network diverges.
_LEARNING_RATE = 0.01


class Rivals:
    """One network: fastmlp with every number of threads, and NumPy.

    Parameters
    ----------
    network : Network
        Trained a little, to warm up.
    X : ndarray of shape (n_samples, n_features)
        Raw samples, bytes or in the network's dtype.
    y : ndarray of shape (n_samples,)
    peaks : mapping of int to float
        Measured peak in GFLOP/s of every number of threads.
    batch_size : int

    Attributes
    ----------
    points : list of Point
        One per number of threads.
    """

    def __init__(
        self,
        network: Network,
        X: NDArray[Any],
        y: NDArray[Any],
        peaks: Mapping[int, float],
        batch_size: int,
    ) -> None:
        self.network, self.X, self.y, self.batch_size = network, X, y, batch_size
        baseline: list[float] = []
        self.points = [Point(network.layers, count, peak, baseline=baseline) for count, peak in peaks.items()]
        self._choose_repeats()

    def _choose_repeats(self) -> None:
        """Warm up, and find out how much to do so that a measurement takes as long as it should."""
        fastest = self.points[-1]
        guess = 0.5e9 * fastest.peak_gflops / training_flops(fastest.layers)
        n = self._limited(guess * 0.05)
        # on the network itself, which so takes the input path that its predictions will use
        rate, *_ = self._train(self.network, fastest.threads, n, 1)
        self.n = self._limited(rate * _LONGEST_EPOCH)
        self.epochs = max(1, round(TRAINING_SECONDS * rate / self.n))
        rate = self._predict(fastest.threads, 1)
        self.predictions = max(1, round(PREDICTION_SECONDS * rate / self.n))
        n = self._limited(0)
        samples = BASELINE_SECONDS / self._baseline_seconds(n, 1) * n
        self.n_baseline = self._limited(samples)
        self.baseline_epochs = max(1, round(samples / self.n_baseline))
        time.sleep(PAUSE_SECONDS)

    def _limited(self, samples: float) -> int:
        """Limit a number of samples to those that there are: whole batches, four at least."""
        batch = self.batch_size
        return min(len(self.X), max(4, int(samples) // batch) * batch)

    def measure(self, point: Point) -> None:
        """Train and predict with as many threads as the point says."""
        rate, phases, point.input_path = self._train(self.network.copy(), point.threads, self.n, self.epochs)
        point.training.append(rate)
        point.phases.append(phases)
        point.prediction.append(self._predict(point.threads, self.predictions))

    def measure_baseline(self) -> None:
        """Train the NumPy twin on some of the samples."""
        seconds = self._baseline_seconds(self.n_baseline, self.baseline_epochs)
        self.points[0].baseline.append(self.n_baseline * self.baseline_epochs / seconds)
        time.sleep(PAUSE_SECONDS)

    def _train(self, network: Network, threads: int, n: int, epochs: int) -> tuple[float, dict[str, float], str]:
        """Return samples per second, seconds per phase of a batch, and the input path."""
        history = train(
            network, self.X[:n], self.y[:n], epochs=epochs, batch_size=self.batch_size,
            learning_rate=_LEARNING_RATE, threads=threads,
        )  # fmt: skip
        steps = len(history.batch_loss)
        phases = {name: seconds / steps for name, seconds in history.phases.items()}
        return history.samples_per_second, phases, history.input_path

    def _predict(self, threads: int, repeats: int) -> float:
        samples = self.X[: self.n]
        self.network.predict_proba(samples[:1], threads=threads)
        started = time.perf_counter()
        for _ in range(repeats):
            self.network.predict_proba(samples, threads=threads)
        return repeats * len(samples) / (time.perf_counter() - started)

    def _baseline_seconds(self, n: int, epochs: int) -> float:
        """Return the seconds that NumPy trains; the samples are standardised before."""
        twin = _Standardised.of(self.network)
        X = Baseline.standardise(twin, self.X[:n])
        started = time.perf_counter()
        train_baseline(
            twin, X, self.y[:n], epochs=epochs, batch_size=self.batch_size,
            learning_rate=_LEARNING_RATE,
        )  # fmt: skip
        return time.perf_counter() - started


class _Standardised(Baseline):
    """The twin on samples that were standardised before the clock started."""

    def standardise(self, X: NDArray[Any]) -> NDArray[Any]:
        return X
