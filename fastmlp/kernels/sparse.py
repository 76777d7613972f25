"""Products of a layer whose inputs are zero in many places: they walk over the ones that are not.

Inputs that are skipped are the background of the input layer (see ``background``) and, in wide hidden layers, units
that a ReLU has switched off: after an epoch on MNIST a sample activates a third of 512. Zeros that are multiplied
anyway change nothing, so skipping more or fewer of them gives the same bits, and those of the products in ``dense``.

There are two ways to walk: from input to input of a few samples, whose outputs are in registers (``forward``), or from
sample to sample of a few inputs, whose weights are (``forward_inputs``, ``step_inputs``, ``step_units``). Tiles of few
rows and many blocks skip more, those of many rows and few blocks load less. Most have the same number of accumulators,
as many as the latency of the multiply-add asks for (8 with 2 registers a block; 16 spill where there are 16 registers).
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.layout import MARK, WORD
from fastmlp.kernels.machine import count_trailing_zeros
from fastmlp.kernels.tile import (
    VECTORS,
    accumulate_rows,
    add,
    clear_marks,
    get,
    lanes_of,
    load_blocks,
    mark_nonzero,
    multiply_add_blocks,
    put,
    store_blocks,
    transpose_bits,
    zeros,
)

# Words of inputs whose weights, of four blocks, stay in the first-level cache while all samples pass (32 KiB).
# Measured at 512 x 512, batch 32: 11 % faster than 2; the input layer of one of 64 does not care.
INPUT_WORDS = 1

ONE = np.uint64(1)

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
def _list(walks, stride, count, empty, inputs, samples):
    """Add a walk to a list; returns how many there are with and without samples."""
    put(walks, stride - 1 - empty, inputs)
    put(walks, count, inputs)
    put(walks, stride + count, samples)
    # a branch would often be mispredicted
    return count + (samples != 0), empty + (samples == 0)


@kernel
def _finish_list(walks, count, empty):
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
            count, empty = _list(walks, stride, count, empty, np.uint64(i), samples)
        _finish_list(walks, count, empty)

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
            count, empty = _list(walks, stride, count, empty, quad, samples)
        first += 2 * apart
    _finish_list(walks, count, empty)


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


def _forward(group, blocks):
    """Make the kernel for tiles of ``group`` samples and some neighbouring blocks of outputs."""

    @phase
    def forward_tiles(
        a, a_start, capacity, rows, words, nonzero, n_start, w, w_start, w_gap, bias, b_start, z, z_start, z_gap
    ):  # fmt: skip
        """``z = a W + bias`` for ``blocks`` blocks of outputs, walking over the inputs of each sample.

        Parameters
        ----------
        a : float (flat)
            Panel ``[blocks of inputs][capacity][BLOCK]`` at ``a_start``.
        rows : int
            Rows in use, a multiple of ``group``.
        words : int
            Number of words of ``WORD`` inputs.
        nonzero : uint64 (flat)
            ``[words][capacity]`` at ``n_start``: which inputs of a sample are not zero.
        w : float (flat)
            Blocks of weights ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``.
        bias : float (flat)
            Biases of all blocks, ``[blocks * BLOCK]`` at ``b_start``.
        z : float (flat), overwritten
            Blocks ``[rows][BLOCK]`` at ``z_start`` and then every ``z_gap``.
        """
        block = VECTORS * lanes_of(z)
        for first in range(0, words, INPUT_WORDS):
            last = min(first + INPUT_WORDS, words)
            for row in range(0, rows, group):
                if first == 0:
                    tile = load_blocks(bias, b_start, 0, block, group, blocks)
                else:
                    tile = load_blocks(z, z_start + row * block, block, z_gap, group, blocks)
                for k in range(first, last):
                    bits = union(nonzero, n_start + k * capacity + row, group, 1)
                    word_start = a_start + k * WORD * capacity + row * block
                    w_offset = w_start + k * WORD * block
                    while bits != 0:
                        i = count_trailing_zeros(bits)
                        bits &= bits - ONE
                        a_offset = word_start + i // block * capacity * block + i % block
                        tile = multiply_add_blocks(tile, a, a_offset, block, w, w_offset + i * block, w_gap)
                store_blocks(z, z_start + row * block, block, z_gap, tile)

    return forward_tiles


_forward_one, _forward_two, _forward_four = _forward(4, 1), _forward(2, 2), _forward(1, 4)


@phase
def forward(
    n_blocks, a, a_start, capacity, rows, words, nonzero, n_start, w, w_start, w_gap, bias, b_start, z, z_start, z_gap
):  # fmt: skip
    """``z = a W + bias`` for any number of blocks of outputs, otherwise as above."""
    block = VECTORS * lanes_of(z)
    b = 0
    while b < n_blocks:
        arguments = (
            a, a_start, capacity, rows, words, nonzero, n_start, w, w_start + b * w_gap, w_gap,
            bias, b_start + b * block, z, z_start + b * z_gap, z_gap,
        )  # fmt: skip
        if n_blocks - b >= 4:
            _forward_four(*arguments)
            b += 4
        elif n_blocks - b >= 2:
            _forward_two(*arguments)
            b += 2
        else:
            _forward_one(*arguments)
            b += 1


def _forward_inputs(blocks):
    """Make the kernel for quads of inputs and some neighbouring blocks of outputs."""

    @phase
    def forward_quads(
        a, a_start, capacity, rows, walks, count, stride, w, w_start, w_gap, bias, b_start,
        projections, p_start, background, q_start, c_start, z, z_start, z_gap,
    ):  # fmt: skip
        """``z = a W + (bias + q + p c)`` for ``blocks`` blocks of outputs, walking over the samples of each input.

        The weights of a few inputs are in registers while the samples pass that are not zero there. Neighbouring pixels
        are zero together more often than pixels of different samples.

        Parameters
        ----------
        a, a_start, capacity, w, w_start, w_gap, bias, b_start, z, z_start, z_gap
            As in ``forward_tiles``.
        rows : int
            Rows of ``z`` to fill; those after the samples become what an empty sample gives.
        walks, count, stride
            From ``list_quads``.
        projections, background : float (flat)
            p, ``[rows]`` at ``p_start``; q and c, ``[blocks * BLOCK]`` at ``q_start`` and ``c_start``; see
            ``background``.
        """
        block = VECTORS * lanes_of(z)
        for row in range(rows):
            tile = load_blocks(bias, b_start, 0, block, 1, blocks)
            tile = add(tile, load_blocks(background, q_start, 0, block, 1, blocks))
            tile = multiply_add_blocks(tile, projections, p_start + row, 1, background, c_start, block)
            store_blocks(z, z_start + row * block, 0, z_gap, tile)
        for k in range(count):
            i, j = pairs_of(get(walks, k))
            bits = get(walks, stride + k)
            first = load_blocks(w, w_start + i * block, block, w_gap, PAIR, blocks)
            second = load_blocks(w, w_start + j * block, block, w_gap, PAIR, blocks)
            i = a_start + i // block * capacity * block + i % block
            j = a_start + j // block * capacity * block + j % block
            while bits != 0:
                row = count_trailing_zeros(bits) * block
                bits &= bits - ONE
                tile = load_blocks(z, z_start + row, 0, z_gap, 1, blocks)
                tile = accumulate_rows(tile, a, i + row, first)
                tile = accumulate_rows(tile, a, j + row, second)
                store_blocks(z, z_start + row, 0, z_gap, tile)

    return forward_quads


_inputs_one, _inputs_two = _forward_inputs(1), _forward_inputs(2)


@phase
def forward_inputs(
    n_blocks, a, a_start, capacity, rows, quads, count, stride, w, w_start, w_gap, bias, b_start,
    projections, p_start, background, q_start, c_start, z, z_start, z_gap,
):  # fmt: skip
    """``z = a W + (bias + q + p c)`` for any number of blocks of outputs, otherwise as above.

    Stores set the pace, and quads store once for four multiply-adds: against pairs of inputs they take 6 % less time
    for a whole mini-batch at 784-128-10 and 2 % at 784-512-10 on two threads, although they multiply more zeros.
    """
    block = VECTORS * lanes_of(z)
    b = 0
    while b < n_blocks:
        arguments = (
            a, a_start, capacity, rows, quads, count, stride, w, w_start + b * w_gap, w_gap,
            bias, b_start + b * block, projections, p_start, background, q_start + b * block, c_start + b * block,
            z, z_start + b * z_gap, z_gap,
        )  # fmt: skip
        if n_blocks - b >= 2:
            _inputs_two(*arguments)
            b += 2
        else:
            _inputs_one(*arguments)
            b += 1


@kernel
def steps_of_empty(rule, first, last, shrink, walks):
    """Of how many inputs without samples the weights (or their sums) have to be looked at: all or none."""
    nothing = (rule == optimizer.DIRECT and shrink == 0) or (rule != optimizer.DIRECT and not first and not last)
    return 0 if nothing else empty_count(walks)


def _weight_step(granule, blocks):
    """Make the kernel for tiles of ``granule`` inputs and some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def step_tiles(
        rule, first, last, momentum, shrink, a, a_start, capacity, walks, stride,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """One step for some blocks of weights: ``a^T deltas``, then the update rule.

        Parameters
        ----------
        rule, first, last, momentum, shrink
            See ``optimizer``.
        a, a_start, capacity
            The inputs, as in ``forward``.
        walks, stride
            From ``list_walks``.
        deltas : float (flat)
            Blocks ``[samples][BLOCK]`` at ``d_start`` and then every ``d_gap``, already multiplied by
            -learning_rate / batch_size.
        w, v, sums : float (flat), overwritten
            Blocks ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``: weights, velocities, sums.
        """
        block = VECTORS * lanes_of(w)
        for k in range(walk_count(walks)):
            i = np.int64(get(walks, k))
            offset = w_start + i * block
            a_offset = a_start + i // block * capacity * block + i % block
            tile = optimizer.begin(rule, first, zeros(w, granule, vectors), w, sums, offset, w_gap, shrink)
            bits = get(walks, stride + k)
            while bits != 0:
                row = count_trailing_zeros(bits) * block
                bits &= bits - ONE
                tile = multiply_add_blocks(tile, a, a_offset + row, 1, deltas, d_start + row, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)
        for k in range(steps_of_empty(rule, first, last, shrink, walks)):
            offset = w_start + np.int64(get(walks, stride - 1 - k)) * block
            tile = optimizer.begin(rule, first, zeros(w, granule, vectors), w, sums, offset, w_gap, shrink)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)

    return step_tiles


