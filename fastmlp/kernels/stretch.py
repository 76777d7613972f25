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

from fastmlp.kernels import sparse
from fastmlp.kernels.compiler import phase
from fastmlp.kernels.team import share
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    add,
    add_scaled,
    fill,
    get,
    lanes_of,
    load,
    multiply,
    multiply_add,
    store,
    zeros,
)


@phase
def multiply_samples(
    raw, factor, scale, a, a_start, columns, samples, first, rows, quads, stride, thread, threads,
    out, out_start, capacity,
):  # fmt: skip
    """``out = a^T a`` left of the diagonal, for this thread's share of the rows.

    Parameters
    ----------
    raw, factor, scale, columns, samples
        See ``background.scale_pair``; not used, as ``a`` is scaled.
    a : float (flat)
        ``[inputs][columns]`` at ``a_start``, from ``sparse.forward_inputs``.
    first, rows : int
        Fill the rows ``first .. rows - 1``.
    quads, stride
        From ``walks.list_inputs``.
    out : float (flat), overwritten
        A panel ``[blocks of samples][capacity][BLOCK]`` at ``out_start``. Each row is filled up to the end of the block
        that the diagonal passes.
    """
    block = VECTORS * lanes_of(a)
    for b in range((rows + block - 1) // block):
        begin = max(b * block, first)
        count = min((b + 1) * block, rows) - begin
        first_row, last_row = begin + share(count, threads, thread), begin + share(count, threads, thread + 1)
        if first_row < last_row:
            sparse.forward_inputs(
                b + 1, raw, factor, scale, True, a, a_start, columns, 1, samples, first_row, last_row,
                quads, stride, a, a_start, columns, block, out, out_start, capacity * block,
            )  # fmt: skip


@phase
def complete(
    scale, z, z_start, products, r_start, capacity, row, samples, rows, deltas, d_start,
    bias, b_start, projections, p_start, background, q_start, c_start, out, out_start,
):  # fmt: skip
    """``out = scale (z + products deltas) + (bias + q + p c)`` for the rows of a mini-batch of one block of outputs.

    Parameters
    ----------
    scale
        See ``background.scale_pair``.
    z : float (flat)
        The block ``[rows][BLOCK]`` of the mini-batch at ``z_start``; may be ``out``.
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
    constant = add(load(bias, b_start, 0, ROWS, VECTORS), load(background, q_start, 0, ROWS, VECTORS))
    for r in range(0, rows, ROWS):
        tile = load(z, z_start + r * block, block, ROWS, VECTORS)
        for first in range(0, row, block):
            offset = r_start + (first // block * capacity + row + r) * block
            for j in range(min(block, row - first)):
                tile = multiply_add(tile, products, offset + j, block, deltas, d_start + (first + j) * block)
        total = multiply_add(constant, projections, p_start + r, 1, background, c_start)
        store(out, out_start + r * block, block, add_scaled(total, get(scale, 0), tile))
    for r in range(samples, rows):
        store(out, out_start + r * block, 0, zeros(out, 1, VECTORS))


@phase
def keep(scale, deltas, d_start, samples, out, out_start):
    """``out = scale * deltas`` for a block ``[samples][BLOCK]``; may be the same."""
    block = VECTORS * lanes_of(out)
    factor = fill(out, get(scale, 0), 1, VECTORS)
    for offset in range(0, samples * block, block):
        store(out, out_start + offset, 0, multiply(load(deltas, d_start + offset, 0, 1, VECTORS), factor))
