"""The whole trainer in plain NumPy: the reference that the kernels are held to, and the rival that they are timed with.

It reads like the textbook: forward propagation keeps the activations of every layer, the loss is the mean
cross-entropy of a softmax, back-propagation goes through the layers in reverse, and gradient descent moves the weights.
Matrix products are left to the BLAS that NumPy comes with. ``fastmlp.train`` does the same steps in the same order, so
with equal initial weights and seed the two agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network import Network
from fastmlp.shuffling import epoch_order

Array = NDArray[Any]

AMPLITUDE, SLOPE = 1.7159, 2.0 / 3.0


def activate(name: str, z: Array) -> Array:
    """a = f(z)."""
    if name == "relu":
        return np.maximum(z, 0)
    if name == "sigmoid":
        return 0.5 * (1 + np.tanh(0.5 * z))  # = 1 / (1 + e^-z), without overflow
    if name == "tanh":
        return np.tanh(z)
    if name == "scaled_tanh":
        return AMPLITUDE * np.tanh(SLOPE * z)
    return z


def derivative(name: str, a: Array) -> Array:
    """f'(z), written in terms of a = f(z)."""
    if name == "relu":
        return (a > 0).astype(a.dtype)
    if name == "sigmoid":
        return a * (1 - a)
    if name == "tanh":
        return 1 - a * a
    if name == "scaled_tanh":
        return SLOPE * (AMPLITUDE - a * a / AMPLITUDE)
    return np.ones_like(a)


def softmax(logits: Array) -> Array:
    """Class probabilities; the largest logit of each row is subtracted first, so that nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, labels: Array) -> float:
    """Mean of -log p(label)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean(dtype=np.float64))


@dataclass
class Baseline:
    """A network in NumPy.

    Parameters
    ----------
    weights, biases : list of ndarray
        ``(fan_in, fan_out)`` and ``(fan_out,)`` of each layer; overwritten by training.
    activation : str
        Of the hidden layers.
    mean, std : ndarray
        Standardisation of the inputs.
    """

    weights: list[Array]
    biases: list[Array]
    activation: str
    mean: Array
    std: Array

    @classmethod
    def of(cls, network: Network) -> Baseline:
        """Copy a network; the computation has its dtype."""
        return cls(
            [weight.copy() for weight in network.weights],
            [bias.copy() for bias in network.biases],
            network.activation,
            network.mean.astype(network.dtype),
            network.std.astype(network.dtype),
        )

    def standardise(self, X: Array) -> Array:
        """(x - mean) / std."""
        return (X.astype(self.mean.dtype) - self.mean) / self.std

    def forward(self, X: Array) -> list[Array]:
        """Activations of all layers for standardised samples: the inputs, the hidden layers, and the logits."""
        activations = [X]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = activations[-1] @ weight + bias
            activations.append(activate(self.activation, z) if i < len(self.weights) - 1 else z)
        return activations

    def backward(self, activations: list[Array], labels: Array) -> tuple[list[Array], list[Array]]:
        """Gradients of the mean cross-entropy with respect to weights and biases."""
        delta = softmax(activations[-1])
        delta[np.arange(len(labels)), labels] -= 1
        delta /= len(labels)
        weight_gradients: list[Array] = []
        bias_gradients: list[Array] = []
        for i in reversed(range(len(self.weights))):
            weight_gradients.insert(0, activations[i].T @ delta)
            bias_gradients.insert(0, delta.sum(axis=0))
            if i > 0:
                delta = (delta @ self.weights[i].T) * derivative(self.activation, activations[i])
        return weight_gradients, bias_gradients

    def loss(self, logits: Array, labels: Array, l2: float = 0.0) -> float:
        """Mean cross-entropy plus l2 / 2 times the sum of squared weights."""
        penalty = sum(float(np.square(w).sum(dtype=np.float64)) for w in self.weights) if l2 else 0.0
        return cross_entropy(logits, labels) + 0.5 * l2 * penalty

    def evaluate(self, X: Array, labels: Array) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on raw samples."""
        logits = self.forward(self.standardise(X))[-1]
        return cross_entropy(logits, labels), float((logits.argmax(axis=1) == labels).mean())


def train_baseline(
    network: Baseline,
    X: Array,
    y: Array,
    *,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 0.1,
    schedule: str = "constant",
    momentum: float = 0.0,
    nesterov: bool = False,
    l2: float = 0.0,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int = 0,
) -> list[float]:
    """Train by mini-batch gradient descent; the options are those of ``fastmlp.train``.

    Parameters
    ----------
    network : Baseline
        Trained in place.
    X : ndarray of shape (n_samples, n_features)
        Raw values; standardised once, before the first epoch.
    y : ndarray of int, shape (n_samples,)

    Returns
    -------
    list of float
        Loss of every mini-batch before its step.
    """
    dtype = network.mean.dtype.type
    X = network.standardise(X)
    parameters = network.weights + network.biases
    velocities = [np.zeros_like(p) for p in parameters]
    per_epoch = len(X) // batch_size if drop_last else -(-len(X) // batch_size)
    steps, losses = epochs * per_epoch, []
    for epoch in range(epochs):
        order = epoch_order(len(X), seed, epoch, shuffle=shuffle)
        for batch in range(per_epoch):
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            done = (epoch * per_epoch + batch) / steps
            falling = {"linear": 1 - done, "cosine": 0.5 * (1 + np.cos(np.pi * done))}.get(schedule, 1.0)
            rate, mu = dtype(learning_rate * falling), dtype(momentum)
            activations = network.forward(X[rows])
            losses.append(network.loss(activations[-1], y[rows], l2))
            weight_gradients, bias_gradients = network.backward(activations, y[rows])
            if l2:
                weight_gradients = [g + dtype(l2) * w for g, w in zip(weight_gradients, network.weights, strict=True)]
            gradients = weight_gradients + bias_gradients
            if momentum == 0:
                for p, gradient in zip(parameters, gradients, strict=True):
                    p -= rate * gradient
                continue
            for p, v, gradient in zip(parameters, velocities, gradients, strict=True):
                v *= mu
                v -= rate * gradient
                p += mu * v - rate * gradient if nesterov else v
    return losses
