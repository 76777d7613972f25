"""Small kernels of the tests' own, which run the library's intrinsics and building blocks one by one."""

# mypy: ignore-errors
# Kernels are typed by Numba, and intrinsics are functions only inside of kernels.

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels import dense, flat, marks, matrix_unit, split, split_bytes, tile, tile_inputs
from fastmlp.kernels.compiler import EntryKernel, entry_kernel
from fastmlp.kernels.machine import count_trailing_zeros, flush_subnormals, restore_floating_point
from fastmlp.kernels.tile import ROWS, VECTORS, lanes_of

# Rows lie so many elements apart: more than any tile is wide, and odd, so that nothing is aligned by chance.
STRIDE = 133
START = 5
GAP = 77
TWO_BLOCKS = 2 * VECTORS  # has a name as Numba takes no expression for a literal


def run(kernel: EntryKernel, *arguments: Any) -> Any:
    """Compile or load a kernel for these arguments and call it."""
    return kernel.prepare(*arguments)[0](*arguments)


@entry_kernel
def apply(function, x, out):
    """``out = f(x)``; both flat and padded to whole tiles of one row."""
    for i in range(0, len(x), VECTORS * lanes_of(x)):
        z = tile.load(x, i, 0, 1, VECTORS)
        if function == 0:
            z = tile.exponential(z)
        elif function == 1:
            z = tile.logarithm(z)
        elif function == 2:
            z = tile.hyperbolic_tangent(z)
        else:
            z = tile.logistic(z)
        tile.store(out, i, 0, z)


@entry_kernel
def apply_exponential_flushed(x, out):
    """``out = e^x`` in the floating-point mode of training."""
    mode = flush_subnormals()
    for i in range(0, len(x), VECTORS * lanes_of(x)):
        tile.store(out, i, 0, tile.exponential(tile.load(x, i, 0, 1, VECTORS)))
    restore_floating_point(mode)


@entry_kernel
def element_wise(a, b, factor, out, size):
    """Load, map and store tiles of the trainer's shape; result k goes to ``out[k * size :]``."""
    x = tile.load(a, START, STRIDE, ROWS, VECTORS)
    y = tile.load(b, START, STRIDE, ROWS, VECTORS)
    tile.store(out, 0 * size, STRIDE, x)
    tile.store(out, 1 * size, STRIDE, tile.add(x, y))
    tile.store(out, 2 * size, STRIDE, tile.subtract(x, y))
    tile.store(out, 3 * size, STRIDE, tile.multiply(x, y))
    tile.store(out, 4 * size, STRIDE, tile.divide(x, y))
    tile.store(out, 5 * size, STRIDE, tile.maximum(x, y))
    tile.store(out, 6 * size, STRIDE, tile.rectify(x))
    tile.store(out, 7 * size, STRIDE, tile.step(x))
    tile.store(out, 8 * size, STRIDE, tile.add_scaled(x, factor, y))
    tile.store(out, 9 * size, STRIDE, tile.fill(a, factor, ROWS, VECTORS))
    tile.store(out, 10 * size, STRIDE, tile.zeros(a, ROWS, VECTORS))
    tile.store(out, 11 * size, STRIDE, tile.zeros_like(x))
    tile.store(out, 12 * size, STRIDE, tile.load(a, START, 0, ROWS, VECTORS))
    tile.store(out, 13 * size, STRIDE, tile.load_like(x, b, START, STRIDE, 0))
    tile.store(out, 14 * size, STRIDE, tile_inputs.load_as(a, b, START, STRIDE, ROWS, VECTORS))
    tile.store(out, 15 * size, STRIDE, tile.where_greater(x, y, tile.add(x, x), y))


