"""What tests of threads share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.network import Network
from fastmlp.training import train
from tests.small_data import Samples, make_network


def subnormals_work() -> bool:
    """Whether this thread computes with subnormal numbers."""
    tiny = np.array([np.finfo(np.float32).tiny])
    return bool((tiny / 2 > 0).all() and (tiny / 2 * 2 == tiny).all())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Stopped(Exception):  # noqa: N818 - it is no error
    """What a callback raises."""


def trained(samples: Samples, **options: Any) -> Network:
    """Train a network of its own for each call."""
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    train(network, samples.X, samples.y, **({"epochs": 2, "threads": 1} | options))
    return network


SMALL_RUN = """
import numpy as np
from fastmlp.network import Network
from fastmlp.training import train
from fastmlp.system import usable_cpus

random = np.random.default_rng(0)
X, y = random.integers(0, 256, (300, 100), np.uint8), random.integers(0, 10, 300)

def learn(**options):
    network = Network((100, 200, 40, 10), mean=127.0, std=70.0, activation="tanh")
    history = train(network, X, y, epochs=2, validation=(X, y), **options)
    network.predict_proba(np.resize(X, (3000, 100)))
    return b"".join(array.tobytes() for array in network.weights)

"""
