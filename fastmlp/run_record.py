"""What a run folder says about its training in words and in ``config.json``."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Any

from fastmlp.runs import network_name
from fastmlp.system import machine, versions

if TYPE_CHECKING:
    from fastmlp.experiment import Outcome

SCHEMA_VERSION = 1


def headline(outcome: Outcome) -> str:
    """Return the title of the curves: the network and how good it became."""
    network = outcome.network
    activation = {"relu": "ReLU", "scaled_tanh": "scaled tanh"}.get(network.activation, network.activation)
    name = f"{network_name(network.layers)}, {activation}" if len(network.layers) > 2 else "Softmax regression"
    ending = f" ({outcome.status})" if outcome.status in ("interrupted", "diverged") else ""
    data = "MNIST" if outcome.settings.data == "mnist" else outcome.dataset.name
    return f"{name}: {100 * outcome.test.accuracy:.2f} % test accuracy on {data}{ending}"


def record(outcome: Outcome, started: datetime.datetime) -> dict[str, Any]:
    """Return what ``config.json`` says: enough to run the same training again and to trust its numbers."""
    dataset = outcome.dataset
    scalar = not hasattr(dataset.mean, "shape")
    return {
        "schema_version": SCHEMA_VERSION,
        "status": outcome.status,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": dataclasses.asdict(outcome.settings),
        "network": {"layers": outcome.network.layers, "parameters": outcome.network.n_parameters},
        "data": {
            "name": dataset.name,
            "source": outcome.settings.data,
            "train_samples": len(dataset.X_train),
            "test_samples": len(dataset.X_test),
            "features": dataset.X_train.shape[1],
            "classes": dataset.n_classes,
            "mean": dataset.mean if scalar else "per feature, in the model",
            "std": dataset.std if scalar else "per feature, in the model",
            "fingerprint": dataset.fingerprint,
        },
        "result": outcome.summary(),
        "machine": machine(),
        "versions": versions(),
    }
