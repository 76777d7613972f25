"""The products of ``dense`` on the matrix unit, for float32 and up to 64 samples at a time.

Whatever is multiplied must be split into pieces before, see ``matrix_unit``. What many others are multiplied with, the
samples, is split first; weights, each of which meets the samples once or twice, are split while the squares before them
are multiplied, into one of two operands that stay in the first-level cache.

One core of an Intel Xeon, 64 samples, 512 x 256 weights, against ``dense``: forwards 1.7 times as fast, gradients of
inputs 1.6 times, steps 1.5 times. Where somebody else uses the other half of the core the matrix unit is less than half
as fast, and both are equal within 15 %.
"""

from __future__ import annotations

from fastmlp.kernels import optimizer
from fastmlp.kernels.compiler import kernel, phase_of_matrix_unit
from fastmlp.kernels.dense import transpose_square
from fastmlp.kernels.matrix_unit import (
    OPERAND,
    PAIRS,
    SIDE,
    TILE,
    add_product,
    add_product_and_split,
    clear_sums,
    load_sums,
    split,
    store_sums,
)
from fastmlp.kernels.tile import ROWS, VECTORS, add, load, store, zeros

SQUARE = SIDE * SIDE

# Fewer samples than this are multiplied without the matrix unit, which would take as long for them as for 32. Measured
# for 784-512-512-10 on two threads: 17 % less time with it at batch 32, 6 % more at 24.
FEWEST_SAMPLES = 25

# Blocks that the samples' operands are kept for: 384 KiB for 64 samples, in the second-level cache.
DEPTH = 32

# Where in a thread's ``operands`` the parts are: operands that many others are multiplied with, up to four of those
# others, and two squares.
KEPT = 0
PASSING = 2 * DEPTH * OPERAND
SQUARES = PASSING + 4 * OPERAND
LENGTH = SQUARES + 2 * SQUARE


@kernel
def split_left(source, start, operands, operand):
    """Make an operand for the left side, ``OPERAND`` numbers at ``operand``, of a square ``[SIDE][SIDE]``."""
    for row in range(SIDE):
        low = load(source, start + row * SIDE, 0, 1, 1)
        high = load(source, start + row * SIDE + PAIRS, 0, 1, 1)
        split(low, high, operands, operand + row * PAIRS)


