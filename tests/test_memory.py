"""What would not fit into memory is refused before anything is allocated; the estimates are in unbounded integers."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fastmlp import Network, OutOfMemoryError, memory, train
from fastmlp.memory import count_parameters, human_bytes, training_bytes
from fastmlp.metrics import confusion_matrix
from tests.processes import run_script
from tests.small_data import same_bits


@pytest.mark.parametrize(
    ("layers", "count"),
    [((784, 64, 10), 50_890), ((784, 64, 64, 10), 55_050), ((784, *[64] * 10, 10), 88_330), ((3, 2), 8)],
)
def test_parameters_are_counted_as_in_the_assignment(layers: tuple[int, ...], count: int) -> None:
    assert count_parameters(layers) == count


def test_an_absurd_layer_does_not_overflow() -> None:
    needed = training_bytes(
        (784, 99_999_999_999, 10), dtype="float32", batch_size=32, steps=1, momentum=True, copies=1, threads=1
    )
    assert needed > 99_999_999_999 * (784 + 10) * 4 * 3
    assert human_bytes(needed).endswith("PB") or human_bytes(needed).endswith("TB")


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
def test_every_copy_of_the_parameters_counts(dtype: str, size: int) -> None:
    def needed(*, momentum: bool, copies: int) -> int:
        return training_bytes(
            (784, 64, 10), dtype=dtype, batch_size=1, steps=0, momentum=momentum, copies=copies, threads=1
        )

    one = needed(momentum=True, copies=0) - needed(momentum=False, copies=0)
    assert one >= size * count_parameters((784, 64, 10))
    assert needed(momentum=False, copies=3) - needed(momentum=True, copies=0) == 2 * one


PEAK_CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "long": ((784, 64, 10), {"epochs": 300}),
    "wide": ((100, 1000, 1000, 10), {"momentum": 0.9, "patience": 3, "batch_size": 200}),
    "wider": ((30, 2500, 2500, 5), {"batch_size": 128}),
    "many inputs": ((20_000, 3), {}),
    "two pieces": ((20_000, 3, 3), {"batch_size": 100}),
    "many classes": ((3, 5000), {}),
    "deep": ((5, *[65] * 100, 3), {"threads": 3}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PEAK_CASES)
def test_a_training_takes_what_was_estimated(monkeypatch: pytest.MonkeyPatch, name: str, dtype: str) -> None:
    """Not more, and not so much less that trainings are refused without need."""
    layers, options = PEAK_CASES[name]
    n = 250
    X, y = np.zeros((n, layers[0]), np.uint8), np.arange(n) % layers[-1]
    options = {"epochs": 1, "learning_rate": 1e-6, "threads": 2, "validation": (X, y)} | options
    estimates: list[int] = []
    monkeypatch.setattr(memory, "check_available", lambda needed, *_: estimates.append(needed))
    network = Network(layers, dtype=dtype)
    train(network, X, y, **options | {"epochs": 1})  # compile, import
    tracemalloc.start()
    try:
        train(network, X, y, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= estimates[-1] <= 4 * peak


@pytest.mark.parametrize("layers", [(1 << 24, 1 << 24), (10, *[1 << 20] * 900, 10)], ids=["two", "many"])
def test_a_network_that_cannot_be_held_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(
        OutOfMemoryError, match=r"^network needs \S+ [TP]B for its parameters, \S+ [GM]B available. Use"
    ):
        Network(layers)


def test_a_training_that_cannot_be_held_is_refused_and_nothing_is_trained() -> None:
    X, y = np.zeros((1000, 4), np.uint8), np.arange(1000) % 3
    network = Network((4, 3))
    before = network.copy()
    with pytest.raises(OutOfMemoryError, match=r"model needs \S+ TB for weights and training state"):
        train(network, X, y, epochs=10**9, batch_size=1)
    assert same_bits(network, before)


def test_results_that_cannot_be_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probability of each class for each sample, or a count for each pair of classes, is more than was given."""
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000_000)
    network = Network((1, 1_000_000))
    with pytest.raises(OutOfMemoryError, match=r"the prediction needs 1\.2 GB .* 1\.0 GB available"):
        network.predict(np.zeros((300, 1), np.uint8))
    with pytest.raises(OutOfMemoryError, match=r"the confusion matrix needs 160 GB for 100000 classes"):
        confusion_matrix([0], [1], 100_000)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of the address space is Linux's")
def test_the_limit_of_a_process_counts() -> None:
    """Under ``ulimit -v``: a sentence, or the system's MemoryError where an estimate is not worth its time."""
    run_script(
        """
import resource
from pathlib import Path
import numpy as np
from fastmlp import Network, OutOfMemoryError, train
from fastmlp.system import available_memory

X, y = np.zeros((50, 300), np.uint8), np.arange(50) % 3
train(Network((300, 3)), X, y, epochs=1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
assert 300_000_000 < available_memory() <= 400_000_000

def refused(call):
    try:
        call()
    except OutOfMemoryError as error:
        assert isinstance(error, MemoryError) and "MB available" in str(error), error
        return True
    return False

assert refused(lambda: Network((300, 6000, 6000, 3)))
wide = Network((300, 4000, 4000, 3))
options = {"batch_size": 50, "momentum": 0.5, "patience": 2, "validation": (X, y), "threads": 1}
assert refused(lambda: train(wide, X, y, epochs=1, **options))
assert not refused(lambda: train(Network((300, 3)), X, y, epochs=1))
"""
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (23_456_789_012, "23 GB"),
        (954 * 10**12, "954 TB"),
        (10**30, "1e+12 EB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
