"""The first layer by single inputs: nothing is multiplied by zero.

``sparse`` takes four inputs at a time, or two, to read and write less for each multiply-add; a third of the numbers
that it multiplies are zero then, on MNIST, or a seventh. Registers of 32 bytes multiply half as much at a time as those
of 64, but read and write as often, and then this weighs more than that.

Forwards it walks over the inputs of a sample that are not zero, in the weight step over the samples of an input, by the
same bits transposed. Whole rows of 64 units are accumulated, in as many registers as the latency of the multiply-add
asks for. What is multiplied comes from the first-level cache: there is room for the deltas, and for the weights of
``WORD`` inputs while all samples pass. Samples are neither copied nor transposed nor scaled; where a bit is set, the
number is read where it is, and converted.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.machine import count_trailing_zeros, prefetch
from fastmlp.kernels.marks import MARK, nonzero_samples, transpose_bits
from fastmlp.kernels.tile import VECTORS, lanes_of, load_blocks, store_blocks, zeros
from fastmlp.kernels.tile_inputs import multiply_add_sample
from fastmlp.kernels.walks import union

# Inputs whose weights step together at most, and wait together.
TOGETHER = 4

ONE = np.uint64(1)


@kernel
def _nonzero_of(x, start, n_features, first):
    """Which of up to ``WORD`` features of the sample at ``start`` are not zero, from feature ``first`` on, as bits."""
    if n_features < WORD:
        bits = np.uint64(0)
        for i in range(n_features):
            bits |= np.uint64(get(x, start + i) != 0) << np.uint64(i)
        return bits
    begin = min(first, n_features - WORD)  # never beyond the end of a sample
    return nonzero_samples(x, start + begin, 0, 1, WORD) >> np.uint64(first - begin)


@phase
def mark(x, n_features, order, first, samples, starts, s_start, first_word, last_word, nonzero, capacity, ahead):
    """Which inputs of each sample are not zero.

    Parameters
    ----------
    x, n_features, order, first, ahead
        As in ``background.gather``.
    samples : int
    starts : uint64, overwritten
        Where the samples begin, from ``s_start`` on.
    first_word, last_word : int
        Range of words of ``WORD`` inputs.
    nonzero : uint64 (flat), overwritten
        ``[words][capacity]``; after the samples, up to a multiple of ``MARK``, nothing is marked.
    """
    for row in range(samples):
        put(starts, s_start + row, np.uint64(get(order, first + row)) * np.uint64(n_features))
    rows = (samples + MARK - 1) // MARK * MARK
    asks = ahead + samples <= len(order)
    for word in range(first_word, last_word):
        for row in range(samples):
            if asks:
                prefetch(x, np.int64(get(order, ahead + row)) * n_features + word * WORD)
            bits = _nonzero_of(x, np.int64(get(starts, s_start + row)), n_features, word * WORD)
            put(nonzero, word * capacity + row, bits)
        for row in range(samples, rows):
            put(nonzero, word * capacity + row, np.uint64(0))


@phase
def transpose(nonzero, capacity, samples, first_word, last_word, marks, walks):
    """Which samples are not zero at each input.

    Parameters
    ----------
    nonzero, capacity, samples, first_word, last_word
        From ``mark``.
    marks : uint32 (flat), overwritten
        ``[WORD]``.
    walks : uint64 (flat), overwritten
        ``[inputs]``: a bit for each sample.
    """
    for word in range(first_word, last_word):
        transpose_bits(nonzero, word * capacity, walks, word * WORD)
        if samples > MARK:
            transpose_bits(nonzero, word * capacity + MARK, marks, 0)
            for i in range(WORD):
                both = get(walks, word * WORD + i) | np.uint64(get(marks, i)) << np.uint64(MARK)
                put(walks, word * WORD + i, both)


def _forward(blocks):
    """Make the kernel for some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def forward_samples(
        x, factor, starts, s_start, first_word, last_word, nonzero, capacity, rows, w, w_start, w_gap, z, z_start, z_gap
    ):  # fmt: skip
        """``z = a W`` for some blocks of outputs.

        Parameters
        ----------
        x, starts, s_start, first_word, last_word, nonzero, capacity
            See ``mark``.
        factor : float
            1 / std of each feature, which bytes wait for.
        rows : int
            Rows of ``z`` to fill; those after the samples become 0.
        w : float (flat)
            Blocks of weights ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``.
        z : float (flat), overwritten
            Blocks ``[rows][BLOCK]`` at ``z_start`` and then every ``z_gap``.
        """
        block = VECTORS * lanes_of(z)
        for row in range(rows):
            store_blocks(z, z_start + row * block, 0, z_gap, zeros(z, 1, vectors))
        for word in range(first_word, last_word):
            for row in range(rows):
                target = z_start + row * block
                start = np.int64(get(starts, s_start + row))
                tile = load_blocks(z, target, 0, z_gap, 1, blocks)
                bits = get(nonzero, word * capacity + row)
                while bits != 0:
                    i = word * WORD + count_trailing_zeros(bits)
                    bits &= bits - ONE
                    tile = multiply_add_sample(tile, x, start, i, factor, w, w_start + i * block, w_gap)
                store_blocks(z, target, 0, z_gap, tile)

    return forward_samples