@kernel
def split_right(source, start, rows, operands, operand):
    """The same for the right side; rows from ``rows`` on count as zeros."""
    for row in range(SIDE // 2):
        for half in range(2):
            offset = start + row * SIDE + half * PAIRS
            low, high = zeros(source, 1, 1), zeros(source, 1, 1)
            if row < rows:
                low = load(source, offset, 0, 1, 1)
            if row + SIDE // 2 < rows:
                high = load(source, offset + SIDE // 2 * SIDE, 0, 1, 1)
            split(low, high, operands, operand + half * TILE + row * PAIRS)


@kernel
def _transpose_samples(source, start, rows, operands):
    """Transpose a square into the first of the two squares; rows from ``rows`` on count as zeros."""
    if rows < SIDE:
        for row in range(SIDE):
            tile = zeros(source, 1, VECTORS)
            if row < rows:
                tile = load(source, start + row * SIDE, 0, 1, VECTORS)
            store(operands, SQUARES + SQUARE + row * SIDE, 0, tile)
        transpose_square(operands, SQUARES + SQUARE, SIDE, operands, SQUARES)
    else:
        transpose_square(source, start, SIDE, operands, SQUARES)


@phase_of_matrix_unit
def forward(
    n_blocks, a, a_start, capacity, rows, inputs, w, w_start, w_gap, bias, b_start, z, z_start, z_gap, operands
):  # fmt: skip
    """``z = a W + bias`` for some blocks of outputs, as ``dense.forward``.

    Rows of ``z`` are written up to the next multiple of ``SIDE``.

    Parameters
    ----------
    operands : float32 (flat), overwritten
        Room for ``LENGTH`` numbers, begins at a cache line.
    """
    if n_blocks == 0:
        return
    for first in range(0, inputs, DEPTH):
        count = min(DEPTH, inputs - first)
        for row in range(0, rows, SIDE):
            for k in range(count):
                start = a_start + ((first + k) * capacity + row) * SIDE
                split_left(a, start, operands, KEPT + (row // SIDE * DEPTH + k) * OPERAND)
        w_first = w_start + first * SQUARE
        here = 0  # which of the two operands of weights is next
        split_right(w, w_first, SIDE, operands, PASSING)
        for b in range(n_blocks):
            for row in range(0, rows, SIDE):
                place = z_start + b * z_gap + row * SIDE
                if first == 0:
                    load_sums(bias, b_start + b * SIDE, 0)
                else:
                    load_sums(z, place, SIDE)
                for k in range(count):
                    following = w_first + b * w_gap + (k + 1) * SQUARE
                    if k + 1 == count:  # the same weights for other samples, or the next block; after the last any
                        following = w_first + min(b + (row + SIDE >= rows), n_blocks - 1) * w_gap
                    left = KEPT + (row // SIDE * DEPTH + k) * OPERAND
                    add_product_and_split(
                        operands, left, PASSING + here, w, following, PASSING + OPERAND - here, 1
                    )  # fmt: skip
                    here = OPERAND - here
                store_sums(z, place, SIDE)


@phase_of_matrix_unit
def input_gradient(
    inputs, outputs, w, w_start, w_gap, deltas, d_start, capacity, rows, gradient, g_start, operands
):  # fmt: skip
    """``gradient = deltas W^T`` for all blocks of inputs, as the transposed of ``W deltas^T``.

    Parameters
    ----------
    inputs, outputs : int
        Number of blocks; at most ``DEPTH`` of outputs.
    w : float32 (flat)
        Blocks of weights ``[inputs * SIDE][SIDE]`` at ``w_start`` and then every ``w_gap``.
    deltas : float32 (flat)
        Panel of ``outputs`` blocks at ``d_start``.
    capacity, rows : int
        Rows that a block of a panel has, and rows in use.
    gradient : float32 (flat), overwritten
        Panel of ``inputs`` blocks at ``g_start``; rows are written up to the next multiple of ``SIDE``.
    operands
        As in ``forward``; here weights are on the left and samples on the right.
    """
    for row in range(0, rows, SIDE):
        for j in range(outputs):
            transpose_square(deltas, d_start + (j * capacity + row) * SIDE, SIDE, operands, SQUARES)
            split_right(operands, SQUARES, SIDE, operands, KEPT + (row // SIDE * DEPTH + j) * OPERAND)
    here, square, previous = 0, 0, g_start
    split_left(w, w_start, operands, PASSING)
    for b in range(inputs):
        for row in range(0, rows, SIDE):
            clear_sums()
            for j in range(outputs):
                following = w_start + (j + 1) * w_gap + b * SQUARE
                if j + 1 == outputs:
                    following = w_start + min(b + (row + SIDE >= rows), inputs - 1) * SQUARE
                right = KEPT + (row // SIDE * DEPTH + j) * OPERAND
                add_product_and_split(operands, PASSING + here, right, w, following, PASSING + OPERAND - here, 0)
                here = OPERAND - here
            if b > 0 or row > 0:  # while the matrix unit goes on
                transpose_square(operands, SQUARES + square, SIDE, gradient, previous)
            square = SQUARE - square
            store_sums(operands, SQUARES + square, SIDE)
            previous = g_start + (b * capacity + row) * SIDE
    transpose_square(operands, SQUARES + square, SIDE, gradient, previous)


@kernel
def place_of_part(part, earlier_start, earlier, start, samples):
    """Where a part of ``SIDE`` samples is, of the earlier ones or of these, one after the other.

    Returns
    -------
    int, int, int
        Where those are that it belongs to, its first row among them, and how many are left from there.
    """
    row = part * SIDE
    if row < earlier:
        return earlier_start, row, earlier - row
    return start, row - earlier, samples - (row - earlier)


@kernel
def _step_square(rule, first, last, momentum, shrink, steps, s_start, w, v, sums, offset):
    """Let a square of weights do steps that have been summed."""
    for row in range(0, SQUARE, ROWS * SIDE):
        tile = optimizer.begin(rule, first, zeros(w, ROWS, VECTORS), w, sums, offset + row, 0, shrink)
        tile = add(tile, load(steps, s_start + row, SIDE, ROWS, VECTORS))
        optimizer.end(rule, last, tile, w, v, sums, offset + row, 0, momentum, shrink)


def step_squares(multiply, length):
    """Make the kernel that multiplies samples with deltas, square by square of weights, and lets these step.

    Parameters
    ----------
    multiply : intrinsic
        ``add_product`` or ``add_product_of_bytes``.
    length : int
        Of the operands on the left: ``OPERAND`` or ``PIECE``.
    """

    @phase_of_matrix_unit
    def multiply_and_step(
        n_blocks, rule, first, last, momentum, shrink, earlier, samples, count,
        deltas, d_start, d_earlier, d_gap, w, v, sums, w_start, w_gap, operands,
    ):  # fmt: skip
        """``weight_step`` for ``count`` blocks of inputs, which are transposed and split in ``operands``."""
        parts = (earlier + samples + SIDE - 1) // SIDE
        square, previous = 0, w_start
        for b in range(n_blocks):
            for part in range(parts):
                start, row, left = place_of_part(part, d_earlier, earlier, d_start, samples)
                split_right(deltas, start + b * d_gap + row * SIDE, left, operands, PASSING + part * OPERAND)
            for k in range(count):
                clear_sums()
                for part in range(parts):
                    multiply(operands, KEPT + (k * parts + part) * length, PASSING + part * OPERAND)
                if b > 0 or k > 0:  # while the matrix unit goes on
                    _step_square(
                        rule, first, last, momentum, shrink, operands, SQUARES + square, w, v, sums, previous
                    )  # fmt: skip
                square = SQUARE - square
                store_sums(operands, SQUARES + square, SIDE)
                previous = w_start + b * w_gap + k * SQUARE
        _step_square(rule, first, last, momentum, shrink, operands, SQUARES + square, w, v, sums, previous)

    return multiply_and_step


_step_squares = step_squares(add_product, OPERAND)


@phase_of_matrix_unit
def weight_step(
    n_blocks, rule, first, last, momentum, shrink, a, a_start, a_earlier, capacity, earlier, samples, inputs,
    deltas, d_start, d_earlier, d_gap, w, v, sums, w_start, w_gap, operands,
):  # fmt: skip
    """``s = a^T deltas``, then the update rule, as ``dense.weight_step``; ``operands`` as in ``forward``.

    Parameters
    ----------
    a_earlier, d_earlier : int
        Where inputs and deltas are of samples that have waited to step together with these.
    earlier : int
        Number of those samples, a multiple of ``SIDE`` up to 64.
    """
    if n_blocks == 0:
        return
    parts = (earlier + samples + SIDE - 1) // SIDE
    depth = min(DEPTH, 2 * DEPTH // parts)
    for begin in range(0, inputs, depth):
        count = min(depth, inputs - begin)
        for k in range(count):
            for part in range(parts):
                start, row, left = place_of_part(part, a_earlier, earlier, a_start, samples)
                _transpose_samples(a, start + ((begin + k) * capacity + row) * SIDE, left, operands)
                split_left(operands, SQUARES, operands, KEPT + (k * parts + part) * OPERAND)
        _step_squares(
            n_blocks, rule, first, last, momentum, shrink, earlier, samples, count,
            deltas, d_start, d_earlier, d_gap, w, v, sums, w_start + begin * SQUARE, w_gap, operands,
        )  # fmt: skip
