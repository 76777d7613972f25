"""Small data sets and networks for the tests of the trainer, and tolerances to compare results by."""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis
import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmlp.network import Network

Array = NDArray[Any]

# For property tests of the nightly run: many examples, and others each time.
MANY = hypothesis.settings(max_examples=1000, derandomize=False, deadline=None)

ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh", "scaled_tanh")

# Promised are 1e-9 and 1e-4 after three epochs. Other orders of summation leave some 1e-14 and 1e-6; small
# mistakes, such as a wrong last digit of a constant, lie between.
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}


class Samples(NamedTuple):
    """Labelled samples with the statistics to standardise them."""

    X: Array
    y: Array
    mean: Array
    std: Array


def pixels(n: int = 200, n_features: int = 50, n_classes: int = 10, *, density: float = 0.25, seed: int = 0) -> Samples:
    """Make bytes that are mostly zero, like pictures of digits, with labels that can be learnt from them."""
    random = np.random.default_rng(seed)
    X = random.integers(1, 256, (n, n_features), np.uint8)
    X[random.random(X.shape) >= density] = 0
    return Samples(X, _labels(X, n_classes, random), np.array(X.mean()), np.array(max(X.std(), 1.0)))


def table(
    n: int = 200, n_features: int = 50, n_classes: int = 10, *, dtype: DTypeLike = "float64", seed: int = 0
) -> Samples:
    """Make numbers of different scales per feature, with labels that can be learnt from them."""
    random = np.random.default_rng(seed)
    scale, centre = np.exp(random.normal(size=n_features)), random.normal(size=n_features)
    X = (random.normal(size=(n, n_features)) * scale + centre).astype(dtype)
    std = X.std(axis=0, dtype=np.float64)
    return Samples(X, _labels(X, n_classes, random), X.mean(axis=0, dtype=np.float64), np.where(std > 0, std, 1.0))


def _labels(X: Array, n_classes: int, random: np.random.Generator) -> Array:
    """Give the classes of a random linear map, so that there is something to learn."""
    standard = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-3)
    labels: Array = (standard @ random.normal(size=(X.shape[1], n_classes))).argmax(axis=1)
    return labels


def make_network(samples: Samples, *hidden: int, n_classes: int | None = None, **options: Any) -> Network:
    """Make a network that fits the samples."""
    classes = int(samples.y.max()) + 1 if n_classes is None else n_classes
    options = {"init": "lecun", "mean": samples.mean, "std": samples.std} | options
    network = Network((samples.X.shape[1], *hidden, classes), **options)
    random = np.random.default_rng(7)  # biases begin at zero, which would hide a bias that is forgotten
    network.biases = [random.normal(size=bias.shape) * 0.1 for bias in network.biases]
    return network


def difference(ours: Array, reference: Array) -> float:
    """Return the largest difference, relative to the largest number of the reference (at least 1e-3).

    Single elements may be differences of much larger numbers, so each is judged by the scale of its array.
    """
    assert ours.shape == reference.shape
    if not reference.size:
        return 0.0
    scale = max(float(np.abs(reference).max()), 1e-3)
    return float(np.abs(np.asarray(ours, np.float64) - np.asarray(reference, np.float64)).max()) / scale


def same_bits(a: Network, b: Network) -> bool:
    """Whether two networks have exactly the same parameters."""
    ours, others = (*a.weights, *a.biases), (*b.weights, *b.biases)
    return all(x.tobytes() == y.tobytes() and x.shape == y.shape for x, y in zip(ours, others, strict=True))
