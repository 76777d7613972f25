"""Lists of which inputs are not zero at which samples: what products that skip zeros walk along.

A walk is one input, or a few that are often zero together, and the samples that are not zero at any of them.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.layout import WALK_COUNTS, WORD
from fastmlp.kernels.marks import MARK, clear_marks, mark_nonzero, nonzero_samples, transpose_bits
from fastmlp.kernels.tile import VECTORS, lanes_of

# Inputs whose samples are walked over together: the more, the less often is a loop entered, and the more zeros are
# multiplied. Neighbouring pixels are often zero together, units that a ReLU has switched off are not. Quads are two
# pairs, one below the other if the inputs are an image: 26 % of MNIST's are not empty, but 28 % of four in a row. That
# is 2 to 4 % of the time at 784-1024-10 and 6 % of an evaluation at 784-64-10.
PAIR = 2

TWO_MARKS = 2 * MARK  # has a name as Numba takes no expression for a literal


@phase
def mark_block(a, start, samples, rows, nonzero, n_start, capacity, b):
    """Which numbers of block ``b`` of a panel are not zero.

    Parameters
    ----------
    a : float (flat)
        The block ``[rows][BLOCK]`` at ``start``.
    samples, rows : int
        Rows in use; after them, up to ``rows`` (at most ``capacity``), nothing is marked.
    nonzero : uint64 (flat), overwritten
        ``[words][capacity]`` at ``n_start``: this block's bits only, since threads share words.
    """
    block = VECTORS * lanes_of(a)
    word = n_start + b * block // WORD * capacity
    for row in range(samples):
        mark_nonzero(a, a, start + row * block, nonzero, word + row, b * block % WORD)
    for row in range(samples, rows):
        clear_marks(a, nonzero, word + row, b * block % WORD)


@phase
def mark_panel(a, start, blocks, samples, rows, nonzero, capacity, words):
    """Which numbers of some blocks of a panel are not zero.

    Parameters
    ----------
    a, start
        The first block, as in ``mark_block``; the others follow every ``capacity`` rows.
    samples, rows
        As in ``mark_block``.
    nonzero : uint64 (flat), overwritten
        ``[words][capacity]``: bits for the ``blocks``, and zeros up to whole words.
    """
    for word in range(words):
        for row in range(rows):
            put(nonzero, word * capacity + row, np.uint64(0))
    for b in range(blocks):
        mark_block(a, start + b * capacity * VECTORS * lanes_of(a), samples, rows, nonzero, 0, capacity, b)


@phase
def mark_samples(nonzero, n_start, capacity, words, sample_words, marks):
    """Which samples have a non-zero value at each input: the bits of ``nonzero``, transposed.

    Parameters
    ----------
    nonzero : uint64 (flat)
        ``[words][capacity]`` at ``n_start``.
    words : int
        Number of words of ``WORD`` inputs.
    sample_words : int
        Number of masks of ``MARK`` samples.
    marks : uint32 (flat), overwritten
        ``[sample_words][words * WORD]``: bit r of a mask stands for sample r of its range.
    """
    for word in range(sample_words):
        for k in range(words):
            transpose_bits(nonzero, n_start + k * capacity + MARK * word, marks, (word * words + k) * WORD)


@kernel
def union(masks, start, count, step):
    """The bits that are set in any of ``count`` masks that are ``step`` apart."""
    bits = get(masks, start)
    for i in range(1, count):
        bits |= get(masks, start + i * step)
    return np.uint64(bits)


@kernel
def _append(walks, stride, count, empty, inputs, samples):
    """Add a walk to a list; returns how many there are with and without samples."""
    put(walks, stride - 1 - empty, inputs)
    put(walks, count, inputs)
    put(walks, stride + count, samples)
    # a branch would often be mispredicted
    return count + (samples != 0), empty + (samples == 0)


@kernel
def _finish(walks, count, empty):
    put(walks, len(walks) - 2, np.uint64(count))
    put(walks, len(walks) - 1, np.uint64(empty))


@phase
def list_units(marks, words, inputs, walks, stride):
    """List inputs that any of up to 64 samples is not zero at, and those samples; and the other inputs.

    Parameters
    ----------
    marks : uint32 (flat)
        ``[words][stride]``, from ``mark_samples``.
    inputs : int
        Number of inputs, a multiple of BLOCK.
    walks : uint64 (flat), overwritten
        ``[2][stride]``: the (first) input of each walk, and a bit for each of its samples; from the end of the first
        row backwards, the inputs without any. The last two elements of the array are how many there are of both.
    """
    count, empty = 0, 0
    for i in range(inputs):
        samples = np.uint64(get(marks, i))
        if words > 1:
            samples |= np.uint64(get(marks, stride + i)) << np.uint64(MARK)
        count, empty = _append(walks, stride, count, empty, np.uint64(i), samples)
    _finish(walks, count, empty)


@kernel
def _nonzero_in_pair(x, start, columns, i, samples):
    """Which of the samples, 1 to 64, are not zero at inputs ``i`` and ``i + 1``, as bits."""
    if columns > MARK:  # there is room for two
        bits = nonzero_samples(x, start + i * columns, columns, PAIR, TWO_MARKS)
    else:
        bits = nonzero_samples(x, start + i * columns, columns, PAIR, MARK)
    return bits & (~np.uint64(0) >> np.uint64(64 - samples))


@phase
def list_inputs(x, start, columns, samples, first, last, apart, pairs, quads, stride, count, empty):
    """List quads of inputs: two pairs, the second ``apart`` inputs behind the first.

    Parameters
    ----------
    x : uint8 or float (flat)
        ``[inputs][columns]`` at ``start``, with numbers of any kind after the samples.
    samples : int
    first, last : int
        Range of inputs; multiples of 4.
    apart : int
        Even. Where fewer than twice as many inputs are left, the pairs of a quad are neighbours.
    pairs : bool
        Whether to list the samples of each pair too: only steps by pairs ask for them, see ``sparse.steps_pairs``.
    quads : uint64 (flat), overwritten
        As in ``list_units``, but ``[4][stride]``, the last two rows for the samples of the pairs. The first inputs of
        both pairs are listed, the second 32 bits to the left.
    count, empty : int
        How many are listed already, with and without samples.

    Returns
    -------
    int, int
        How many are listed now.
    """
    while first < last:
        if first + 2 * apart > last:
            apart = PAIR
        for i in range(first, first + apart, PAIR):
            bits = _nonzero_in_pair(x, start, columns, i, samples)
            others = _nonzero_in_pair(x, start, columns, i + apart, samples)
            if pairs:
                put(quads, 2 * stride + count, bits)
                put(quads, 3 * stride + count, others)
            quad = np.uint64(i) | np.uint64(i + apart) << np.uint64(32)
            count, empty = _append(quads, stride, count, empty, quad, bits | others)
        first += 2 * apart
    _finish(quads, count, empty)
    return count, empty


@kernel
def samples_of_pair(quads, stride, k, pair):
    """The samples of pair 0 or 1 of quad ``k``, if ``list_inputs`` was told to list them, as bits."""
    return get(quads, (2 + pair) * stride + k)


@kernel
def pairs_of(quad):
    """The first inputs of the pairs of a quad."""
    return np.int64(quad & np.uint64(0xFFFFFFFF)), np.int64(quad >> np.uint64(32))


@kernel
def begin_half(walks, half, count):
    """Note that ``count`` walks are listed before those of this half of the inputs, or before the end."""
    put(walks, len(walks) - WALK_COUNTS + half, np.uint64(count))


@kernel
def walks_of_half(walks, half):
    """The first of the walks of a half of the inputs, and the one after its last."""
    place = len(walks) - WALK_COUNTS + half
    return np.int64(get(walks, place)), np.int64(get(walks, place + 1))


@kernel
def walk_count(walks):
    """How many walks with samples are listed."""
    return np.int64(get(walks, len(walks) - 2))


@kernel
def empty_count(walks):
    """How many inputs without samples are listed."""
    return np.int64(get(walks, len(walks) - 1))
