"""Products of a layer whose inputs are zero in many places: they walk over the ones that are not.

Inputs that are skipped are the background of the input layer (see ``background``; where registers are of 32 bytes, see
``singles``) and, in wide hidden layers, units that a ReLU has switched off: after an epoch on MNIST a sample activates
a third of 512. Zeros that are multiplied anyway change nothing, so skipping more or fewer of them gives the same bits,
and those of the products in ``dense``.

There are two ways to walk: from input to input of a few samples, whose outputs are in registers (``forward``), or from
sample to sample of a few inputs, whose weights are (``forward_inputs``, ``step_inputs``, ``step_units``). Tiles of few
rows and many blocks skip more, those of many rows and few blocks load less. Most have the same number of accumulators,
as many as the latency of the multiply-add asks for (8 with 2 registers a block; 16 spill where there are 16 registers).
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.machine import count_trailing_zeros
from fastmlp.kernels.tile import VECTORS, lanes_of, load_blocks, multiply_add_blocks, store_blocks, zeros
from fastmlp.kernels.tile_inputs import accumulate_inputs, multiply_add_inputs
from fastmlp.kernels.vector import MULTIPLIED_BYTES, REGISTER_BYTES
from fastmlp.kernels.walks import PAIR, empty_count, pairs_of, samples_of_pair, union, walk_count

# Words of inputs whose weights, of four blocks, stay in the first-level cache while all samples pass (32 KiB).
# Measured at 512 x 512, batch 32: 11 % faster than 2; the input layer of one of 64 does not care.
INPUT_WORDS = 1

# Blocks of weights that step together, of quads and of pairs of inputs: as many as there are registers for. Pairs
# multiply 13 % fewer zeros than quads. On an Intel Xeon two blocks of pairs take 3 to 8 % more time for a whole
# mini-batch at 784-128-10 to 784-1024-10 than two of quads, as they walk twice as often. On two threads of an AMD Zen 5
# four blocks of pairs take 3 % less time at 784-512-10 and 4 % at 784-1024-10, on one 1 to 2 % less at 784-128-10.
# On an AMD Zen 4, which multiplies half a register at a time, two of pairs are fastest: with 32 samples on one core,
# 784 x 64 weights step in 7.3 us, two of quads in 7.6; 784 x 256 in 28.7 us, two of quads in 30.6, four of pairs in
# 29.7, as fewer deltas stay in the first-level cache.
STEP_BLOCKS = 2 if REGISTER_BYTES == 64 else 1
PAIR_BLOCKS = 2 * STEP_BLOCKS if MULTIPLIED_BYTES == REGISTER_BYTES else STEP_BLOCKS
_PAIR_VECTORS = PAIR_BLOCKS * VECTORS  # has a name as Numba takes no expression for a literal

ONE = np.uint64(1)


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
    vectors = blocks * VECTORS

    @phase
    def forward_quads(
        x, x_start, columns, numbers, rows, quads, stride, first_walk, last_walk, w, w_start, w_gap, z, z_start, z_gap
    ):  # fmt: skip
        """``z = a W`` for some blocks of outputs, walking over the samples of each input.

        The weights of a few inputs are in registers while the samples pass that are not zero there. Neighbouring pixels
        are zero together more often than pixels of different samples. Bytes are looked up one by one: 784 x 64 weights
        take 7.4 us with 32 samples on one core of an AMD Zen 4, and 8.4 us if bytes are converted by whole registers
        before, of which zeros are most.

        Parameters
        ----------
        x : uint8 or float (flat)
            ``[inputs][columns]`` at ``x_start``.
        numbers : float (256,)
            What bytes stand for.
        rows : int
            Rows of ``z`` to fill; those after the samples become 0.
        quads, stride
            From ``walks.list_inputs``.
        first_walk, last_walk : int
            Which of them.
        w, w_start, w_gap, z, z_start, z_gap
            As in ``forward_tiles``.
        """
        block = VECTORS * lanes_of(z)
        for row in range(rows):
            store_blocks(z, z_start + row * block, 0, z_gap, zeros(z, 1, vectors))
        for k in range(first_walk, last_walk):
            i, j = pairs_of(get(quads, k))
            first = load_blocks(w, w_start + i * block, block, w_gap, PAIR, blocks)
            second = load_blocks(w, w_start + j * block, block, w_gap, PAIR, blocks)
            i, j = x_start + i * columns, x_start + j * columns
            bits = get(quads, stride + k)
            while bits != 0:
                row = count_trailing_zeros(bits)
                bits &= bits - ONE
                target = z_start + row * block
                tile = load_blocks(z, target, 0, z_gap, 1, blocks)
                tile = accumulate_inputs(tile, x, i + row, columns, numbers, first)
                tile = accumulate_inputs(tile, x, j + row, columns, numbers, second)
                store_blocks(z, target, 0, z_gap, tile)

    return forward_quads


_inputs_one, _inputs_two = _forward_inputs(1), _forward_inputs(2)


@phase
def forward_inputs(
    n_blocks, x, x_start, columns, numbers, rows, quads, stride, first_walk, last_walk,
    w, w_start, w_gap, z, z_start, z_gap,
):  # fmt: skip
    """``z = a W`` for any number of blocks of outputs, otherwise as above.

    Stores set the pace, and quads store once for four multiply-adds: against pairs of inputs they take 6 % less time
    for a whole mini-batch at 784-128-10 and 2 % at 784-512-10 on two threads, although they multiply more zeros.
    """
    b = 0
    while b < n_blocks:
        arguments = (
            x, x_start, columns, numbers, rows, quads, stride, first_walk, last_walk,
            w, w_start + b * w_gap, w_gap, z, z_start + b * z_gap, z_gap,
        )  # fmt: skip
        if n_blocks - b >= 2:
            _inputs_two(*arguments)
            b += 2
        else:
            _inputs_one(*arguments)
            b += 1


@kernel
def leaves_empty(rule, first, last, shrink):
    """Whether the weights of inputs without samples (or their sums) stay as they are."""
    return (rule == optimizer.DIRECT and shrink == 0) or (rule != optimizer.DIRECT and not first and not last)


@kernel
def steps_of_empty(rule, first, last, shrink, walks):
    """Of how many inputs without samples the weights (or their sums) have to be looked at: all or none."""
    return 0 if leaves_empty(rule, first, last, shrink) else empty_count(walks)


@kernel
def steps_pairs(n_blocks, rule):
    """Whether some of so many blocks of weights step by pairs of inputs.

    With momentum twice as many blocks as of quads do not: velocities, weights and steps of a tile need more registers
    than there are, and 784-512-10 takes 10 % more time.
    """
    return n_blocks >= PAIR_BLOCKS and (rule == optimizer.DIRECT or PAIR_BLOCKS == STEP_BLOCKS)


def _step_inputs(blocks):
    """Make the kernel for quads of inputs and some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def step_quads(
        rule, first, last, momentum, shrink, x, x_start, columns, numbers, quads, stride,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """One step for some blocks of weights: ``a^T deltas``, then the update rule.

        Parameters
        ----------
        rule, first, last, momentum, shrink
            See ``optimizer``.
        x, x_start, columns, numbers, quads, stride
            As in ``forward_quads``.
        deltas : float (flat)
            Blocks ``[samples][BLOCK]`` at ``d_start`` and then every ``d_gap``, already multiplied by
            -learning_rate / batch_size.
        w, v, sums : float (flat), overwritten
            Blocks ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``: weights, velocities, sums.
        """
        block = VECTORS * lanes_of(w)
        for k in range(walk_count(quads)):
            i, j = pairs_of(get(quads, k))
            offset, other_offset = w_start + i * block, w_start + j * block
            tile = optimizer.begin(rule, first, zeros(w, PAIR, vectors), w, sums, offset, w_gap, shrink)
            other = optimizer.begin(rule, first, zeros(w, PAIR, vectors), w, sums, other_offset, w_gap, shrink)
            i, j = x_start + i * columns, x_start + j * columns
            bits = get(quads, stride + k)
            while bits != 0:
                row = count_trailing_zeros(bits)
                bits &= bits - ONE
                d_offset = d_start + row * block
                tile = multiply_add_inputs(tile, x, i + row, columns, numbers, deltas, d_offset, d_gap)
                other = multiply_add_inputs(other, x, j + row, columns, numbers, deltas, d_offset, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)
            optimizer.end(rule, last, other, w, v, sums, other_offset, w_gap, momentum, shrink)

    return step_quads


@phase
def _step_pairs(
    rule, first, last, momentum, shrink, x, x_start, columns, numbers, quads, stride,
    deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """As ``step_quads``, one pair of each quad after the other, for ``PAIR_BLOCKS`` neighbouring blocks of outputs.

    ``quads`` from ``walks.list_inputs``, with the samples of pairs.
    """
    block = VECTORS * lanes_of(w)
    for k in range(walk_count(quads)):
        for pair, i in enumerate(pairs_of(get(quads, k))):
            offset, start = w_start + i * block, x_start + i * columns
            tile = optimizer.begin(rule, first, zeros(w, PAIR, _PAIR_VECTORS), w, sums, offset, w_gap, shrink)
            bits = samples_of_pair(quads, stride, k, pair)
            while bits != 0:
                row = count_trailing_zeros(bits)
                bits &= bits - ONE
                d_offset = d_start + row * block
                tile = multiply_add_inputs(tile, x, start + row, columns, numbers, deltas, d_offset, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)


_step_one = _step_inputs(1)
_step_several = _step_inputs(STEP_BLOCKS) if STEP_BLOCKS > 1 else _step_one  # or the same is compiled twice


@phase
def step_empty_quads(rule, first, last, momentum, shrink, walks, stride, w, v, sums, w_start):
    """One step for the weights in one block of quads of inputs that have no samples, otherwise as above."""
    block = VECTORS * lanes_of(w)
    for k in range(steps_of_empty(rule, first, last, shrink, walks)):
        for i in pairs_of(get(walks, stride - 1 - k)):
            offset = w_start + i * block
            tile = optimizer.begin(rule, first, zeros(w, PAIR, VECTORS), w, sums, offset, 0, shrink)
            optimizer.end(rule, last, tile, w, v, sums, offset, 0, momentum, shrink)


@phase
def step_inputs(
    n_blocks, rule, first, last, momentum, shrink, x, x_start, columns, numbers, quads, stride,
    deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
):  # fmt: skip
    """One step for any number of blocks of weights of inputs with a background, but for empty quads; as above."""
    b = 0
    while b < n_blocks:
        arguments = (
            rule, first, last, momentum, shrink, x, x_start, columns, numbers, quads, stride,
            deltas, d_start + b * d_gap, d_gap, w, v, sums, w_start + b * w_gap, w_gap,
        )  # fmt: skip
        if steps_pairs(n_blocks - b, rule):
            _step_pairs(*arguments)
            b += PAIR_BLOCKS
        elif n_blocks - b >= STEP_BLOCKS:
            _step_several(*arguments)
            b += STEP_BLOCKS
        else:
            _step_one(*arguments)
            b += 1


def _step_units(blocks):
    """Make the kernel for single inputs and some neighbouring blocks of outputs."""
    vectors = blocks * VECTORS

    @phase
    def step_tiles(
        rule, first, last, momentum, shrink, a, a_start, capacity, units, stride,
        deltas, d_start, d_gap, w, v, sums, w_start, w_gap,
    ):  # fmt: skip
        """As ``step_quads`` for inputs in a panel ``[blocks][capacity][BLOCK]`` and walks from ``walks.list_units``."""
        block = VECTORS * lanes_of(w)
        for k in range(walk_count(units)):
            i = np.int64(get(units, k))
            offset = w_start + i * block
            tile = optimizer.begin(rule, first, zeros(w, 1, vectors), w, sums, offset, w_gap, shrink)
            start = a_start + i // block * capacity * block + i % block
            bits = get(units, stride + k)
            while bits != 0:
                row = count_trailing_zeros(bits)
                bits &= bits - ONE
                tile = multiply_add_blocks(tile, a, start + row * block, capacity, deltas, d_start + row * block, d_gap)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)
        for k in range(steps_of_empty(rule, first, last, shrink, units)):
            offset = w_start + np.int64(get(units, stride - 1 - k)) * block
            tile = optimizer.begin(rule, first, zeros(w, 1, vectors), w, sums, offset, w_gap, shrink)
            optimizer.end(rule, last, tile, w, v, sums, offset, w_gap, momentum, shrink)

    return step_tiles


# Two where four are too many: layers of 64 train 1 to 5 % faster than by one, on an AMD Zen 4.
_step_units_one, _step_units_two, _step_units_four = _step_units(1), _step_units(2), _step_units(4)


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
        elif n_blocks - b >= 2:
            _step_units_two(*arguments)
            b += 2
        else:
            _step_units_one(*arguments)
            b += 1
