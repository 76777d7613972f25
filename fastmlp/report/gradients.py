"""Task 2b for every network of the assignment: compiled gradients against differences of the loss, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.gradient_check import TOLERANCE, check_gradients
from fastmlp.report.experiments import Experiment
from fastmlp.report.jobs import new_network

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.network import Network

SAMPLES = 100
EPSILON = 1e-3  # the original's; a difference may be at most its square

# Parameters compared per network, spread over its arrays; at least so many of each array.
_COMPARED, _PER_ARRAY = 160, 12


def compare_gradients(experiment: Experiment, dataset: Dataset) -> tuple[dict[str, Any], Network]:
    """Check the gradients of a network on both ways through the input layer.

    Returns
    -------
    dict
        ``parameters``, ``compared``, ``worst`` (the largest relative difference, see `fastmlp.gradient_check`),
        ``tolerance``, ``passed``; ``original_worst``, the largest absolute difference with the original's step of
        1e-3, and ``original_passed``, whether it is at most the square of that.
    Network
        The float64 network with its initial weights.
    """
    network = new_network(experiment, dataset, seed=0, dtype="float64")
    X, y = dataset.X_train[:SAMPLES], dataset.y_train[:SAMPLES]
    per_array = max(_PER_ARRAY, _COMPARED // (2 * len(network.weights)))
    worst, compared = 0.0, 0
    for skips in (False, True) if experiment.layers else (False,):
        network.skip_background = skips
        checks = list(check_gradients(network, X, y, n_checked=per_array))
        worst = float(np.max([worst, *(check.worst for check in checks)]))  # NaN stays NaN
        compared += sum(check.n_checked for check in checks)
    original = _original_difference(network, X, y, per_array)
    result = {
        "parameters": network.n_parameters,
        "compared": compared,
        "worst": worst,
        "tolerance": TOLERANCE,
        "passed": worst <= TOLERANCE,
        "original_worst": original,
        "original_passed": original <= EPSILON**2,
    }
    return result, network


def _original_difference(network: Network, X: Any, y: Any, per_array: int) -> float:
    """The largest |gradient - (L(w + e) - L(w - e)) / 2e| with the original's e, over some of every array."""
    weight_gradients, bias_gradients, _ = network.gradients(X, y)
    random = np.random.default_rng(0)
    differences = []
    for name, gradients in (("weights", weight_gradients), ("biases", bias_gradients)):
        original = getattr(network, name)
        values = [np.array(part) for part in original]
        for value, gradient in zip(values, gradients, strict=True):
            flat = value.reshape(-1)
            for index in random.choice(flat.size, min(per_array, flat.size), replace=False):
                losses, before = [], flat[index]
                for shifted in (before + EPSILON, before - EPSILON):
                    flat[index] = shifted
                    setattr(network, name, values)
                    losses.append(network.evaluate(X, y).loss)
                flat[index] = before
                differences.append(abs((losses[0] - losses[1]) / (2 * EPSILON) - gradient.reshape(-1)[index]))
        setattr(network, name, original)
    return float(np.max(differences))
