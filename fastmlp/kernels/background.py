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
from fastmlp.kernels.layout import MARK, WORD
from fastmlp.kernels.machine import count_trailing_zeros, prefetch
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    accumulate_rows,
    add,
    get,
    lanes_of,
    load,
    load_as,
    load_blocks,
    multiply,
    multiply_add_blocks,
    nonzero_bits,
    put,
    store,
    store_blocks,
    transpose_bits,
    zeros,
)

# Samples that share one walk over the inputs: 39 % of MNIST's inputs are non-zero in at least one of four.
GROUP = 4

# Words of inputs whose weights and samples stay in the first-level cache while all samples pass (2 * 64 inputs).
INPUT_WORDS = 2

ONE = np.uint64(1)


@phase
def gather(x, n_features, order, first, samples, rows, factor, words, a, capacity, nonzero):
    """``a = x * factor`` for the samples of a mini-batch, and where it is not zero.

    Parameters
    ----------
    x : uint8 or float (flat)
        Samples of ``n_features`` finite values each.
    order : uint32
        The samples are ``order[first : first + samples]``.
    rows : int
        ``samples`` rounded up; the rows after the samples are set to zero.
    factor : float
        1 / std of each feature; zero where there is no feature, up to whole words of ``WORD`` inputs.
    words : int
        Number of words of inputs.
    a : float (flat), overwritten
        Panel ``[words][capacity][WORD]``.
    nonzero : uint32 (flat), overwritten
        ``[inputs / MARK][capacity]``: bit i of a word says whether input i of its range differs from zero.
    """
    block = VECTORS * lanes_of(a)
    for i in range(0, words * WORD, block):
        target = i // WORD * capacity * WORD + i % WORD
        word = i // MARK * capacity
        tile_factor = load(factor, i, 0, 1, VECTORS)
        whole = samples if i + block <= n_features else 0
        if i % 64 == 0 and first + 2 * samples <= len(order):
            for row in range(samples):
                prefetch(x, np.int64(get(order, first + samples + row)) * n_features + i)
        for row in range(whole):
            start = np.int64(get(order, first + row)) * n_features + i
            store(a, target + row * WORD, 0, multiply(load_as(a, x, start, 0, 1, VECTORS), tile_factor))
            mark(nonzero, word + row, i, nonzero_bits(a, x, start))
        for row in range(whole, rows):
            offset = target + row * WORD
            store(a, offset, 0, zeros(a, 1, VECTORS))
            if row < samples:
                start = np.int64(get(order, first + row)) * n_features
                for feature in range(i, min(i + block, n_features)):
                    put(a, offset + feature - i, a.dtype.type(get(x, start + feature)))
                store(a, offset, 0, multiply(load(a, offset, 0, 1, VECTORS), tile_factor))
            mark(nonzero, word + row, i, nonzero_bits(a, a, offset))


@kernel
def mark(nonzero, offset, i, bits):
    """Write which of the inputs from ``i`` on are not zero into their bits of a word."""
    bits <<= np.uint64(i % MARK)
    if i % MARK != 0:
        bits |= np.uint64(get(nonzero, offset))
    put(nonzero, offset, bits)


