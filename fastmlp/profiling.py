"""How fast the machine could be, and how fast networks of several widths are on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import checks
from fastmlp.network import Network
from fastmlp.profile_point import Point
from fastmlp.profile_rivals import (
    BASELINE_SECONDS,
    PAUSE_SECONDS,
    PREDICTION_SECONDS,
    TRAINING_SECONDS,
    Rivals,
)
from fastmlp.workers import Workers

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset

_PEAK_REPEATS = 5


def peak_gflops(dtype: str = "float32", threads: int = 1, *, seconds: float = 0.2) -> float:
    """Measure the peak of a loop of multiply-adds on registers, the best of several runs.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int, default 1
        Threads that run the loop at the same time.
    seconds : float, default 0.2
        About how long to measure; compiling comes on top.

    Returns
    -------
    float
        10^9 operations a second over all threads; a multiply-add counts as two.

    Raises
    ------
    RuntimeError
        If the system does not give us so many threads.
    """
    from fastmlp.kernels.peak import CHAINS, multiply_add_chains
    from fastmlp.kernels.vector import REGISTER_BYTES

    threads = checks.check_whole_number("threads", threads, 1, 4096)
    number = np.dtype(checks.check_choice("dtype", dtype, ("float32", "float64")))
    length = CHAINS * REGISTER_BYTES // number.itemsize
    constants = np.array([0.5, 0.5], number)
    starts = np.linspace(0.0, 1.0, length).astype(number)
    kernel, _ = multiply_add_chains.prepare(constants, starts, 1, starts)
    began, ended = np.zeros(threads), np.zeros(threads)

    def run(thread: int, steps: int) -> None:
        ends = np.empty_like(starts)
        began[thread] = time.perf_counter()
        kernel(constants, starts, steps, ends)
        ended[thread] = time.perf_counter()

    with Workers(threads) as workers:

        def elapsed(steps: int) -> float:
            calls: list[Callable[[], object]] = [partial(run, thread, steps) for thread in range(threads)]
            workers.run(calls, lambda: None, lambda: None)
            return float(ended.max() - began.min())

        elapsed(10_000)  # wakes the threads, and the wide units of the cores
        steps = max(1000, int(10_000 * seconds / _PEAK_REPEATS / elapsed(10_000)))
        shortest = min(elapsed(steps) for _ in range(_PEAK_REPEATS))
    return 2e-9 * length * steps * threads / shortest


@dataclass(frozen=True)
class ProfileProgress:
    """How far a profile is.

    Attributes
    ----------
    done, total : int
        Measurements made and to be made.
    remaining_seconds : float
        An estimate.
    doing : str
        What was measured last, such as "64 units, round 2 of 5".
    """

    done: int
    total: int
    remaining_seconds: float
    doing: str


class Profile:
    """Measures networks of several widths in rounds; what is measured can be read at any time.

    Parameters
    ----------
    dataset : Dataset
        Its training part is used, for prediction too.
    hidden : sequence of int
        Widths of the hidden layers.
    depth : int, default 1
        Number of hidden layers.
    threads : sequence of int, default (1,)
        Numbers of threads, each exact.
    batch_size : int, default 32
    dtype : {"float32", "float64"}
        Of the networks and of the NumPy baseline.
    rounds : int, default 5
        How often each measurement is repeated; every round measures all numbers of threads and the baseline.

    Attributes
    ----------
    points : list of Point
        One per width and number of threads, in the order of the arguments; complete after ``run``.
    peaks : dict of int to float
        Measured peak in GFLOP/s by number of threads.
    compile_seconds : float
        What compiling or loading the kernels took; part of no other number.

    Raises
    ------
    TypeError, ValueError
        For arguments outside these.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        hidden: Sequence[int],
        depth: int = 1,
        threads: Sequence[int] = (1,),
        batch_size: int = 32,
        dtype: str = "float32",
        rounds: int = 5,
    ) -> None:
        self.hidden = [checks.check_whole_number("hidden", width, 1, checks.MAX_UNITS) for width in hidden]
        counts = [checks.check_whole_number("threads", count, 1, 4096) for count in threads]
        self.threads = list(dict.fromkeys(counts))
        self.depth = checks.check_whole_number("depth", depth, 1, checks.MAX_LAYERS - 2)
        self.rounds = checks.check_whole_number("rounds", rounds, 1)
        self.batch_size = checks.check_whole_number("batch_size", batch_size, 1)
        self.dtype = checks.check_choice("dtype", dtype, ("float32", "float64"))
        self.dataset = dataset
        n_features = dataset.X_train.shape[1]
        self.X = checks.check_samples(dataset.X_train, n_features, np.dtype(self.dtype))
        self.points: list[Point] = []
        self.peaks: dict[int, float] = {}
        self.compile_seconds = 0.0
        self._started = 0.0
        self._done = 0

    @property
    def expected_seconds(self) -> float:
        """About how long ``run`` will take, without compiling."""
        one_round = len(self.threads) * (TRAINING_SECONDS + PREDICTION_SECONDS)
        one_round += BASELINE_SECONDS + PAUSE_SECONDS
        rounds = self.rounds + 0.5  # with the warm-up
        return len(self.hidden) * rounds * one_round

    def prepare(self) -> None:
        """Compile or load all kernels, and measure the peaks."""
        from fastmlp import engine

        started = time.perf_counter()
        engine.compile_kernels(np.dtype(self.dtype), self.X.dtype)
        peak_gflops(self.dtype, 1, seconds=0.0)
        self.compile_seconds = time.perf_counter() - started
        self.peaks = {count: peak_gflops(self.dtype, count) for count in self.threads}

    def run(self, progress: Callable[[ProfileProgress], None] | None = None) -> None:
        """Measure everything.

        Parameters
        ----------
        progress : callable, optional
            Called after each measurement.

        Raises
        ------
        DivergedError
            If the weights became infinite.
        KeyboardInterrupt
            On Ctrl-C; ``points`` holds what was measured.
        """
        if not self.peaks:
            self.prepare()
        self._started, self._done = time.perf_counter(), 0
        for width in self.hidden:
            rivals = self._rivals(width)
            self.points += rivals.points
            for number in range(self.rounds):
                for point in rivals.points:
                    rivals.measure(point)
                    self._report(progress, width, number)
                rivals.measure_baseline()
                self._report(progress, width, number)

    def _rivals(self, width: int) -> Rivals:
        dataset = self.dataset
        layers = (self.X.shape[1], *[width] * self.depth, dataset.n_classes)
        network = Network(layers, dtype=self.dtype, mean=dataset.mean, std=dataset.std)
        return Rivals(network, self.X, dataset.y_train, self.peaks, self.batch_size)

    def _report(self, progress: Callable[[ProfileProgress], None] | None, width: int, number: int) -> None:
        self._done += 1
        if progress is None:
            return
        total = len(self.hidden) * self.rounds * (len(self.threads) + 1)
        spent = time.perf_counter() - self._started
        to_come = 1.0 - self._done / total
        # at first as was expected, later as was measured
        whole = to_come * self.expected_seconds + (1.0 - to_come) * spent * total / self._done
        remaining = to_come * whole
        doing = f"{width:,} units, round {number + 1} of {self.rounds}"
        progress(ProfileProgress(self._done, total, remaining, doing))
