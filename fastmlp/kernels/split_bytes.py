"""The products of the first hidden layer on the matrix unit, for float32 weights and samples of bytes.

A byte is a number of 16 bits, exactly. So where samples wait for their common factor (see ``background.scale_floats``)
three products do for the six of ``split``, and samples need not be split; zeros are multiplied like other numbers.

Forwards 64 samples and half a block of outputs are multiplied at a time, so that weights are split once for all
samples, while those before them are multiplied. One core of an Intel Xeon, 64 samples, 800 x 256 weights: 40 us,
against 57 us for squares as in ``split``, whose weights leave the first-level cache before they are multiplied again.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import kernel, phase_of_matrix_unit
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.machine import prefetch
from fastmlp.kernels.matrix_unit import (
    COLUMN_ROWS,
    OPERAND,
    PAIRS,
    PIECE,
    SIDE,
    add_column_of_bytes,
    add_column_of_bytes_and_split,
    add_product_of_bytes,
    clear_sums,
    load_column,
    pair_bytes,
    split_column,
    store_column,
)
from fastmlp.kernels.split import (
    DEPTH,
    KEPT,
    LENGTH,
    PASSING,
    SQUARE,
    place_of_part,
    step_squares,
)

# In training fewer samples than this are multiplied without the matrix unit, which takes as long for them as for 64;
# and fewer that would step together with 64 before them. Measured on two threads of an Intel Xeon for 784-512-10: at
# batch 48 17 % more time with it, at 64 5 % less; at batch 100 as much, at 112 11 % less.
FEWEST_SAMPLES = 57
FEWEST_TOGETHER = 33

_step_squares = step_squares(add_product_of_bytes, PIECE)

# Half an operand: of half a block of outputs.
HALF = OPERAND // 2


@kernel
def _prepared(inputs, b, half):
    """Where in a thread's ``operands`` the weights of half a block of outputs are, if they are split beforehand."""
    return LENGTH + (2 * b + half) * inputs * HALF


@phase_of_matrix_unit
def prepare(n_blocks, inputs, w, w_start, w_gap, operands):
    """Split all weights of the layer, for any number of calls of ``forward``.

    Parameters
    ----------
    n_blocks, inputs : int
        Blocks of outputs and of inputs.
    w : float32 (flat)
        Blocks of weights ``[inputs * SIDE][SIDE]`` at ``w_start`` and then every ``w_gap``.
    operands : float32 (flat), overwritten
        ``n_blocks * inputs * OPERAND`` numbers from ``LENGTH`` on.
    """
    for b in range(n_blocks):
        for half in range(2):
            for k in range(inputs):
                place = w_start + b * w_gap + k * SQUARE + half * PAIRS
                split_column(operands, w, place, _prepared(inputs, b, half) + k * HALF)


@phase_of_matrix_unit
def _pair_samples(x, n_features, order, position, samples, ahead, first, count, starts, operands):
    """Make operands for the left side: ``COLUMN_ROWS`` samples, ``count`` blocks of inputs from ``first`` on.

    After the samples the last of them is repeated: rows that nobody reads. Parameters as in ``forward``.
    """
    for row in range(COLUMN_ROWS):
        put(starts, row, np.uint64(get(order, position + min(row, samples - 1))) * np.uint64(n_features))
    for k in range(count):
        start = (first + k) * SIDE
        if k % 2 == 0 and ahead + samples <= len(order):
            for row in range(samples):
                prefetch(x, np.int64(get(order, ahead + row)) * n_features + start)
        there = min(SIDE, n_features - start)
        for row in range(COLUMN_ROWS):
            pair_bytes(x, np.int64(get(starts, row)) + start, there, operands, KEPT + 2 * k * PIECE + row * PAIRS)


@phase_of_matrix_unit
def forward(
    n_blocks, x, n_features, order, position, samples, ahead, starts, inputs, w, w_start, w_gap, ready,
    z, z_start, z_gap, operands,
):  # fmt: skip
    """``z = x W`` for some blocks of outputs.

    Parameters
    ----------
    n_blocks : int
        Number of blocks of outputs.
    x : uint8 (flat)
        Samples of ``n_features`` bytes each.
    order : uint32
        The samples are ``order[position : position + samples]``, at most ``COLUMN_ROWS``.
    ahead : int
        ``order[ahead : ahead + samples]`` are needed next: their cache lines are asked for.
    starts : uint64 (COLUMN_ROWS,), overwritten
        Where the samples begin.
    inputs : int
        Number of blocks of inputs.
    w : float32 (flat)
        Blocks of weights ``[inputs * SIDE][SIDE]`` at ``w_start`` and then every ``w_gap``.
    ready : bool
        Whether these are the weights that ``prepare`` has split.
    z : float32 (flat), overwritten
        Blocks ``[COLUMN_ROWS][SIDE]`` at ``z_start`` and then every ``z_gap``; after the samples with anything.
    operands : float32 (flat), overwritten
        As in ``split.forward``; begins with the samples.
    """
    for first in range(0, inputs, DEPTH):
        count = min(DEPTH, inputs - first)
        _pair_samples(x, n_features, order, position, samples, ahead, first, count, starts, operands)
        here = 0  # which of the two operands of weights is next
        if not ready and n_blocks > 0:
            split_column(operands, w, w_start + first * SQUARE, PASSING)
        for b in range(n_blocks):
            for half in range(2):
                place = z_start + b * z_gap + half * PAIRS
                if first == 0:
                    clear_sums()
                else:
                    load_column(z, place, SIDE)
                if ready:
                    right = _prepared(inputs, b, half) + first * HALF
                    for k in range(count):
                        add_column_of_bytes(operands, KEPT + 2 * k * PIECE, right + k * HALF)
                else:
                    for k in range(count):
                        following = w_start + b * w_gap + (first + k + 1) * SQUARE + half * PAIRS
                        if k + 1 == count:  # the other half, or the next block; after the last any
                            following = w_start + min(b + half, n_blocks - 1) * w_gap + first * SQUARE
                            following += (1 - half) * PAIRS
                        add_column_of_bytes_and_split(
                            operands, KEPT + 2 * k * PIECE, PASSING + here, w, following, PASSING + HALF - here
                        )  # fmt: skip
                        here = HALF - here
                store_column(z, place, SIDE)


@phase_of_matrix_unit
def weight_step(
    n_blocks, rule, first, last, momentum, shrink, x, x_start, x_earlier, columns, earlier, samples, inputs,
    deltas, d_start, d_earlier, d_gap, w, v, sums, w_start, w_gap, operands,
):  # fmt: skip
    """``s = x^T deltas``, then the update rule, as ``split.weight_step``.

    Parameters
    ----------
    x : uint8 (flat)
        ``[inputs][columns]`` at ``x_start``, from ``background.gather``; of earlier samples at ``x_earlier``.
    """
    if n_blocks == 0:
        return
    parts = (earlier + samples + SIDE - 1) // SIDE
    for begin in range(0, inputs, DEPTH):
        count = min(DEPTH, inputs - begin)
        for k in range(count):
            for part in range(parts):
                start, row, _ = place_of_part(part, x_earlier, earlier, x_start, samples)
                for i in range(SIDE):
                    pair_bytes(
                        x, start + ((begin + k) * SIDE + i) * columns + row, SIDE,
                        operands, KEPT + (k * parts + part) * PIECE + i * PAIRS,
                    )  # fmt: skip
        _step_squares(
            n_blocks, rule, first, last, momentum, shrink, earlier, samples, count,
            deltas, d_start, d_earlier, d_gap, w, v, sums, w_start + begin * SQUARE, w_gap, operands,
        )  # fmt: skip
