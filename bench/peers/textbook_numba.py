"""A textbook Numba port: one `prange` loop per operation, as a student would write it.

Its purpose is to show what fastmlp's design adds to Numba. It is the one place outside `fastmlp.kernels`
that calls `numba.njit`, and it does so without any of fastmlp's care: one parallel launch per operation, a
gradient array per layer.
"""

# Numba types these functions when it compiles them; annotations would be decoration that nothing checks.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from bench.peers.base import Peer, require_plain_sgd, standardised
from bench.workload import Parameters


@njit(parallel=True, fastmath=True)
def _gather(X, y, order, start, x, target):
    for row in prange(x.shape[0]):
        source = order[start + row]
        target[row] = y[source]
        for i in range(x.shape[1]):
            x[row, i] = X[source, i]


@njit(parallel=True, fastmath=True)
def _affine(x, W, b, z, relu):
    for row in prange(x.shape[0]):
        for j in range(W.shape[1]):
            z[row, j] = b[j]
        for i in range(W.shape[0]):
            a = x[row, i]
            for j in range(W.shape[1]):
                z[row, j] += a * W[i, j]
        if relu:
            for j in range(W.shape[1]):
                z[row, j] = max(z[row, j], 0)


@njit(parallel=True, fastmath=True)
def _softmax_gradient(z, target):
    """Turn logits into the gradient of the mean cross-entropy, in place."""
    for row in prange(z.shape[0]):
        largest = z[row].max()
        total = z[row, 0] * 0
        for j in range(z.shape[1]):
            z[row, j] = np.exp(z[row, j] - largest)
            total += z[row, j]
        for j in range(z.shape[1]):
            z[row, j] /= total
        z[row, target[row]] -= 1
        for j in range(z.shape[1]):
            z[row, j] /= z.shape[0]


@njit(parallel=True, fastmath=True)
def _weight_gradient(x, dz, dW):
    for i in prange(dW.shape[0]):
        for j in range(dW.shape[1]):
            dW[i, j] = 0
        for row in range(x.shape[0]):
            a = x[row, i]
            for j in range(dW.shape[1]):
                dW[i, j] += a * dz[row, j]


@njit(parallel=True, fastmath=True)
def _input_gradient(dz, W, x, dx):
    """Gradient of a layer's input, which is a ReLU's output."""
    for row in prange(x.shape[0]):
        for i in range(W.shape[0]):
            total = dz[row, 0] * 0
            for j in range(W.shape[1]):
                total += dz[row, j] * W[i, j]
            dx[row, i] = total if x[row, i] > 0 else 0


@njit(parallel=True, fastmath=True)
def _step(W, dW, b, dz, rate):
    for i in prange(W.shape[0]):
        for j in range(W.shape[1]):
            W[i, j] -= rate * dW[i, j]
    for row in range(dz.shape[0]):
        for j in range(dz.shape[1]):
            b[j] -= rate * dz[row, j]


class TextbookNumba(Peer):
    """The loops above, called from a Python loop over batches."""

    def setup(self) -> None:
        """Allocate the arrays of a batch and compile by training one."""
        require_plain_sgd(self.workload, "textbook Numba")
        numba.set_num_threads(self.threads)
        self.parts = standardised(self)
        layers, batch = self.workload.layers, self.workload.batch_size
        self.activations = [np.empty((batch, width), self.dtype) for width in layers]
        self.gradients = [np.empty((batch, width), self.dtype) for width in layers[1:-1]]
        self.weight_gradients = [np.empty(shape, self.dtype) for shape in pairwise(layers)]
        self.target = np.empty(batch, np.int64)
        self.reset()
        start = time.perf_counter()
        self.train_epoch(np.arange(batch), np.zeros(1, self.dtype))
        self.loss_and_accuracy("test")
        self.compile_seconds = time.perf_counter() - start

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights."""
        self.layers = [(W.copy(), b.copy()) for W, b in parameters]

    def parameters(self) -> Parameters:
        """Return copies of the weights."""
        return [(W.copy(), b.copy()) for W, b in self.layers]

    def train_epoch(self, prepared: NDArray[np.int64], rates: NDArray[Any]) -> None:
        """Run the batches of one epoch."""
        X, y = self.parts["train"]
        for step, rate in enumerate(rates):
            _gather(X, y, prepared, step * len(self.target), self.activations[0], self.target)
            self._train_batch(rate)

    def _train_batch(self, rate: Any) -> None:
        last = len(self.layers) - 1
        for i, (W, b) in enumerate(self.layers):
            _affine(self.activations[i], W, b, self.activations[i + 1], i < last)
        dz = self.activations[-1]
        _softmax_gradient(dz, self.target)
        for i in range(last, -1, -1):
            W, b = self.layers[i]
            x, dW = self.activations[i], self.weight_gradients[i]
            _weight_gradient(x, dz, dW)
            if i > 0:
                _input_gradient(dz, W, x, self.gradients[i - 1])
            _step(W, dW, b, dz, rate)
            if i > 0:
                dz = self.gradients[i - 1]

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate with the same loops over the whole part."""
        x, y = self.parts[part]
        for i, (W, b) in enumerate(self.layers):
            z = np.empty((len(x), W.shape[1]), self.dtype)
            _affine(x, W, b, z, i < len(self.layers) - 1)
            x = z
        predicted = x.argmax(axis=1)
        shifted = x - x.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
        return float(losses.mean(dtype=np.float64)), float(np.mean(predicted == y))