def _quad_step(blocks):
    """Make the kernel for tiles of a quad of inputs and some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def step_quads(
        rule, first, last, momentum, shrink, a, a_start, capacity, walks, stride,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """As ``step_tiles``, with walks from ``list_quads``."""
        block = VECTORS * lanes_of(w)
        for k in range(walk_count(walks)):
            i, j = pairs_of(get(walks, k))
            offset, other_offset = w_start + i * block, w_start + j * block
            tile = optimizer.begin(rule, first, zeros(w, PAIR, vectors), w, sums, offset, w_gap, shrink)
            other = optimizer.begin(rule, first, zeros(w, PAIR, vectors), w, sums, other_offset, w_gap, shrink)
            i = a_start + i // block * capacity * block + i % block
            j = a_start + j // block * capacity * block + j % block
            bits = get(walks, stride + k)
            while bits != 0:
                row = count_trailing_zeros(bits) * block
                bits &= bits - ONE
                tile = multiply_add_blocks(tile, a, i + row, 1, deltas, d_start + row, d_gap)
                other = multiply_add_blocks(other, a, j + row, 1, deltas, d_start + row, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)
            optimizer.end(rule, last, other, w, v, sums, other_offset, w_gap, momentum, shrink)
        for k in range(steps_of_empty(rule, first, last, shrink, walks)):
            for i in pairs_of(get(walks, stride - 1 - k)):
                offset = w_start + i * block
                tile = optimizer.begin(rule, first, zeros(w, PAIR, vectors), w, sums, offset, w_gap, shrink)
                optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)

    return step_quads


_step_quads, _step_pairs = _quad_step(1), _weight_step(PAIR, 2)
_step_units, _step_units_four = _weight_step(SINGLE, 1), _weight_step(SINGLE, 4)


@phase
def step_inputs(
    n_blocks, rule, first, last, momentum, shrink, a, a_start, capacity, quads, pairs, stride,
    deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """One step for any number of blocks of weights of inputs with a background, otherwise as above.

    Nothing is stored while the samples pass, so that pairs of inputs are best: quads of two blocks take 15 % longer.
    """
    b = 0
    while b < n_blocks:
        before = rule, first, last, momentum, shrink, a, a_start, capacity
        after = stride, deltas, d_start + b * d_gap, d_gap, w, v, sums, w_start + b * w_gap, w_gap
        if n_blocks - b >= 2:
            _step_pairs(*before, pairs, *after)
            b += 2
        else:
            _step_quads(*before, quads, *after)
            b += 1


@phase
def step_units(
    n_blocks, rule, first, last, momentum, shrink, a, a_start, capacity, units, stride,
    deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """One step for any number of blocks of weights of units that a ReLU may have switched off, otherwise as above."""
    b = 0
    while b < n_blocks:
        arguments = (
            rule, first, last, momentum, shrink, a, a_start, capacity, units, stride,
            deltas, d_start + b * d_gap, d_gap, w, v, sums, w_start + b * w_gap, w_gap,
        )  # fmt: skip
        if n_blocks - b >= 4:
            _step_units_four(*arguments)
            b += 4
        else:
            _step_units(*arguments)
            b += 1