_forward_one, _forward_two, _forward_four = _forward(1), _forward(2), _forward(4)


@phase
def forward(
    n_blocks, x, factor, starts, s_start, first_word, last_word, nonzero, capacity, rows,
    w, w_start, w_gap, z, z_start, z_gap,
):  # fmt: skip
    """``z = a W`` for any number of blocks of outputs, otherwise as above."""
    b = 0
    while b < n_blocks:
        arguments = (
            x, factor, starts, s_start, first_word, last_word, nonzero, capacity, rows,
            w, w_start + b * w_gap, w_gap, z, z_start + b * z_gap, z_gap,
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


@kernel
def none_together(walks, i):
    """Whether none of ``TOGETHER`` inputs, of which ``i`` is one, has samples."""
    return union(walks, i & -TOGETHER, TOGETHER, 1) == 0


def _step(group, blocks):
    """Make the kernel for tiles of ``group`` inputs and some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def step_samples(
        rule, first, last, momentum, shrink, skips, waits, x, factor, starts, s_start, first_input, last_input, walks,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """One step for ``blocks`` blocks of weights: ``a^T deltas``, then the update rule.

        Parameters
        ----------
        rule, first, last, momentum, shrink
            See ``optimizer``.
        skips, waits : bool
            Whether nothing is to be done for inputs without samples; or where ``TOGETHER`` have none, see ``idle``.
        x, factor, starts, s_start
            As in ``forward_samples``.
        first_input, last_input : int
            Range of inputs, a multiple of ``group``; only features if there are more than one in a group.
        walks
            From ``transpose``.
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap
            As in ``sparse.step_quads``.
        """
        block = VECTORS * lanes_of(w)
        for i in range(first_input, last_input, group):
            bits = union(walks, i, group, 1)
            if skips and bits == 0 and (not waits or none_together(walks, i)):
                continue
            offset = w_start + i * block
            tile = optimizer.begin(rule, first, zeros(w, group, vectors), w, sums, offset, w_gap, shrink)
            while bits != 0:
                row = count_trailing_zeros(bits)
                bits &= bits - ONE
                start = np.int64(get(starts, s_start + row))
                tile = multiply_add_sample(tile, x, start, i, factor, deltas, d_start + row * block, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)

    return step_samples


_step_one, _step_two, _step_four, _step_last = _step(TOGETHER, 1), _step(2, 2), _step(1, 4), _step(1, 1)


@phase
def step(
    n_blocks, rule, first, last, momentum, shrink, skips, waits, x, n_features, factor, starts, s_start,
    first_input, last_input, walks, deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """One step for any number of blocks of weights, otherwise as above."""
    last_group = max(min(n_features // TOGETHER * TOGETHER, last_input), first_input)
    options = rule, first, last, momentum, shrink, skips, waits, x, factor, starts, s_start
    b = 0
    while b < n_blocks:
        arguments = walks, deltas, d_start + b * d_gap, d_gap, w, v, sums, w_start + b * w_gap, w_gap
        if n_blocks - b >= 4:
            _step_four(*options, first_input, last_input, *arguments)
            b += 4
        elif n_blocks - b >= 2 and last_group == last_input:
            _step_two(*options, first_input, last_input, *arguments)
            b += 2
        else:
            _step_one(*options, first_input, last_group, *arguments)
            _step_last(*options, last_group, last_input, *arguments)
            b += 1
