"""Every implementation of the table: its weights against the NumPy twin's, and its throughput.

A bare `pytest` runs the checks on small networks and times nothing; `pytest --benchmark-only` times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench.implementations import BY_NAME, IMPLEMENTATIONS, Implementation
from bench.peers.base import Peer, learning_rates
from bench.peers.numpy_twin import NumpyTwin
from bench.processes import Worker
from bench.workload import CHECKED_EPOCHS, Parameters, Workload

SMALL = {
    "one hidden layer": Workload((50, 24, 10), 16, data="sparse", n_train=170, n_test=60),
    "odd sizes": Workload((37, 19, 33, 5), 7, data="normal", n_train=100, n_test=40),
    "linear": Workload((50, 10), 16, data="sparse", n_train=64, n_test=16),
}
WITH_MOMENTUM = Workload((50, 24, 10), 16, 0.05, "tanh", 0.9, True, "linear", data="sparse", n_train=170, n_test=60)
TIMED = {
    "784-64-10, batch 32": Workload((784, 64, 10), 32, minimum_accuracy=0.93),
    "784-512-512-10, batch 128": Workload((784, 512, 512, 10), 128, minimum_accuracy=0.93),
}
SEED = 3


# Compiled PyTorch takes minutes to set up, so it is checked when nightly tests are asked for.
_SLOW = (pytest.mark.nightly, pytest.mark.timeout(1800))
CHECKED = [pytest.param(each, id=each.name, marks=_SLOW if each.optional else ()) for each in IMPLEMENTATIONS]


@pytest.fixture(scope="module", params=CHECKED)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """Give a process for one implementation, the same kind that the report times."""
    with _worker(request.param) as started:
        yield started


def _worker(implementation: Implementation) -> Worker:
    if not implementation.installed:
        pytest.skip(f"{implementation.module} is not installed")
    return Worker(implementation)


@pytest.mark.parametrize("workload", SMALL.values(), ids=SMALL.keys())
def test_trains_to_the_same_weights_as_the_twin(worker: Worker, workload: Workload) -> None:
    """Same start, same batches, same steps: the same weights, up to rounding."""
    _assert_same_training(worker, workload)


@pytest.mark.parametrize("name", ["fastmlp-all", "jax-all", "numpy-float32-1"])
def test_momentum_and_schedule_are_the_same_recipe(name: str) -> None:
    """What runs the recipe of the time to accuracy runs the same recipe."""
    with _worker(BY_NAME[name]) as worker:
        _assert_same_training(worker, WITH_MOMENTUM)


def _assert_same_training(worker: Worker, workload: Workload) -> None:
    twin = NumpyTwin(workload, "float64", threads=1)
    worker.call("build", workload)
    worker.call("train", CHECKED_EPOCHS, SEED)
    twin.train(CHECKED_EPOCHS, SEED)
    steps = CHECKED_EPOCHS * workload.steps_per_epoch
    tolerance = _tolerance(worker.implementation.dtype, steps)
    _assert_close(worker.call("parameters"), twin.parameters(), tolerance)
    for part in ("train", "test"):
        measured, expected = worker.call("evaluate", part), twin.evaluate(part)
        assert measured.loss == pytest.approx(expected.loss, rel=100 * tolerance)
        assert measured.accuracy == expected.accuracy
    assert _moved(twin) > 1000 * tolerance, "too little was learnt for the comparison to mean anything"


def _tolerance(dtype: str, steps: int) -> float:
    """Return how far a weight may be off: weights are below 1, each step adds a few eps at most."""
    return 4 * float(np.finfo(dtype).eps) * steps


def _assert_close(measured: Parameters, expected: Parameters, tolerance: float) -> None:
    for (W, b), (expected_W, expected_b) in zip(measured, expected, strict=True):
        np.testing.assert_allclose(W, expected_W, rtol=0, atol=tolerance)
        np.testing.assert_allclose(b, expected_b, rtol=0, atol=tolerance)


def _moved(twin: Peer) -> float:
    """Return how far training has moved the weight that moved most."""
    after = twin.parameters()
    twin.reset()
    return max(float(np.abs(W - before).max()) for (W, _), (before, _) in zip(after, twin.parameters(), strict=True))


def test_the_linear_schedule_ends_at_zero() -> None:
    """It falls in equal steps from the base rate; one more step would be zero."""
    rates = learning_rates(Workload((4, 2), learning_rate=0.4, schedule="linear"), 4)
    np.testing.assert_allclose(rates, [0.4, 0.3, 0.2, 0.1])


class WorkerClock:
    """A clock for pytest-benchmark that shows the seconds of one epoch, without the pipe and the resets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.seconds

    def train(self, worker: Worker, epochs: int) -> None:
        """Train some epochs from the initial weights; let the clock go on by their mean."""
        self.seconds += worker.call("train", epochs, SEED) / epochs


clock = WorkerClock()


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("workload", TIMED.values(), ids=TIMED.keys())
def test_training_throughput(benchmark: Any, worker: Worker, workload: Workload) -> None:
    """Time an epoch from the initial weights, warm, compile time apart; a missed accuracy target fails."""
    benchmark.group = f"an epoch of {workload.n_train} samples, {workload.name}, batch {workload.batch_size}"
    benchmark.extra_info["compile_seconds"] = worker.call("build", workload)
    checked = worker.call("check", SEED)
    epochs = max(1, round(0.2 / worker.call("train", 1, SEED)))
    benchmark.pedantic(clock.train, (worker, epochs), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(
        threads=worker.implementation.threads,
        dtype=worker.implementation.dtype,
        epochs_per_round=epochs,
        samples_per_second=workload.samples_per_epoch / benchmark.stats.stats.median,
        accuracy=checked.accuracy,
    )
    assert checked.accuracy >= workload.minimum_accuracy
