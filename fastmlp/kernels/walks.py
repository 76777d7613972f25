"""Lists of which inputs are not zero at which samples: what products that skip zeros walk along.

A walk is one input, or a few that are often zero together, and the samples that are not zero at any of them.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.layout import MARK, WORD
from fastmlp.kernels.tile import VECTORS, clear_marks, get, lanes_of, mark_nonzero, put, transpose_bits

# Inputs whose samples are walked over together: the more, the less often is a loop entered, and the more zeros are
# multiplied. Neighbouring pixels are often zero together, units that a ReLU has switched off are not. Quads are two
# pairs, one below the other if the inputs are an image: 26 % of MNIST's are not empty, but 28 % of four in a row. That
# is 2 to 4 % of the time at 784-1024-10 and 6 % of an evaluation at 784-64-10.
SINGLE, PAIR = 1, 2


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


def _mark_samples(together):
    """Make the kernel for every single input, or for pairs."""

    @phase
    def mark_samples(nonzero, n_start, capacity, words, sample_words, marks):
        """Which samples have a non-zero value at each input (or pair of inputs): the bits of ``nonzero``, transposed.

        Parameters
        ----------
        nonzero : uint64 (flat)
            ``[words][capacity]`` at ``n_start``.
        words : int
            Number of words of ``WORD`` inputs.
        sample_words : int
            Number of masks of ``MARK`` samples.
        marks : uint32 (flat), overwritten
            ``[sample_words][words * WORD]``: bit r of a mask stands for sample r of its range. Of pairs, only the masks
            of the first inputs are written.
        """
        for word in range(sample_words):
            for k in range(words):
                target = (word * words + k) * WORD
                transpose_bits(nonzero, n_start + k * capacity + MARK * word, marks, target, together)

    return mark_samples


mark_samples, mark_samples_of_pairs = _mark_samples(SINGLE), _mark_samples(PAIR)


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


def _list_walks(granule):
    """Make the kernel that lists walks over the samples of every input, or of pairs of neighbouring inputs."""

    @phase
    def list_walks(marks, words, inputs, walks, stride):
        """List inputs that any of up to 64 samples is not zero at, and those samples; and the other inputs.

        Parameters
        ----------
        marks : uint32 (flat)
            ``[words][stride]``, from ``mark_samples`` or, for pairs, from ``mark_samples_of_pairs``.
        inputs : int
            Number of inputs, a multiple of BLOCK.
        walks : uint64 (flat), overwritten
            ``[2][stride]``: the (first) input of each walk, and a bit for each of its samples; from the end of the
            first row backwards, the inputs without any. The last two elements of the array are how many there are of
            both.
        """
        count, empty = 0, 0
        for i in range(0, inputs, granule):
            samples = np.uint64(get(marks, i))
            if words > 1:
                samples |= np.uint64(get(marks, stride + i)) << np.uint64(MARK)
            count, empty = _append(walks, stride, count, empty, np.uint64(i), samples)
        _finish(walks, count, empty)

    return list_walks


list_single, list_pairs = _list_walks(SINGLE), _list_walks(PAIR)


@phase
def list_quads(marks, words, inputs, walks, stride, apart):
    """List quads of inputs: two pairs, the second ``apart`` inputs behind the first.

    Parameters
    ----------
    marks, words, inputs, stride
        As in ``list_walks``, from ``mark_samples_of_pairs``.
    walks : uint64 (flat), overwritten
        As in ``list_walks``, with the first inputs of both pairs, the second of them 32 bits to the left.
    apart : int
        Even. Where fewer than twice as many inputs are left, pairs are neighbours.
    """
    count, empty, first = 0, 0, 0
    while first < inputs:
        if first + 2 * apart > inputs:
            apart = PAIR
        for i in range(first, first + apart, PAIR):
            samples = union(marks, i, 2, apart)
            if words > 1:
                samples |= union(marks, stride + i, 2, apart) << np.uint64(MARK)
            quad = np.uint64(i) | np.uint64(i + apart) << np.uint64(32)
            count, empty = _append(walks, stride, count, empty, quad, samples)
        first += 2 * apart
    _finish(walks, count, empty)


@kernel
def pairs_of(quad):
    """The first inputs of the pairs of a quad."""
    return np.int64(quad & np.uint64(0xFFFFFFFF)), np.int64(quad >> np.uint64(32))


@kernel
def walk_count(walks):
    """How many walks with samples are listed."""
    return np.int64(get(walks, len(walks) - 2))


@kernel
def empty_count(walks):
    """How many inputs without samples are listed."""
    return np.int64(get(walks, len(walks) - 1))