@phase
def mark_samples(nonzero, capacity, inputs, words, marks):
    """Which samples have a non-zero value at each input: the bits of ``nonzero``, transposed.

    Parameters
    ----------
    nonzero : uint32 (flat)
        ``[inputs / MARK][capacity]`` from ``gather``.
    inputs : int
        Number of inputs, a multiple of MARK.
    words : int
        Number of masks of 32 samples.
    marks : uint32 (flat), overwritten
        ``[words][inputs]``: bit r of word w stands for sample 32 w + r.
    """
    for word in range(words):
        for i in range(inputs // MARK):
            transpose_bits(nonzero, i * capacity + 32 * word, marks, word * inputs + i * MARK)


def _forward(group, blocks):
    """Make the kernel for tiles of ``group`` samples and some neighbouring blocks of outputs, which share a walk."""

    @phase
    def forward(
        a, capacity, rows, inputs, nonzero, w, w_start, w_gap, bias, constant, c_start, z, z_start, z_gap
    ):  # fmt: skip
        """``z = s W + (bias + constant)`` for ``blocks`` blocks of outputs.

        Parameters
        ----------
        a, capacity, rows, nonzero
            s in blocks of ``WORD`` inputs, and its masks, from ``gather``.
        inputs : int
            Number of words of ``WORD`` inputs.
        w : float (flat)
            Blocks of weights ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``; the biases of all blocks,
            ``[blocks * BLOCK]``, at ``bias``.
        constant : float (flat)
            beta W of all blocks, ``[blocks * BLOCK]`` at ``c_start``.
        z : float (flat), overwritten
            Blocks ``[rows][BLOCK]`` at ``z_start`` and then every ``z_gap``.
        """
        block = VECTORS * lanes_of(z)
        for first in range(0, inputs, INPUT_WORDS):
            last = min(first + INPUT_WORDS, inputs)
            for row in range(0, rows, group):
                if first == 0:
                    tile = load_blocks(w, bias, 0, block, group, blocks)
                    tile = add(tile, load_blocks(constant, c_start, 0, block, group, blocks))
                else:
                    tile = load_blocks(z, z_start + row * block, block, z_gap, group, blocks)
                for k in range(first, last):
                    low = 2 * k * capacity + row
                    bits = union(nonzero, low, group) | union(nonzero, low + capacity, group) << np.uint64(MARK)
                    a_start = (k * capacity + row) * WORD
                    w_offset = w_start + k * WORD * block
                    while bits != 0:
                        i = count_trailing_zeros(bits)
                        bits &= bits - ONE
                        tile = multiply_add_blocks(tile, a, a_start + i, WORD, w, w_offset + i * block, w_gap)
                store_blocks(z, z_start + row * block, block, z_gap, tile)

    return forward


forward_one, forward_two, forward_four = _forward(4, 1), _forward(2, 2), _forward(1, 4)


@kernel
def union(masks, start, count):
    """The bits that are set in any of ``count`` masks."""
    bits = get(masks, start)
    for i in range(1, count):
        bits |= get(masks, start + i)
    return np.uint64(bits)


@phase
def background_constant(inputs, beta, w, w_start, constant, c_start):
    """``constant = beta W`` for one block of weights, in the order of ``weight_step``."""
    block = VECTORS * lanes_of(w)
    background = zeros(w, 1, VECTORS)
    for i in range(0, inputs, ROWS):
        background = accumulate_rows(background, beta, i, load(w, w_start + i * block, block, ROWS, VECTORS))
    store(constant, c_start, 0, background)


def _weight_step(granule, blocks):
    """Make the kernel for tiles of ``granule`` inputs and some neighbouring blocks of outputs, which share a walk."""
    vectors = blocks * VECTORS

    @phase
    def weight_step(
        rule, first, last, momentum, shrink, a, capacity, samples, inputs, marks, marked, beta,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap, bias, constant, c_start,
    ):  # fmt: skip
        """One step for some blocks of weights and biases: ``s^T deltas + beta^T sum(deltas)``, then the update rule.

        Parameters
        ----------
        rule, first, last, momentum, shrink
            See ``optimizer``.
        a, capacity, inputs
            s, from ``gather``.
        samples : int
            Rows in use, any number.
        marks, marked : uint32 (flat), int
            From ``mark_samples``, for so many inputs.
        beta : float (inputs,)
            Standardised background.
        deltas : float (flat)
            Blocks ``[samples][BLOCK]`` at ``d_start`` and then every ``d_gap``, already multiplied by
            -learning_rate / batch_size.
        w, v, sums : float (flat), overwritten
            Blocks ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``, the biases of all blocks at ``bias``:
            weights, velocities, sums.
        constant : float (flat), overwritten
            beta W with the new weights, ``[blocks * BLOCK]`` at ``c_start``: summed while they are in registers.
        """
        block = VECTORS * lanes_of(w)
        words = (samples + 31) // 32
        for b in range(blocks):
            total = sum_samples(deltas, d_start + b * d_gap, (samples + ROWS - 1) // ROWS * ROWS)
            store(constant, c_start + b * block, 0, total)
            optimizer.step_bias(rule, first, last, total, w, v, sums, bias + b * block, momentum)
        background = zeros(w, 1, vectors)
        for i in range(0, inputs, granule):
            offset = w_start + i * block
            a_start = i // WORD * capacity * WORD + i % WORD
            tile = optimizer.begin(rule, first, zeros(w, granule, vectors), w, sums, offset, w_gap, shrink)
            tile = multiply_add_blocks(tile, beta, i, 1, constant, c_start, block)
            for word in range(0, words, 2):
                bits = union(marks, word * marked + i, granule)
                if word + 1 < words:
                    bits |= union(marks, (word + 1) * marked + i, granule) << np.uint64(32)
                while bits != 0:
                    row = 32 * word + count_trailing_zeros(bits)
                    bits &= bits - ONE
                    tile = multiply_add_blocks(tile, a, a_start + row * WORD, 1, deltas, d_start + row * block, d_gap)
            weights = optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)
            background = accumulate_rows(background, beta, i, weights)
        store_blocks(constant, c_start, 0, block, background)

    return weight_step


weight_step_one, weight_step_two = _weight_step(4, 1), _weight_step(2, 2)
