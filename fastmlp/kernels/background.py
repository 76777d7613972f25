"""The input layer: gathering samples, and what their background contributes.

81 % of the pixels of MNIST are zero. With standardised inputs x = (value - mean) / std they are all the same number
beta = -mean / std. Write a sample as x = beta + s, where s = value / std is zero wherever the pixel is. Then

    z  = x W + bias = s W + (beta W + bias)
    dW = x^T dz     = s^T dz + beta^T (sum of dz over the samples)

so that products which skip zeros (``sparse``) plus one row vector are exact: the same gradient descent, not an
approximation.

Where the inputs have no such background, ``origin`` is the mean instead of 0 and beta is 0; see ``standardisation``.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import phase
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.machine import prefetch
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    accumulate_rows,
    get,
    lanes_of,
    load,
    load_as,
    mark_nonzero,
    multiply,
    put,
    store,
    zeros,
)


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
        Panel ``[blocks][capacity][BLOCK]``.
    nonzero : uint64 (flat), overwritten
        ``[words][capacity]``: bit i of a word says whether input i of its range differs from zero.
    """
    block = VECTORS * lanes_of(a)
    for i in range(0, words * WORD, block):
        target = i * capacity
        word = i // WORD * capacity
        tile_factor = load(factor, i, 0, 1, VECTORS)
        whole = samples if i + block <= n_features else 0
        if i % WORD == 0 and first + 2 * samples <= len(order):
            # the samples of the next mini-batch: 30 % less time here at 784-64-10 on one thread
            for row in range(samples):
                prefetch(x, np.int64(get(order, first + samples + row)) * n_features + i)
        for row in range(whole):
            start = np.int64(get(order, first + row)) * n_features + i
            store(a, target + row * block, 0, multiply(load_as(a, x, start, 0, 1, VECTORS), tile_factor))
            mark_nonzero(a, x, start, nonzero, word + row, i % WORD)
        for row in range(whole, rows):
            offset = target + row * block
            store(a, offset, 0, zeros(a, 1, VECTORS))
            if row < samples:
                start = np.int64(get(order, first + row)) * n_features
                for feature in range(i, min(i + block, n_features)):
                    put(a, offset + feature - i, a.dtype.type(get(x, start + feature)))
                store(a, offset, 0, multiply(load(a, offset, 0, 1, VECTORS), tile_factor))
            mark_nonzero(a, a, offset, nonzero, word + row, i % WORD)


@phase
def background_constant(inputs, beta, w, w_start, constant, c_start):
    """``constant = beta W`` for one block of weights, in the order of ``weight_step``."""
    block = VECTORS * lanes_of(w)
    background = zeros(w, 1, VECTORS)
    for i in range(0, inputs, ROWS):
        background = accumulate_rows(background, beta, i, load(w, w_start + i * block, block, ROWS, VECTORS))
    store(constant, c_start, 0, background)
