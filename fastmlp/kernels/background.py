"""The input layer: gathering samples, and products that skip the background.

81 % of the pixels of MNIST are zero. With standardised inputs x = (value - mean) / std they are all the same number
beta = -mean / std. Write a sample as x = beta + s, where s = value / std is zero wherever the pixel is. Then

    z  = x W + bias = s W + (beta W + bias)
    dW = x^T dz     = s^T dz + beta^T (sum of dz over the samples)

so that sparse products plus one row vector are exact: the same gradient descent, not an approximation. Zeros that
are multiplied anyway change nothing, so skipping more or fewer of them gives the same bits.

Where the inputs have no such background, ``origin`` is the mean instead of 0 and beta is 0; see ``standardisation``.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.dense import sum_samples
from fastmlp.kernels.layout import GRANULE
from fastmlp.kernels.machine import count_trailing_zeros, prefetch
from fastmlp.kernels.tile import (
    VECTORS,
    add,
    column_bits,
    lanes_of,
    load,
    load_as,
    multiply,
    multiply_add,
    multiply_add_rows,
    nonzero_bits,
    store,
    subtract,
    sum_rows,
    zeros,
)

# Samples that share one walk over the inputs: 39 % of MNIST's inputs are non-zero in at least one of four.
GROUP = 4

ONE = np.uint64(1)


@phase
def gather(x, n_features, order, first, samples, rows, origin, factor, from_block, to_block, a, capacity, nonzero):
    """``a = (x - origin) * factor`` for the samples of a mini-batch, and where it is not zero.

    Parameters
    ----------
    x : uint8 or float (flat)
        Samples of ``n_features`` values each.
    order : uint32
        The samples are ``order[first : first + samples]``.
    rows : int
        ``samples`` rounded up to whole masks of 32; the rows after the samples are set to zero.
    origin, factor : float (blocks * BLOCK,)
        Standardisation of each feature; zero where there is no feature.
    from_block, to_block : int
        The blocks of inputs wanted.
    a : float (flat), overwritten
        Panel ``[blocks][capacity][BLOCK]``.
    nonzero : uint32 (flat), overwritten
        ``[blocks][capacity]``: bit i of a word says whether input i of the block differs from the background.
    """
    block = VECTORS * lanes_of(a)
    whole = min(to_block, n_features // block)
    for row in range(samples):
        start = np.int64(order[first + row]) * n_features
        for k in range(from_block, whole):
            tile = load_as(a, x, start + k * block, 0, 1, VECTORS)
            tile = multiply(
                subtract(tile, load(origin, k * block, 0, 1, VECTORS)), load(factor, k * block, 0, 1, VECTORS)
            )
            store(a, (k * capacity + row) * block, 0, tile)
            nonzero[k * capacity + row] = nonzero_bits(tile)
        if whole < to_block:
            k = whole
            bits = np.uint64(0)
            for i in range(block):
                value = a.dtype.type(0)
                feature = k * block + i
                if feature < n_features:
                    value = (a.dtype.type(x[start + feature]) - origin[feature]) * factor[feature]
                if value != 0:
                    bits |= ONE << np.uint64(i)
                a[(k * capacity + row) * block + i] = value
            nonzero[k * capacity + row] = bits
    for k in range(from_block, to_block):
        for row in range(samples, rows):
            nonzero[k * capacity + row] = 0
            store(a, (k * capacity + row) * block, 0, zeros(a, 1, VECTORS))


@phase
def mark_samples(nonzero, capacity, inputs, words, block, marks):
    """Which samples have a non-zero value among each ``GRANULE`` neighbouring inputs.

    Parameters
    ----------
    nonzero : uint32 (flat)
        ``[inputs][capacity]`` from ``gather``.
    words : int
        Number of masks of 32 samples.
    block : int
        Inputs of a block.
    marks : uint32 (flat), overwritten
        ``[inputs][BLOCK / GRANULE][words]``: bit r of word w stands for sample 32 w + r.
    """
    granules = block // GRANULE
    for k in range(inputs):
        for granule in range(granules):
            mask = ((ONE << np.uint64(GRANULE)) - ONE) << np.uint64(granule * GRANULE)
            for word in range(words):
                marks[(k * granules + granule) * words + word] = column_bits(nonzero, k * capacity + 32 * word, mask)


@phase
def forward(a, capacity, rows, inputs, nonzero, w, w_start, bias, constant, c_start, z, z_start):
    """``z = s W + (bias + constant)`` for one block of outputs.

    Parameters
    ----------
    a, capacity, rows, inputs, nonzero
        s and its masks, from ``gather``.
    w : float (flat)
        Block of weights ``[inputs * BLOCK][BLOCK]`` at ``w_start``, its bias ``[BLOCK]`` at ``bias``.
    constant : float (flat)
        beta W, ``[BLOCK]`` at ``c_start``.
    z : float (flat), overwritten
        Block ``[rows][BLOCK]`` at ``z_start``.
    """
    block = VECTORS * lanes_of(z)
    for row in range(0, rows, GROUP):
        tile = add(load(w, bias, 0, GROUP, VECTORS), load(constant, c_start, 0, GROUP, VECTORS))
        for k in range(inputs):
            word = k * capacity + row
            bits = np.uint64(nonzero[word] | nonzero[word + 1] | nonzero[word + 2] | nonzero[word + 3])
            while bits != 0:
                i = count_trailing_zeros(bits)
                bits &= bits - ONE
                tile = multiply_add(tile, a, word * block + i, block, w, w_start + (k * block + i) * block)
        store(z, z_start + row * block, block, tile)


@phase
def weight_step(
    rule, first, last, momentum, shrink, a, capacity, samples, inputs, marks, beta, deltas, d_start, w, v, sums, w_start,
    bias, constant, c_start
):  # fmt: skip
    """One step for one block of weights and its biases: ``s^T deltas + beta^T sum(deltas)``, then the update rule.

    Parameters
    ----------
    rule, first, last, momentum, shrink
        See ``optimizer``.
    a, capacity, inputs
        s, from ``gather``.
    samples : int
        Rows in use, any number.
    marks : uint32 (flat)
        From ``mark_samples``.
    beta : float (inputs * BLOCK,)
        Standardised background.
    deltas : float (flat)
        Block ``[samples][BLOCK]`` at ``d_start``, already multiplied by -learning_rate / batch_size; the row after the
        last sample's padding is not read.
    w, v, sums : float (flat), overwritten
        Block ``[inputs * BLOCK][BLOCK]`` at ``w_start``, biases at ``bias``: weights, velocities, sums.
    constant : float (flat), overwritten
        beta W with the new weights, ``[BLOCK]`` at ``c_start``: summed while they are in registers.
    """
    block = VECTORS * lanes_of(w)
    granules = block // GRANULE
    words = (samples + 31) // 32
    total = sum_samples(deltas, d_start, (samples + 7) // 8 * 8)
    store(constant, c_start, 0, total)
    background = zeros(w, GRANULE, VECTORS)
    for k in range(inputs):
        for granule in range(granules):
            i = k * block + granule * GRANULE
            offset = w_start + i * block
            tile = optimizer.begin(rule, first, zeros(w, GRANULE, VECTORS), w, sums, offset, shrink)
            tile = multiply_add(tile, beta, i, 1, constant, c_start)
            for word in range(words):
                bits = np.uint64(marks[(k * granules + granule) * words + word])
                while bits != 0:
                    row = 32 * word + count_trailing_zeros(bits)
                    bits &= bits - ONE
                    a_offset = (k * capacity + row) * block + granule * GRANULE
                    tile = multiply_add(tile, a, a_offset, 1, deltas, d_start + row * block)
            weights = optimizer.end(rule, last, tile, w, v, sums, offset, momentum, shrink)
            background = multiply_add_rows(background, beta, i, weights)
    store(constant, c_start, 0, sum_rows(background))
    optimizer.step_bias(rule, first, last, total, w, v, sums, bias, momentum)


@phase
def background_constant(inputs, beta, w, w_start, constant, c_start):
    """``constant = beta W`` for one block of weights, in the order of ``weight_step``."""
    block = VECTORS * lanes_of(w)
    background = zeros(w, GRANULE, VECTORS)
    for i in range(0, inputs * block, GRANULE):
        weights = load(w, w_start + i * block, block, GRANULE, VECTORS)
        background = multiply_add_rows(background, beta, i, weights)
    store(constant, c_start, 0, sum_rows(background))


@kernel
def prefetch_samples(x, n_features, order, first, last):
    """Ask for the rows of the next mini-batch while this one is computed."""
    line = 64 // x.itemsize
    for position in range(first, last):
        start = np.int64(order[position]) * n_features
        for offset in range(start, start + n_features, line):
            prefetch(x, offset)