@entry_kernel
def reductions(a, b, bytes_, out, numbers, bits, masks):
    """Products, sums, transposition, conversion and masks, of tiles of several shapes."""
    block = VECTORS * lanes_of(a)
    t = tile.load(a, START, STRIDE, ROWS, VECTORS)
    size = ROWS * block
    tile.store(out, 0 * size, block, tile.multiply_add(t, a, 3, 7, b, 11))
    tile.store(out, 1 * size, block, tile.multiply_add_rows(t, b, 2, t))
    tile.store(out, 2 * size, block, tile.sum_rows(t))
    tile.store(out, 3 * size, block, tile_inputs.load_as(a, bytes_, START, STRIDE, ROWS, VECTORS))
    tile.store(out, 4 * size, block, tile.multiply_add(tile.load(a, START, STRIDE, 3, 1), a, 3, 7, b, 11))
    lanes = lanes_of(a)
    tile.store(out, 5 * size, lanes, tile.transpose(tile.load_square(a, START, STRIDE)))
    numbers[0] = tile.sum_elements(t)
    numbers[1] = tile.sum_elements(tile.load(a, START, 0, 1, 1))
    numbers[2] = lanes
    numbers[3] = flat.get(a, 17)
    flat.put(numbers, 4, a[18])
    marks.mark_nonzero(a, a, START, masks, 1, block)
    marks.mark_nonzero(a, bytes_, 0, masks, 2, 0)
    marks.mark_nonzero(a, a, START, masks, 3, 0)
    marks.clear_marks(a, masks, 3, 0)
    bits[0] = count_trailing_zeros(np.uint64(1) << np.uint64(63))
    bits[1] = count_trailing_zeros(np.uint64(0b101000))


@entry_kernel
def blocks_and_bits(a, b, out, words, masks, wide_masks):
    """Tiles of two blocks of columns that are ``GAP`` apart, and the transposition of bits."""
    block = VECTORS * lanes_of(a)
    t = tile.load_blocks(a, START, STRIDE, GAP, 3, 2)
    tile.store_blocks(out, 0, 2 * block, block, t)
    tile.store_blocks(out, 6 * block, 2 * block, block, tile.load_like(t, b, START, STRIDE, GAP))
    tile.store_blocks(out, 12 * block, 2 * block, block, tile.multiply_add_blocks(t, a, 3, 7, b, 11, GAP))
    row = tile.accumulate_rows(tile.zeros(a, 1, VECTORS), b, 2, 3, tile.load(a, START, STRIDE, 3, VECTORS))
    tile.store(out, 18 * block, 0, row)
    marks.transpose_bits(words, 3, masks, 5)
    marks.transpose_bits(words, 3, wide_masks, 5)


@entry_kernel
def samples(a, b, x, out):
    """Three neighbouring inputs of a sample, times two blocks of columns that are ``GAP`` apart."""
    block = VECTORS * lanes_of(a)
    t = tile_inputs.multiply_add_sample(tile.load_blocks(a, START, STRIDE, GAP, 3, 2), x, 7, 4, a, b, 11, GAP)
    tile.store_blocks(out, 0, 2 * block, block, t)


@entry_kernel
def inputs_of_samples(a, b, x, numbers, factor, out, scaled):
    """Three inputs, 7 apart, times a row and times their own rows of two blocks; then a register of them is scaled."""
    block = VECTORS * lanes_of(a)
    t = tile.load_blocks(a, START, STRIDE, GAP, 3, 2)
    tile.store_blocks(out, 0, 2 * block, block, tile_inputs.multiply_add_inputs(t, x, 4, 7, numbers, b, 11, GAP))
    row = tile_inputs.accumulate_inputs(tile.zeros(a, 1, TWO_BLOCKS), x, 4, 7, numbers, t)
    tile.store_blocks(out, 6 * block, 0, block, row)
    tile_inputs.multiply_floats(scaled, 3, factor)


@entry_kernel
def transpositions(x, starts, few, many, gap, bits):
    """Numbers of any type: 8 and 32 rows transposed, and which are not zero."""
    marks.transpose_rows(x, starts, 2, 5, few, 3, gap, 8)
    marks.transpose_rows(x, starts, 1, 0, many, 1, gap, 32)
    bits[0] = marks.nonzero_samples(x, 4, 40, 1, 32)
    bits[1] = marks.nonzero_samples(x, 4, 40, 3, 32)
    bits[2] = marks.nonzero_samples(x, 4, 40, 3, 64)


@entry_kernel
def multiply_add_once(tiles, a, b, out):
    """One rank-1 step with a single row."""
    tile.store(out, 0, 0, tile.multiply_add(tile.load(tiles, 0, 0, 1, 1), a, 0, 0, b, 0))


@entry_kernel
def largest_and_rectified(a, b, out, block):
    """Store the maximum of two tiles of one row, the first rectified, and its step."""
    x, y = tile.load(a, 0, 0, 1, VECTORS), tile.load(b, 0, 0, 1, VECTORS)
    tile.store(out, 0, 0, tile.maximum(x, y))
    tile.store(out, block, 0, tile.rectify(x))
    tile.store(out, 2 * block, 0, tile.step(x))


