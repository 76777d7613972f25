"""Products of a dense layer, some blocks of columns at a time.

Notation: a panel ``[blocks][capacity][BLOCK]`` holds a matrix with a row per sample; weights ``[inputs][BLOCK]`` are
one block of a hidden layer. All arrays are flat and padded with zeros to whole blocks; offsets count elements.
Sums over inputs, outputs or samples run in ascending order whatever the tile, so that a row gives the same bits alone
and in a batch.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.machine import prefetch
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    add,
    lanes_of,
    load,
    load_blocks,
    load_square,
    multiply,
    multiply_add_blocks,
    store,
    store_blocks,
    subtract,
    sum_elements,
    sum_rows,
    transpose,
    zeros,
)
from fastmlp.kernels.tile_inputs import load_as
from fastmlp.kernels.vector import REGISTER_BYTES

# Blocks of inputs that stay in the first-level cache (32 KiB of 64 samples) while the weights of all outputs pass.
# Measured on one core of an Intel Xeon, against the blocks of outputs one after the other: 64 x 800 x 256 is 26 to 30 %
# faster, 64 x 800 x 512 5 to 11 %.
INPUT_BLOCKS = 4

# Blocks of outputs that are computed together: a tile of 4 x 4 registers loads 8 times for 16 multiply-adds, one of
# 8 x 2 loads 10 times. Up to 2 % faster on a core of its own, 9 % where somebody else uses the other half of it.
TILE_BLOCKS = 2 if REGISTER_BYTES == 64 else 1


@phase
def standardise(
    x, n_features, order, first, samples, rows, origin, factor, from_block, to_block, a, capacity, ahead
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
    ahead : int
        ``order[ahead : ahead + samples]`` are needed next: their cache lines are asked for.
    """
    block = VECTORS * lanes_of(a)
    look_ahead = ahead + samples <= len(order)
    for k in range(from_block, to_block):
        i = k * block
        tile_origin, tile_factor = load(origin, i, 0, 1, VECTORS), load(factor, i, 0, 1, VECTORS)
        whole = i + block <= n_features
        for row in range(rows):
            offset = (k * capacity + row) * block
            tile = zeros(a, 1, VECTORS)
            if row < samples:
                start = np.int64(get(order, first + row)) * n_features + i
                if look_ahead:  # 9 % less time at 784-64-10, batch 32, on two threads; 1 % at 784-512-512-10, batch 128
                    next_start = np.int64(get(order, ahead + row)) * n_features + i
                    prefetch(x, next_start)
                    prefetch(x, next_start + block // 2)
                if whole:
                    tile = load_as(a, x, start, 0, 1, VECTORS)
                else:
                    store(a, offset, 0, tile)
                    for feature in range(n_features - i):
                        put(a, offset + feature, a.dtype.type(get(x, start + feature)))
                    tile = load(a, offset, 0, 1, VECTORS)
                tile = multiply(subtract(tile, tile_origin), tile_factor)
            store(a, offset, 0, tile)


def _forward(blocks):
    """Make the kernel for some neighbouring blocks of outputs."""
    height = ROWS // blocks

    @phase
    def forward_tiles(
        a, a_start, capacity, rows, first, last, w, w_start, w_gap, bias, b_start, z, z_start, z_gap
    ):  # fmt: skip
        """``forward`` for ``blocks`` blocks of outputs and blocks of inputs ``first .. last - 1``.

        They are added to ``z``, or to the biases if these inputs are the first.
        """
        block = VECTORS * lanes_of(z)
        for row in range(0, rows, height):
            z_offset = z_start + row * block
            if first == 0:
                tile = load_blocks(bias, b_start, 0, block, height, blocks)
            else:
                tile = load_blocks(z, z_offset, block, z_gap, height, blocks)
            for k in range(first, last):
                a_offset = a_start + (k * capacity + row) * block
                w_offset = w_start + k * block * block
                for i in range(block):
                    tile = multiply_add_blocks(tile, a, a_offset + i, block, w, w_offset + i * block, w_gap)
            store_blocks(z, z_offset, block, z_gap, tile)

    return forward_tiles


_forward_one = _forward(1)
_forward_several = _forward(TILE_BLOCKS) if TILE_BLOCKS > 1 else _forward_one  # or the same is compiled twice


@phase
def forward(n_blocks, a, a_start, capacity, rows, inputs, w, w_start, w_gap, bias, b_start, z, z_start, z_gap):
    """``z = a W + bias`` for some blocks of outputs.

    Parameters
    ----------
    n_blocks : int
        Number of blocks of outputs.
    a : float (flat)
        Panel of ``inputs`` blocks at ``a_start``.
    capacity, rows : int
        Rows that a block of the panel has, and rows in use (a multiple of ``ROWS``).
    inputs : int
        Number of blocks of inputs.
    w : float (flat)
        Blocks of weights ``[inputs * BLOCK][BLOCK]`` at ``w_start`` and then every ``w_gap``.
    bias : float (flat)
        Biases of all blocks, ``[n_blocks * BLOCK]`` at ``b_start``.
    z : float (flat), overwritten
        Blocks ``[rows][BLOCK]`` at ``z_start`` and then every ``z_gap``.
    """
    block = VECTORS * lanes_of(z)
    for first in range(0, inputs, INPUT_BLOCKS):
        last = min(first + INPUT_BLOCKS, inputs)
        b = 0
        while b < n_blocks:
            arguments = (
                a, a_start, capacity, rows, first, last, w, w_start + b * w_gap, w_gap,
                bias, b_start + b * block, z, z_start + b * z_gap, z_gap,
            )  # fmt: skip
            if n_blocks - b >= TILE_BLOCKS:
                _forward_several(*arguments)
                b += TILE_BLOCKS
            else:
                _forward_one(*arguments)
                b += 1


def _weight_step(blocks):
    """Make the kernel for some neighbouring blocks of outputs."""
    height, vectors = ROWS // blocks, blocks * VECTORS

    @phase
    def step_tiles(
        rule, first, last, momentum, shrink, a, a_start, capacity, samples, inputs,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """``weight_step`` for ``blocks`` blocks of outputs."""
        block = VECTORS * lanes_of(w)
        for k in range(inputs):
            for i in range(0, block, height):
                offset = w_start + (k * block + i) * block
                a_offset = a_start + k * capacity * block + i
                tile = optimizer.begin(rule, first, zeros(w, height, vectors), w, sums, offset, w_gap, shrink)
                for row in range(samples):
                    d_offset = d_start + row * block
                    tile = multiply_add_blocks(tile, a, a_offset + row * block, 1, deltas, d_offset, d_gap)
                optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)

    return step_tiles


_step_one = _weight_step(1)
_step_several = _weight_step(TILE_BLOCKS) if TILE_BLOCKS > 1 else _step_one


@phase
def weight_step(
    n_blocks, rule, first, last, momentum, shrink, a, a_start, capacity, samples, inputs,
    deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """One step for some blocks of weights: ``s = a^T deltas``, then the update rule.

    Parameters
    ----------
    n_blocks : int
        Number of blocks of outputs.
    rule, first, last, momentum, shrink
        See ``optimizer``.
    a : float (flat)
        Panel of ``inputs`` blocks at ``a_start`` with ``capacity`` rows a block.
    samples : int
        Rows in use, any number.
    deltas : float (flat)
        Blocks ``[samples][BLOCK]`` at ``d_start`` and then every ``d_gap``, already multiplied by
        -learning_rate / batch_size.
    w, v, sums : float (flat), overwritten
        Blocks ``[inputs * BLOCK][BLOCK]`` at ``w_start`` and then every ``w_gap``: weights, velocities, sums of earlier
        pieces.
    """
    b = 0
    while b < n_blocks:
        arguments = (
            rule, first, last, momentum, shrink, a, a_start, capacity, samples, inputs,
            deltas, d_start + b * d_gap, d_gap, w, v, sums, w_start + b * w_gap, w_gap,
        )  # fmt: skip
        if n_blocks - b >= TILE_BLOCKS:
            _step_several(*arguments)
            b += TILE_BLOCKS
        else:
            _step_one(*arguments)
            b += 1


@kernel
def sum_samples(deltas, d_start, rows):
    """The rows of a block ``[rows][BLOCK]`` added up: a tile of one row; ``rows`` is a multiple of ``ROWS``."""
    block = VECTORS * lanes_of(deltas)
    total = zeros(deltas, ROWS, VECTORS)
    for row in range(0, rows, ROWS):
        total = add(total, load(deltas, d_start + row * block, block, ROWS, VECTORS))
    return sum_rows(total)


@phase
def copy_block(source, s_start, rows, out, o_start):
    """``out = source`` for a block ``[rows][BLOCK]`` of floats; ``rows`` is a multiple of ``ROWS``."""
    block = VECTORS * lanes_of(source)
    for offset in range(0, rows * block, ROWS * block):
        store(out, o_start + offset, block, load(source, s_start + offset, block, ROWS, VECTORS))


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
