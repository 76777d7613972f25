"""Single kernels as Python can call them, for the benchmarks: each does what the training does with one layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels import dense, optimizer, output
from fastmlp.kernels.activation import activate
from fastmlp.kernels.compiler import entry_kernel, kernel
from fastmlp.kernels.tile import VECTORS, lanes_of


@kernel
def block_width(array: Any) -> Any:
    """Columns of a block."""
    return VECTORS * lanes_of(array)


@entry_kernel
def product(a, rows, inputs, w, outputs, z):
    """``z = a W + bias`` for all blocks of outputs; the biases lie behind the weights."""
    block = block_width(z)
    weights = inputs * block * block
    dense.forward(outputs, a, 0, rows, rows, inputs, w, 0, weights, w, outputs * weights, z, 0, rows * block)


@entry_kernel
def step(a, rows, inputs, deltas, w, outputs):
    """``W += a^T deltas`` for all blocks of outputs."""
    block = block_width(w)
    dense.weight_step(
        outputs, optimizer.DIRECT, True, True, 0.0, 0.0, a, 0, rows, rows, inputs,
        deltas, 0, rows * block, w, w, w, 0, inputs * block * block,
    )  # fmt: skip


@entry_kernel
def activation(kind, z, rows, blocks):
    """``z = f(z)`` for all blocks."""
    block = block_width(z)
    for b in range(blocks):
        activate(kind, z, b * rows * block, rows, block)


@entry_kernel
def softmax(logits, classes, n_classes, samples, probabilities, log_sums):
    """Softmax of ``[blocks of samples][classes][BLOCK]`` logits."""
    output.softmax(
        logits, 0, 1, 0, classes, n_classes, samples, 1.0, logits, 0, probabilities, 0, log_sums, np.int64(0)
    )
