"""scikit-learn's MLPClassifier, solver "sgd"."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.base import Peer, require_plain_sgd, standardised
from bench.workload import Parameters

# Imported by name, so that type checks give the same result whether the peers are installed or not.
neural_network: Any = import_module("sklearn.neural_network")


class ScikitLearn(Peer):
    """One `partial_fit` per epoch over rows already in the epoch's order, its own shuffling off."""

    def setup(self) -> None:
        """Create the classifier; its first `partial_fit` allocates the weights."""
        workload = self.workload
        require_plain_sgd(workload, "scikit-learn")
        if workload.schedule != "constant":
            raise ValueError("scikit-learn: its partial_fit knows no falling learning rate that others know too")
        self.parts = standardised(self)
        self.classes = np.arange(workload.layers[-1])
        self.classifier = neural_network.MLPClassifier(
            hidden_layer_sizes=workload.layers[1:-1],
            activation=workload.activation,
            solver="sgd",
            alpha=0.0,
            batch_size=workload.batch_size,
            learning_rate="constant",
            learning_rate_init=workload.learning_rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            random_state=0,
        )
        X, y = self.parts["train"]
        self.classifier.partial_fit(X[: workload.batch_size], y[: workload.batch_size], classes=self.classes)

    def set_parameters(self, parameters: Parameters) -> None:
        """Write into the classifier's arrays in place: its optimiser holds references to them."""
        for own_W, own_b, (W, b) in zip(self.classifier.coefs_, self.classifier.intercepts_, parameters, strict=True):
            own_W[...] = W
            own_b[...] = b

    def parameters(self) -> Parameters:
        """Return copies of the fitted weights."""
        return [(W.copy(), b.copy()) for W, b in zip(self.classifier.coefs_, self.classifier.intercepts_, strict=True)]

    def prepare(self, order: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the epoch's samples and labels in order."""
        X, y = self.parts["train"]
        return X[order], y[order]

    def train_epoch(
        self,
        prepared: tuple[NDArray[Any], NDArray[np.int64]],
        rates: NDArray[Any],  # noqa: ARG002 - as the other peers; the rate is constant
    ) -> None:
        """Pass over the rows once, at the rate that `setup` has set."""
        X, y = prepared
        self.classifier.partial_fit(X, y, classes=self.classes)

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate from `predict_proba`."""
        X, y = self.parts[part]
        probability = self.classifier.predict_proba(X)
        smallest = np.finfo(probability.dtype).tiny
        loss = -np.log(np.maximum(probability[np.arange(len(y)), y], smallest)).mean(dtype=np.float64)
        return float(loss), float(np.mean(probability.argmax(axis=1) == y))
