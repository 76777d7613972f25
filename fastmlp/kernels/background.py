"""The input layer: gathering samples, and what their background contributes.

81 % of the pixels of MNIST are zero. With standardised inputs x = (value - mean) / std they are all the same number
beta = -mean / std. Write a sample as x = beta + s, where s = value / std is zero wherever the pixel is, and the
weights as W = V + beta c^T with one number c for each unit. Then

    z  = x W + bias       = s V + (s beta) c + q + bias     with q = beta W
    dV = s^T dz,    dc = sum of dz over the samples,    dq = sum of (x beta) dz

is exact: the same gradient descent, not an approximation. Products walk over the pixels that are not zero (``sparse``
or ``singles``), and weights whose pixels are zero in the whole mini-batch are not even looked at; what they are due is
kept in c. Every update rule is linear, so c and q follow the one that the weights follow, as if they were weights of
two more inputs, 1 and x beta. From time to time the weights take in beta c^T, and q is summed anew (``fold``). The
projections s beta of all samples are computed once per training (``project``).

Against adding beta times the sum of dz to all weights at once, back-propagation at 784-64-10, batch 32, takes 16 % less
time on one thread (11.0 instead of 13.1 us a mini-batch), and 18 % less at 784-512-10 on two.

Where the inputs have no such background, ``origin`` is the mean instead of 0 and beta is 0; see ``standardisation``.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.machine import prefetch
from fastmlp.kernels.marks import COLUMNS, MARK, transpose_rows
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    accumulate_rows,
    add,
    lanes_of,
    load,
    multiply,
    multiply_add,
    multiply_add_rows,
    store,
    sum_elements,
    sum_rows,
    zeros,
)
from fastmlp.kernels.tile_inputs import load_as, multiply_floats


@phase
def gather(x, n_features, order, first, samples, raw, raw_start, first_input, last_input, columns, starts, ahead):
    """The samples of a mini-batch as they are, transposed.

    Then one comparison tells which samples are not zero at an input, and bytes stay bytes until they are multiplied:
    against floats in the order of the samples, whose flags are transposed, an evaluation takes 5 to 8 % less time at
    784-64-10, and a mini-batch of 32 up to 4 % less at 784-512-10; one of 8 takes 3 to 6 % more at 784-64-10.

    Parameters
    ----------
    x : uint8 or float (flat)
        Samples of ``n_features`` finite values each.
    order : uint32
        The samples are ``order[first : first + samples]``.
    raw : as x (flat), overwritten
        ``[inputs][columns]`` at ``raw_start``; what is after the samples is not defined.
    first_input, last_input : int
        Range of inputs: all, or at least ``COLUMNS`` that there are. After ``n_features`` they are zero.
    columns : int
        16, 32 or 64, at least ``samples``.
    starts : uint64, overwritten
        ``[columns]``: where the samples begin.
    ahead : int
        ``order[ahead : ahead + samples]`` will be gathered next: their cache lines are asked for.
    """
    for row in range(columns):
        put(starts, row, np.uint64(get(order, first + min(row, samples - 1))) * np.uint64(n_features))
    for i in range(n_features * columns, last_input * columns):
        put(raw, raw_start + i, raw.dtype.type(0))
    if n_features < COLUMNS:
        for row in range(samples):
            for i in range(n_features):
                put(raw, raw_start + i * columns + row, get(x, np.int64(get(starts, row)) + i))
        return
    last = min(n_features, last_input)
    for start in range(first_input, last, COLUMNS):
        if (start - first_input) % WORD == 0 and ahead + samples <= len(order):
            # 30 % less time here at 784-64-10 on one thread; to ask for them bit by bit during the products that follow
            # takes from these what it saves here
            for row in range(samples):
                prefetch(x, np.int64(get(order, ahead + row)) * n_features + start)
        i = min(start, last - COLUMNS)
        if columns < MARK:
            for row in range(0, samples, 8):
                transpose_rows(x, starts, row, i, raw, raw_start + i * columns + row, columns, 8)
        else:
            for row in range(0, samples, MARK):
                transpose_rows(x, starts, row, i, raw, raw_start + i * columns + row, columns, MARK)


@phase
def scale_floats(x, start, columns, samples, factor, first_input, last_input):
    """``x = x * factor`` if these are floats; bytes stay as they are, and wait for a factor that they have in common.

    Floats could overflow without theirs.

    Parameters
    ----------
    x : uint8 or float (flat), overwritten
        ``[inputs][columns]`` at ``start``, from ``gather``; whole registers are written.
    columns, samples : int
        Room, and samples in use.
    factor : float
        1 / std of each feature; zero where there is no feature, up to whole words of ``WORD`` inputs.
    first_input, last_input : int
        Range of inputs.
    """
    lanes = lanes_of(factor)
    for i in range(first_input, last_input):
        for row in range(0, samples, lanes):
            multiply_floats(x, start + i * columns + row, get(factor, i))


@phase
def project(x, n_features, samples, factor, beta, projections):
    """``projections = (x * factor) beta`` for the first ``samples`` samples.

    Parameters
    ----------
    x, n_features, factor
        As in ``gather``.
    beta : float
        Standardised background of each feature.
    projections : float (samples,), overwritten
    """
    block = VECTORS * lanes_of(beta)
    whole = n_features // block * block
    for sample in range(samples):
        start = sample * n_features
        sums = zeros(beta, 1, VECTORS)
        for i in range(0, whole, block):
            s = multiply(load_as(beta, x, start + i, 0, 1, VECTORS), load(factor, i, 0, 1, VECTORS))
            sums = add(sums, multiply(s, load(beta, i, 0, 1, VECTORS)))
        total = sum_elements(sums)
        for i in range(whole, n_features):
            total += beta.dtype.type(get(x, start + i)) * get(factor, i) * get(beta, i)
        put(projections, sample, beta.dtype.type(total))


@phase
def background_product(first_input, last_input, beta, w, w_start, q, q_start):
    """``q = beta W`` for a range of inputs, multiples of ``ROWS``, and one block of weights ``[inputs][BLOCK]``."""
    block = VECTORS * lanes_of(w)
    total = zeros(w, 1, VECTORS)
    for i in range(first_input, last_input, ROWS):
        total = accumulate_rows(total, beta, i, 1, load(w, w_start + i * block, block, ROWS, VECTORS))
    store(q, q_start, 0, total)


@phase
def fold(first_input, last_input, beta, w, w_start, c_start, q, q_start):
    """``W += beta c^T; q = beta W`` for one block of weights; also for velocities and gradients.

    Parameters
    ----------
    first_input, last_input : int
        Range of inputs; multiples of ``ROWS``.
    beta : float (inputs,)
        Standardised background.
    w : float (flat), overwritten
        ``[inputs][BLOCK]`` at ``w_start``, and its ``[BLOCK]`` of c.
    q : float (flat), overwritten
        ``[BLOCK]`` at ``q_start``.
    """
    block = VECTORS * lanes_of(w)
    for i in range(first_input, last_input, ROWS):
        offset = w_start + i * block
        store(w, offset, block, multiply_add(load(w, offset, block, ROWS, VECTORS), beta, i, 1, w, c_start))
    background_product(first_input, last_input, beta, w, w_start, q, q_start)


@kernel
def project_deltas(projections, p_start, deltas, d_start, rows):
    """The rows of a block of deltas ``[rows][BLOCK]``, each times the projection of its sample, added up.

    A tile of one row; ``rows`` is a multiple of ``ROWS``.
    """
    block = VECTORS * lanes_of(deltas)
    total = zeros(deltas, ROWS, VECTORS)
    for row in range(0, rows, ROWS):
        tile = load(deltas, d_start + row * block, block, ROWS, VECTORS)
        total = multiply_add_rows(total, projections, p_start + row, tile)
    return sum_rows(total)