@entry_kernel
def dense_product(a, w, z, rows, inputs):
    """Run the forward product of a dense layer; its machine code is looked at."""
    dense.forward(2, a, 0, rows, rows, inputs, w, 0, 0, w, 0, z, 0, 0)


@entry_kernel
def dense_step(rule, a, deltas, w, rows, inputs):
    """Run the weight step of a dense layer; its machine code is looked at."""
    dense.weight_step(2, rule, True, True, 0.0, 0.0, a, 0, rows, rows, inputs, deltas, 0, 0, w, w, w, 0, 0)


@entry_kernel
def read_from(x, out, offset):
    """Load a tile of one row from any offset, as a careless kernel would."""
    tile.store(out, 0, 0, tile.load(x, offset, 0, 1, VECTORS))


@entry_kernel
def write_to(x, offset):
    """Store a tile of one row at any offset, as a careless kernel would."""
    tile.store(x, offset, 0, tile.zeros(x, 1, VECTORS))


@entry_kernel
def multiply_squares(left, right, sums, operands):
    """``sums += left right`` for squares of 32 x 32, on the matrix unit."""
    matrix_unit.begin_tiles()
    split.split_left(left, 0, operands, 0)
    split.split_right(right, 0, split.SIDE, operands, split.OPERAND)
    matrix_unit.load_sums(sums, 0, split.SIDE)
    matrix_unit.add_product(operands, 0, split.OPERAND)
    matrix_unit.store_sums(sums, 0, split.SIDE)
    matrix_unit.end_tiles()


@entry_kernel
def forward_on_matrix_unit(blocks, a, capacity, rows, inputs, w, bias, z, operands):
    """``z = a W + bias``."""
    matrix_unit.begin_tiles()
    split.forward(
        blocks, a, 0, capacity, rows, inputs, w, 0, inputs * split.SQUARE, bias, 0,
        z, 0, capacity * split.SIDE, operands,
    )  # fmt: skip
    matrix_unit.end_tiles()


@entry_kernel
def gradient_on_matrix_unit(inputs, outputs, w, deltas, capacity, rows, gradient, operands):
    """``gradient = deltas W^T``."""
    matrix_unit.begin_tiles()
    split.input_gradient(inputs, outputs, w, 0, inputs * split.SQUARE, deltas, 0, capacity, rows, gradient, 0, operands)
    matrix_unit.end_tiles()


@entry_kernel
def step_on_matrix_unit(
    blocks, rule, first, last, shrink, a, capacity, earlier, samples, inputs, deltas, w, v, sums, operands
):  # fmt: skip
    """``w += a^T deltas``, by some rule with a momentum of 0.5; the panels of earlier samples follow the others."""
    matrix_unit.begin_tiles()
    panel = capacity * split.SIDE
    split.weight_step(
        blocks, rule, first, last, 0.5, shrink, a, 0, inputs * panel, capacity, earlier, samples, inputs,
        deltas, 0, blocks * panel, panel, w, v, sums, 0, inputs * split.SQUARE, operands,
    )  # fmt: skip
    matrix_unit.end_tiles()


@entry_kernel
def forward_of_bytes(blocks, x, n_features, order, position, samples, inputs, w, ready, z, starts, operands):
    """``z = x W``."""
    matrix_unit.begin_tiles()
    gap = inputs * split.SQUARE
    if ready:
        split_bytes.prepare(blocks, inputs, w, 0, gap, operands)
    split_bytes.forward(
        blocks, x, n_features, order, position, samples, 0, starts, inputs, w, 0, gap, ready,
        z, 0, matrix_unit.COLUMN_ROWS * split.SIDE, operands,
    )  # fmt: skip
    matrix_unit.end_tiles()


@entry_kernel
def step_of_bytes(
    blocks, rule, first, last, shrink, raw, columns, earlier, samples, inputs, deltas, w, v, sums, operands
):  # fmt: skip
    """``w += x^T deltas``, by some rule with a momentum of 0.5."""
    matrix_unit.begin_tiles()
    panel = columns * split.SIDE
    raw_start = inputs * split.SIDE * columns
    split_bytes.weight_step(
        blocks, rule, first, last, 0.5, shrink, raw, raw_start, columns, earlier, samples, inputs,
        deltas, 0, blocks * panel, panel, w, v, sums, 0, inputs * split.SQUARE, operands,
    )  # fmt: skip
    matrix_unit.end_tiles()
