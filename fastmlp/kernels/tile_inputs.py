"""Tiles and inputs as they are in memory: bytes, or floats of the dtype of the tile."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastmlp.kernels import vector
from fastmlp.kernels.flat import element_pointer
from fastmlp.kernels.tile import Tile, accumulate, assemble, rank_one, registers_of, row_pointers
from fastmlp.kernels.vector import LANES, Vector, integer_constant


@intrinsic(prefer_literal=True)
def load_as(typing_context, like, array, offset, stride, rows, vectors):
    """``load`` from bytes or floats, converted to the dtype of the array ``like``."""
    tile = Tile(like.dtype, rows.literal_value, vectors.literal_value)

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[1:3])
        pointers = row_pointers(builder, pointer, arguments[3], tile)
        if array.dtype == like.dtype:
            return assemble(builder, [vector.load(builder, p, tile.lanes) for p in pointers])
        small = ir.VectorType(ir.IntType(8), tile.lanes.count)
        wide = ir.VectorType(ir.IntType(32), tile.lanes.count)
        registers = []
        for p in pointers:
            values = builder.zext(builder.load(builder.bitcast(p, small.as_pointer()), align=1), wide)
            # below 256 signed and unsigned are the same, and only the signed conversion is one instruction on AVX2
            registers.append(Vector(builder, builder.sitofp(values, tile.lanes.vector), tile.lanes))
        return assemble(builder, registers)

    if array.dtype not in (types.uint8, like.dtype):
        return None
    return tile(like, array, types.int64, types.int64, rows, vectors), emit


def _number(context: Any, builder: ir.IRBuilder, x: Any, pointer: ir.Value, numbers: Any, table: ir.Value) -> ir.Value:
    """The number at ``pointer`` in the array ``x``: a float, or what a byte stands for in a table."""
    value = builder.load(pointer)
    if x.dtype != types.uint8:
        return value
    return builder.load(element_pointer(context, builder, numbers, table, builder.zext(value, ir.IntType(64))))


@intrinsic
def multiply_add_inputs(typing_context, tile, x, x_offset, x_stride, numbers, b, b_offset, b_gap):
    """``multiply_add_blocks`` with floats, or with what bytes stand for in the table ``numbers``.

    Looked up, a byte costs two loads; converted, up to three instructions in the units that multiply.
    """

    def emit(context, builder, signature, arguments):
        value, _, offset, stride, table, _, b_start, gap = arguments
        pointer = element_pointer(context, builder, x, arguments[1], offset)
        start = element_pointer(context, builder, b, arguments[5], b_start)
        row = row_pointers(builder, start, integer_constant(0), Tile(tile.dtype, 1, tile.vectors), gap)
        return rank_one(
            builder, tile, value, pointer, stride, row, lambda p: _number(context, builder, x, p, numbers, table)
        )

    if x.dtype not in (types.uint8, tile.dtype):
        return None
    return tile(tile, x, types.int64, types.int64, numbers, b, types.int64, types.int64), emit


@intrinsic
def accumulate_inputs(typing_context, tile, x, x_offset, x_stride, numbers, other):
    """``accumulate_rows`` with floats, or with what bytes stand for in the table ``numbers``."""

    def emit(context, builder, signature, arguments):
        value, _, _, stride, table, rows = arguments
        pointer = element_pointer(context, builder, x, *arguments[1:3])
        return accumulate(
            builder, tile, value, pointer, stride, other, rows,
            lambda p: _number(context, builder, x, p, numbers, table),
        )  # fmt: skip

    if (tile.rows, tile.vectors) != (1, other.vectors) or x.dtype not in (types.uint8, tile.dtype):
        return None
    return tile(tile, x, types.int64, types.int64, numbers, other), emit


@intrinsic
def multiply_floats(typing_context, x, offset, factor):
    """Multiply a register of floats in memory with a scalar; bytes are left as they are."""
    lanes = LANES[factor]

    def emit(context, builder, signature, arguments):
        if x.dtype == factor:
            pointer = element_pointer(context, builder, x, *arguments[:2])
            scalar = vector.broadcast(builder, arguments[2], lanes)
            vector.store(builder, pointer, vector.load(builder, pointer, lanes) * scalar)
        return context.get_dummy_value()

    return types.void(x, types.int64, factor), emit


@intrinsic
def multiply_add_sample(typing_context, tile, x, start, i, factor, b, b_offset, b_gap):
    """``multiply_add_blocks`` with neighbouring inputs of a sample as they lie in memory, from input ``i`` on.

    ``tile[r, :] += a * b[b_offset:]``, where ``a`` is ``x[start + i + r]`` if these are bytes, or that times
    ``factor[i + r]``.
    """

    def emit(context, builder, signature, arguments):
        value, _, start, i, _, _, b_start, gap = arguments
        first = element_pointer(context, builder, b, arguments[5], b_start)
        pointers = row_pointers(builder, first, integer_constant(0), Tile(tile.dtype, 1, tile.vectors), gap)
        row = [vector.load(builder, p, tile.lanes) for p in pointers]
        registers = registers_of(builder, tile, value)
        for r in range(tile.rows):
            number = builder.load(element_pointer(context, builder, x, arguments[1], builder.add(start, i)))
            if x.dtype == types.uint8:
                number = builder.sitofp(builder.zext(number, ir.IntType(32)), tile.lanes.scalar)
            else:
                number = builder.fmul(number, builder.load(element_pointer(context, builder, factor, arguments[4], i)))
            scalar = vector.broadcast(builder, number, tile.lanes)
            for v, other in enumerate(row):
                registers[r * tile.vectors + v] = scalar.multiply_add(other, registers[r * tile.vectors + v])
            i = builder.add(i, integer_constant(1))
        return assemble(builder, registers)

    if x.dtype not in (types.uint8, tile.dtype):
        return None
    return tile(tile, x, types.int64, types.int64, factor, b, types.int64, types.int64), emit
