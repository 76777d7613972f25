"""JAX: one jitted `lax.scan` over a whole epoch, parameters donated."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.base import Peer, standardised
from bench.workload import Parameters

# Imported by name, so that type checks give the same result whether the peers are installed or not.
jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")

# Unrolling the scan four times was best of 1, 2, 4 and 8 at width 64, batch 32 (253 k samples/s against 216
# k without) and within the noise at the larger networks; gradients written by hand were no faster than
# `jax.grad`.
_UNROLL = 4

_ACTIVATIONS: dict[str, Any] = {
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "scaled_tanh": lambda z: 1.7159 * jnp.tanh(z * (2 / 3)),
}


class JaxScan(Peer):
    """Every batch of an epoch in one compiled call, which gathers the samples by their order.

    The number of threads is XLA's affair: the worker process limits it by the environment.
    """

    def setup(self) -> None:
        """Put the data on the device and compile an epoch ahead of time."""
        workload = self.workload
        if self.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.parts = {
            name: (jnp.asarray(X), jnp.asarray(y.astype(np.int32))) for name, (X, y) in standardised(self).items()
        }
        self.reset()
        order = self.prepare(np.arange(workload.samples_per_epoch))
        rates = np.zeros(workload.steps_per_epoch, self.dtype)
        start = time.perf_counter()
        epoch = jax.jit(self._epoch, donate_argnums=(0, 1))
        self.epoch = epoch.lower(self.params, self.velocity, *self.parts["train"], order, rates).compile()
        self.compile_seconds = time.perf_counter() - start
        self.evaluation = jax.jit(self._loss_and_right)

    def _logits(self, params: Any, x: Any) -> Any:
        activation = _ACTIVATIONS[self.workload.activation]
        for W, b in params[:-1]:
            x = activation(x @ W + b)
        W, b = params[-1]
        return x @ W + b

    def _loss(self, params: Any, x: Any, y: Any) -> Any:
        log_probability = jax.nn.log_softmax(self._logits(params, x))
        return -jnp.take_along_axis(log_probability, y[:, None], axis=1).mean()

    def _epoch(self, params: Any, velocity: Any, X: Any, y: Any, order: Any, rates: Any) -> Any:
        momentum, nesterov = self.workload.momentum, self.workload.nesterov

        def step(carry: Any, batch: Any) -> Any:
            params, velocity = carry
            index, rate = batch
            gradient = jax.grad(self._loss)(params, X[index], y[index])
            update = jax.tree.map(lambda g: -rate * g, gradient)
            if momentum:
                velocity = jax.tree.map(lambda v, u: momentum * v + u, velocity, update)
                update = jax.tree.map(lambda v, u: momentum * v + u, velocity, update) if nesterov else velocity
            return (jax.tree.map(jnp.add, params, update), velocity), None

        return jax.lax.scan(step, (params, velocity), (order, rates), unroll=_UNROLL)[0]

    def _loss_and_right(self, params: Any, X: Any, y: Any) -> Any:
        logits = self._logits(params, X)
        log_probability = jax.nn.log_softmax(logits)
        loss = -jnp.take_along_axis(log_probability, y[:, None], axis=1).mean()
        return loss, (logits.argmax(axis=1) == y).sum()

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights to the device; velocities start at 0 (none are kept without momentum)."""
        self.params = [(jnp.array(W), jnp.array(b)) for W, b in parameters]
        self.velocity = jax.tree.map(jnp.zeros_like, self.params) if self.workload.momentum else ()
        jax.block_until_ready(self.params)

    def parameters(self) -> Parameters:
        """Return copies of the weights."""
        return [(np.array(W), np.array(b)) for W, b in self.params]

    def prepare(self, order: NDArray[np.int64]) -> Any:
        """Return the order as device indices (steps, batch)."""
        steps = order.reshape(-1, self.workload.batch_size)
        return jax.block_until_ready(jnp.asarray(steps.astype(np.int32)))

    def train_epoch(self, prepared: Any, rates: NDArray[Any]) -> None:
        """Run one epoch and wait for it."""
        self.params, self.velocity = self.epoch(self.params, self.velocity, *self.parts["train"], prepared, rates)
        jax.block_until_ready(self.params)

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate the whole part in one compiled call."""
        X, y = self.parts[part]
        loss, right = self.evaluation(self.params, X, y)
        return float(loss), int(right) / len(y)
