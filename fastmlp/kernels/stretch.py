"""Several mini-batches at a time: what small ones cost in the input layer.

A mini-batch of 4 samples at 784-128-10 reads and writes most of the weights of the input layer for 4 multiply-adds
each. The steps of a *stretch* of mini-batches are therefore taken by all weights at once, as LAPACK collects the
reflections of a blocked QR decomposition. With the inputs S_k of mini-batch k, the weights V before the stretch and the
deltas D_j = -learning_rate / batch_size dz_j of the mini-batches so far, the weights at mini-batch k are
V + sum over j < k of S_j^T D_j, so that

    S_k (V + sum S_j^T D_j) = S_k V + sum (S_k S_j^T) D_j

is exact: gradient descent as ever, in another order of additions. All products S_k V of the stretch and S_k S_j^T are
formed at its beginning (``multiply_samples``), the sum is added mini-batch by mini-batch (``complete``), and the
weights step at its end, with the deltas that were kept (``keep``). All other weights step with each mini-batch.

Every rule that multiplies weights or velocities by a number in each step would need further products; there, and where
mini-batches are large, a stretch is one mini-batch.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import phase
from fastmlp.kernels.flat import get
from fastmlp.kernels.machine import count_trailing_zeros
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    add,
    add_scaled,
    fill,
    lanes_of,
    load,
    multiply,
    multiply_add,
    store,
    zeros,
)
from fastmlp.kernels.tile_inputs import accumulate_inputs, load_as
from fastmlp.kernels.walks import PAIR, pairs_of, walk_count


@phase
def multiply_samples(x, x_start, columns, numbers, first_row, last_row, b, quads, stride, out, out_start):
    """``out = a^T a`` for some rows of one block of columns, walking over the samples of each input.

    Parameters
    ----------
    x, x_start, columns, numbers
        As in ``sparse.forward_inputs``: what ``a`` is read from.
    first_row, last_row : int
        Rows to fill, at least one.
    b : int
        Number of the block of columns.
    quads, stride
        From ``walks.list_inputs``.
    out : float (flat), overwritten
        The block ``[rows][BLOCK]`` at ``out_start``.
    """
    block = VECTORS * lanes_of(out)
    for row in range(first_row, last_row):
        store(out, out_start + row * block, 0, zeros(out, 1, VECTORS))
    wanted = ~np.uint64(0) >> np.uint64(64 - last_row) & ~np.uint64(0) << np.uint64(first_row)
    for k in range(walk_count(quads)):
        i, j = pairs_of(get(quads, k))
        i, j = x_start + i * columns, x_start + j * columns
        first = load_as(out, x, i + b * block, columns, PAIR, VECTORS)
        second = load_as(out, x, j + b * block, columns, PAIR, VECTORS)
        bits = get(quads, stride + k) & wanted
        while bits != 0:
            row = count_trailing_zeros(bits)
            bits &= bits - np.uint64(1)
            target = out_start + row * block
            tile = accumulate_inputs(load(out, target, 0, 1, VECTORS), x, i + row, columns, numbers, first)
            store(out, target, 0, accumulate_inputs(tile, x, j + row, columns, numbers, second))


@phase
def complete(
    scale, z, z_start, halved, other, o_start, products, r_start, capacity, row, samples, rows, deltas, d_start,
    bias, b_start, projections, p_start, background, q_start, c_start, out, out_start,
):  # fmt: skip
    """``out = scale (z + products deltas) + (bias + q + p c)`` for the rows of a mini-batch of one block of outputs.

    Parameters
    ----------
    scale
        See ``Data``.
    z : float (flat)
        The block ``[rows][BLOCK]`` of the mini-batch at ``z_start``, which may be ``out``.
    halved : bool
        Whether ``other`` is to be added to z: ``[rows][BLOCK]`` at ``o_start``. Not if there are ``products``.
    products : float (flat)
        From ``multiply_samples``.
    row : int
        Number of samples of the stretch before this mini-batch.
    samples, rows : int
        Of this mini-batch; the same, padded to ``ROWS``. What follows in ``z`` may be other samples: zeros are stored.
    deltas : float (flat)
        The block ``[row][BLOCK]`` of what the stretch has kept, at ``d_start``.
    bias, projections, background : float (flat)
        Bias, ``[BLOCK]`` at ``b_start``; p, ``[rows]`` at ``p_start``; q and c, ``[BLOCK]`` at ``q_start`` and
        ``c_start``; see ``background``.
    out : float (flat), overwritten
        ``[rows][BLOCK]`` at ``out_start``.
    """
    block = VECTORS * lanes_of(out)
    if row > 0:
        for r in range(0, rows, ROWS):
            tile = load(z, z_start + r * block, block, ROWS, VECTORS)
            for first in range(0, row, block):
                offset = r_start + (first // block * capacity + row + r) * block
                for j in range(min(block, row - first)):
                    tile = multiply_add(tile, products, offset + j, block, deltas, d_start + (first + j) * block)
            store(out, out_start + r * block, block, tile)
        z, z_start = out, out_start
    constant = add(load(bias, b_start, 0, 1, VECTORS), load(background, q_start, 0, 1, VECTORS))
    for r in range(samples):
        product = load(z, z_start + r * block, 0, 1, VECTORS)
        if halved:
            product = add(product, load(other, o_start + r * block, 0, 1, VECTORS))
        total = multiply_add(constant, projections, p_start + r, 1, background, c_start)
        total = add_scaled(total, get(scale, 0), product)
        store(out, out_start + r * block, 0, total)
    for r in range(samples, rows):
        store(out, out_start + r * block, 0, zeros(out, 1, VECTORS))


@phase
def keep(scale, deltas, d_start, samples, out, out_start):
    """``out = scale * deltas`` for a block ``[samples][BLOCK]``; may be the same."""
    block = VECTORS * lanes_of(out)
    factor = fill(out, get(scale, 0), 1, VECTORS)
    for offset in range(0, samples * block, block):
        store(out, out_start + offset, 0, multiply(load(deltas, d_start + offset, 0, 1, VECTORS), factor))
