"""Products of a dense layer, one block of columns at a time.

Notation: a panel ``[blocks][capacity][BLOCK]`` holds a matrix with a row per sample; weights ``[inputs][BLOCK]`` are
one block of a hidden layer. All arrays are flat and padded with zeros to whole blocks; offsets count elements.
Sums over inputs, outputs or samples run in ascending order whatever the tile, so that a row gives the same bits alone
and in a batch.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    add,
    get,
    lanes_of,
    load,
    load_as,
    load_square,
    multiply,
    multiply_add,
    put,
    store,
    subtract,
    sum_elements,
    sum_rows,
    transpose,
    zeros,
)

# Blocks of inputs whose weights stay in the first-level cache (4 * 32 * 128 bytes = 16 KiB) while all rows pass.
# Measured at 512 x 1024 x 1024: 10 % faster than passing all inputs at once.
INPUT_BLOCKS = 4


@phase
def standardise(
    x, n_features, order, first, samples, rows, origin, factor, from_block, to_block, a, capacity
):  # fmt: skip
    """``a = (x - origin) * factor`` for some blocks of inputs of the samples of a mini-batch.

    Parameters
    ----------
    x : uint8 or float (flat)
        Samples of ``n_features`` finite values each.
    order : uint32
        The samples are ``order[first : first + samples]``.
    rows : int
        ``samples`` rounded up; the rows after the samples are set to zero.
    origin, factor : float
        Mean and 1 / std of each feature; zero where there is no feature.
    from_block, to_block : int
        Range of blocks of inputs.
    a : float (flat), overwritten
        Panel ``[blocks][capacity][BLOCK]``.
    """
    block = VECTORS * lanes_of(a)
    for k in range(from_block, to_block):
        i = k * block
        tile_origin, tile_factor = load(origin, i, 0, 1, VECTORS), load(factor, i, 0, 1, VECTORS)
        whole = i + block <= n_features
        for row in range(rows):
            offset = (k * capacity + row) * block
            tile = zeros(a, 1, VECTORS)
            if row < samples:
                start = np.int64(get(order, first + row)) * n_features + i
                if whole:
                    tile = load_as(a, x, start, 0, 1, VECTORS)
                else:
                    store(a, offset, 0, tile)
                    for feature in range(n_features - i):
                        put(a, offset + feature, a.dtype.type(get(x, start + feature)))
                    tile = load(a, offset, 0, 1, VECTORS)
                tile = multiply(subtract(tile, tile_origin), tile_factor)
            store(a, offset, 0, tile)


@phase
def forward(a, a_start, capacity, rows, inputs, w, w_start, bias, b_start, z, z_start):
    """``z = a W + bias`` for one block of outputs.

    Parameters
    ----------
    a : float (flat)
        Panel of ``inputs`` blocks at ``a_start``.
    capacity, rows : int
        Rows that a block of the panel has, and rows in use (a multiple of ``ROWS``).
    inputs : int
        Number of blocks of inputs.
    w : float (flat)
        Block of weights ``[inputs * BLOCK][BLOCK]`` at ``w_start``.
    bias : float (flat)
        Its biases ``[BLOCK]`` at ``b_start``.
    z : float (flat), overwritten
        Block ``[rows][BLOCK]`` at ``z_start``.
    """
    block = VECTORS * lanes_of(z)
    for first in range(0, inputs, INPUT_BLOCKS):
        last = min(first + INPUT_BLOCKS, inputs)
        for row in range(0, rows, ROWS):
            z_offset = z_start + row * block
            tile = load(bias, b_start, 0, ROWS, VECTORS) if first == 0 else load(z, z_offset, block, ROWS, VECTORS)
            for k in range(first, last):
                a_offset = a_start + (k * capacity + row) * block
                w_offset = w_start + k * block * block
                for i in range(block):
                    tile = multiply_add(tile, a, a_offset + i, block, w, w_offset + i * block)
            store(z, z_offset, block, tile)


@phase
def weight_step(
    rule,
    first,
    last,
    momentum,
    shrink,
    a,
    a_start,
    capacity,
    samples,
    inputs,
    deltas,
    d_start,
    w,
    v,
    sums,
    w_start,
):
    """One step for one block of weights: ``s = a^T deltas``, then the update rule.

    Parameters
    ----------
    rule, first, last, momentum, shrink
        See ``optimizer``.
    a : float (flat)
        Panel of ``inputs`` blocks at ``a_start`` with ``capacity`` rows a block.
    samples : int
        Rows in use, any number.
    deltas : float (flat)
        Block ``[samples][BLOCK]`` at ``d_start``, already multiplied by -learning_rate / batch_size.
    w, v, sums : float (flat), overwritten
        Block ``[inputs * BLOCK][BLOCK]`` at ``w_start``: weights, velocities, sums of earlier pieces.
    """
    block = VECTORS * lanes_of(w)
    for k in range(inputs):
        for i in range(0, block, ROWS):
            offset = w_start + (k * block + i) * block
            a_offset = a_start + k * capacity * block + i
            tile = optimizer.begin(rule, first, zeros(w, ROWS, VECTORS), w, sums, offset, 0, shrink)
            for row in range(samples):
                tile = multiply_add(tile, a, a_offset + row * block, 1, deltas, d_start + row * block)
            optimizer.end(rule, last, tile, w, v, sums, offset, 0, momentum, shrink)


@kernel
def sum_samples(deltas, d_start, rows):
    """The rows of a block ``[rows][BLOCK]`` added up: a tile of one row; ``rows`` is a multiple of ``ROWS``."""
    block = VECTORS * lanes_of(deltas)
    total = zeros(deltas, ROWS, VECTORS)
    for row in range(0, rows, ROWS):
        total = add(total, load(deltas, d_start + row * block, block, ROWS, VECTORS))
    return sum_rows(total)


@phase
def transpose_square(source, s_start, rows, out, o_start):
    """Transpose ``[BLOCK][BLOCK]`` numbers, or at least the first ``rows`` rows of them."""
    block = VECTORS * lanes_of(source)
    lanes = lanes_of(source)
    for i in range(0, rows, lanes):
        for j in range(0, block, lanes):
            tile = transpose(load_square(source, s_start + i * block + j, block))
            store(out, o_start + j * block + i, block, tile)


@phase
def sum_squares(w, start, length):
    """Sum of the squares of ``length`` numbers, a multiple of BLOCK."""
    block = VECTORS * lanes_of(w)
    total, rest = zeros(w, ROWS, VECTORS), zeros(w, 1, VECTORS)
    whole = length // (ROWS * block) * ROWS * block
    for offset in range(start, start + whole, ROWS * block):
        tile = load(w, offset, block, ROWS, VECTORS)
        total = add(total, multiply(tile, tile))
    for offset in range(start + whole, start + length, block):
        row = load(w, offset, 0, 1, VECTORS)
        rest = add(rest, multiply(row, row))
    return sum_elements(total) + sum_elements(rest)
