"""The matrix unit of some CPUs (Intel's Advanced Matrix Extensions), and float32 numbers as it takes them.

It multiplies a tile of 16 x 32 numbers of 16 bits (bfloat16) with one of 32 x 16 and adds to one of float32: sixteen
times as many multiply-adds a cycle as there are in the registers of 64 bytes. A float32 number is the sum of three
numbers of 16 bits, exactly; of the nine products of two such sums six are enough, as the others are below 2^-22 of the
product. What is left is at best 2.7 times as fast as float32 (Henry, Tang and Heinecke, Leveraging the bfloat16
artificial intelligence datatype for higher-precision computations, 2019), and rounds less: the sums of 32 numbers are
added to others, not each number.

There are eight tiles. Four are the *sums*, a square of 32 x 32 numbers; the others hold parts of the two *operands*
whose product is added to it. An operand is a square of 32 x 32 numbers in three pieces of two tiles each. In a row of
these tiles neighbours are what is added up, in pairs of numbers ``j`` and ``j + 16`` of 32: on the left a row of a
square becomes a row of a tile, on the right two rows of a square do.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastmlp.kernels import vector
from fastmlp.kernels.flat import element_pointer
from fastmlp.kernels.machine import emit_assembly
from fastmlp.kernels.vector import LANES, REGISTER_BYTES, integer_constant

# Numbers of 32 bits, or pairs of 16, in a row of a tile, in a tile, in the two tiles of a piece, and in an operand.
PAIRS = 16
TILE = 16 * PAIRS
PIECE = 2 * TILE
OPERAND = 3 * PIECE

SIDE = 32
"""Rows and columns of a square of numbers."""


def _is_permitted() -> bool:
    """Ask Linux for the tiles, which no process has from the beginning: they are 8 KiB more for each thread."""
    if sys.platform != "linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    try:
        return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0
    except (AttributeError, OSError):
        return False


def _has_matrix_unit() -> bool:
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    has_tiles = {"+amx-tile", "+amx-bf16"} <= set(features.split(","))
    return triple.startswith("x86_64") and has_tiles and REGISTER_BYTES == 64 and _is_permitted()


MATRIX_UNIT = _has_matrix_unit()
"""Whether there is one, Numba compiles for it, and the system lets us have it."""

_BYTE = ir.IntType(8)
_POINTER = _BYTE.as_pointer()

# The first of the two ways to use the tiles that there are, and the bytes of a row and the rows of each of eight tiles.
_CONFIGURATION = struct.pack("<BB14x16H16B", 1, 0, *[4 * PAIRS] * 8, *[0] * 8, *[16] * 8, *[0] * 8)


def _serves(array: Any) -> bool:
    """Whether products of an array's numbers are for the matrix unit; where not, the operations below are none."""
    return MATRIX_UNIT and array.dtype == types.float32


def _instruct(builder: ir.IRBuilder, name: str, *operands: int | ir.Value) -> None:
    """Append an instruction; tiles are named by number."""
    values = [ir.Constant(_BYTE, operand) if isinstance(operand, int) else operand for operand in operands]
    function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.{name}"), values)


@intrinsic
def begin_tiles(typing_context):
    """Give this thread its tiles."""

    def emit(context, builder, signature, arguments):
        if MATRIX_UNIT:
            configuration = ir.Constant(ir.ArrayType(_BYTE, len(_CONFIGURATION)), bytearray(_CONFIGURATION))
            pointer = cgutils.alloca_once_value(builder, configuration)
            _instruct(builder, "ldtilecfg", builder.bitcast(pointer, _POINTER))
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def end_tiles(typing_context):
    """Give them back, as the system has to save those of every thread that has some."""

    def emit(context, builder, signature, arguments):
        if MATRIX_UNIT:
            _instruct(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def clear_sums(typing_context):
    """Set the sums to zero."""

    def emit(context, builder, signature, arguments):
        for tile in range(4 if MATRIX_UNIT else 0):
            _instruct(builder, "tilezero", tile)
        return context.get_dummy_value()

    return types.void(), emit


def _move_sums(name: str, width: int, summary: str) -> Any:
    """An intrinsic that loads or stores the sums, which are so many tiles wide."""

    def move(typing_context, array, offset, stride):
        def emit(context, builder, signature, arguments):
            value, start, step = arguments
            for tile in range(4 if _serves(array) else 0):
                column = integer_constant(tile % width * 16)
                row = builder.mul(step, integer_constant(tile // width * 16))
                place = builder.add(start, builder.add(row, column))
                pointer = builder.bitcast(element_pointer(context, builder, array, value, place), _POINTER)
                _instruct(builder, name, tile, pointer, builder.mul(step, integer_constant(4)))
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), emit

    move.__doc__ = summary
    return intrinsic(move)


load_sums = _move_sums("tileloadd64", 2, "Load the sums; their rows are ``stride`` apart, 0 repeats one row.")
store_sums = _move_sums("tilestored64", 2, "Store the sums, rows ``stride`` apart.")
load_column = _move_sums("tileloadd64", 1, "Load the sums of a column, 64 x 16 numbers.")
store_column = _move_sums("tilestored64", 1, "Store the sums of a column.")

# Which pieces of the operands are multiplied, in an order in which few are loaded twice: the first of the right one.
_PRODUCTS = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))
_TILES = ((4, 5), (6, 7))
MULTIPLICATIONS = 4 * len(_PRODUCTS)

# The same if what is on the left has one piece.
_PRODUCTS_OF_BYTES = ((0, 2), (0, 1), (0, 0))


def _emit_product(
    builder: ir.IRBuilder,
    operands: list[ir.Value],
    twice: int,
    between: Callable[[int], object],
    products: Sequence[tuple[int, int]] = _PRODUCTS,
) -> None:
    """Add the product of two operands to the sums.

    ``twice`` is the side of which a piece is loaded twice: 0 (left) or 1. ``between(k)`` appends what is done after
    multiplication k.
    """
    pointers = [builder.bitcast(operand, _POINTER) for operand in operands]
    loaded: list[int | None] = [None, None]
    done = 0
    for pieces in products:
        for side, piece in enumerate(pieces if twice == 1 else reversed(pieces)):
            if loaded[side] == piece:
                continue
            loaded[side] = piece
            for half, tile in enumerate(_TILES[side]):
                place = integer_constant(4 * (piece * PIECE + half * TILE))
                pointer = builder.gep(pointers[side], [place])
                _instruct(builder, "tileloadd64", tile, pointer, integer_constant(4 * PAIRS))
        for row, left in enumerate(_TILES[0]):
            for column, right in enumerate(_TILES[1]):
                _instruct(builder, "tdpbf16ps", 2 * row + column, left, right)
                between(done)
                done += 1


# What is done between multiplications if there is nothing to do. Where somebody else uses the other half of the core,
# products take 18 to 25 % less time for it, and else as much as without: 64 x 512 x 256, one core of an Intel Xeon.
_NOTHING = "nop\n" * 16


def _idle(builder: ir.IRBuilder) -> Callable[[int], object]:
    return lambda _: emit_assembly(builder, ir.VoidType(), _NOTHING, "")


def _splitting(
    builder: ir.IRBuilder,
    square: ir.Value,
    operand: ir.Value,
    parts: Sequence[tuple[int, int, int]],
    gap: int,
    times: int,
) -> Callable[[int], object]:
    """What makes an operand of a square, a share of it each of so many times that it is called.

    ``parts`` are where two registers are read in the square, and where their pairs are put in the operand, whose pieces
    are ``gap`` apart.
    """
    left = list(parts)

    def split_some(done: int) -> None:
        while left and len(parts) - len(left) < (done + 1) * len(parts) / times:
            *sources, target = left.pop(0)
            low, high = (
                vector.load(builder, builder.gep(square, [integer_constant(place)]), LANES[types.float32])
                for place in sources
            )
            _emit_split(builder, low, high, builder.gep(operand, [integer_constant(target)]), gap)

    return split_some


# See ``_splitting``: of a square for the left and for the right side, and of half a square for the right side.
_PARTS = (
    [(row * SIDE, row * SIDE + PAIRS, row * PAIRS) for row in range(SIDE)],
    [
        (row * SIDE + half * PAIRS, (row + SIDE // 2) * SIDE + half * PAIRS, half * TILE + row * PAIRS)
        for row in range(SIDE // 2)
        for half in range(2)
    ],
)
_PARTS_OF_COLUMN = [(row * SIDE, (row + SIDE // 2) * SIDE, row * PAIRS) for row in range(SIDE // 2)]


def _pointers(context: Any, builder: ir.IRBuilder, array: Any, value: ir.Value, *places: ir.Value) -> list[ir.Value]:
    return [element_pointer(context, builder, array, value, place) for place in places]


@intrinsic
def add_product(typing_context, array, left, right):
    """Add the product of two operands, at two places of an array, to the sums."""

    def emit(context, builder, signature, arguments):
        if _serves(array):
            _emit_product(builder, _pointers(context, builder, array, *arguments), 0, _idle(builder))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), emit


@intrinsic(prefer_literal=True)
def add_product_and_split(typing_context, array, left, right, source, start, target, side):
    """``add_product``, and meanwhile make the square at ``source[start]`` an operand for a side, 0 (left) or 1.

    The matrix unit is busy for 16 cycles with each multiplication, and all other units are free.
    """

    def emit(context, builder, signature, arguments):
        if _serves(array):
            value, left, right, *square, target, _ = arguments
            operands = _pointers(context, builder, array, value, left, right)
            square = element_pointer(context, builder, source, *square)
            target = element_pointer(context, builder, array, value, target)
            parts = _PARTS[side.literal_value]
            between = _splitting(builder, square, target, parts, PIECE, MULTIPLICATIONS)
            _emit_product(builder, operands, side.literal_value, between)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, source, types.int64, types.int64, side), emit


@intrinsic
def add_product_of_bytes(typing_context, array, left, right):
    """``add_product`` of an operand that has one piece, from ``pair_bytes``, and one of three."""

    def emit(context, builder, signature, arguments):
        if _serves(array):
            operands = _pointers(context, builder, array, *arguments)
            _emit_product(builder, operands, 1, _idle(builder), _PRODUCTS_OF_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), emit


# Bytes are also multiplied in columns of four tiles: the sums are 64 x 16 numbers, on the left are the bytes of 64
# rows, 32 each, and on the right are the three pieces of 32 x 16 numbers, half an operand.
COLUMN_ROWS = 64

# For each piece on the right, the last first, the order of the tiles on the left, of which three are there at a time:
# six are loaded. If the order is always the same twelve are, and 64 x 800 x 256 takes 6 % more time.
_TILES_OF_COLUMN = ((2, (0, 1, 2, 3)), (1, (1, 2, 3, 0)), (0, (2, 3, 0, 1)))


def _emit_column(builder: ir.IRBuilder, operands: list[ir.Value], between: Callable[[int], object]) -> None:
    """Add the product of a column of bytes and half an operand to the sums; ``between`` as in ``_emit_product``."""
    left, right = (builder.bitcast(operand, _POINTER) for operand in operands)

    def fetch(tile: int, pointer: ir.Value, number: int) -> None:
        place = builder.gep(pointer, [integer_constant(4 * number * TILE)])
        _instruct(builder, "tileloadd64", tile, place, integer_constant(4 * PAIRS))

    there: dict[int, int] = {}  # in which tiles the rows on the left are, the longest there first
    done = 0
    for piece, rows in _TILES_OF_COLUMN:
        fetch(7, right, piece)
        for row in rows:
            if row not in there:
                there[row] = there.pop(next(iter(there))) if len(there) == 3 else 4 + len(there)
                fetch(there[row], left, row)
            _instruct(builder, "tdpbf16ps", row, there[row], 7)
            between(done)
            done += 1


@intrinsic
def add_column_of_bytes(typing_context, array, left, right):
    """Add the product of a column of bytes, from ``pair_bytes``, and half an operand to the sums."""

    def emit(context, builder, signature, arguments):
        if _serves(array):
            _emit_column(builder, _pointers(context, builder, array, *arguments), _idle(builder))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), emit


@intrinsic
def add_column_of_bytes_and_split(typing_context, array, left, right, source, start, target):
    """``add_column_of_bytes``, and meanwhile ``split_column``."""

    def emit(context, builder, signature, arguments):
        if _serves(array):
            value, left, right, *square, target = arguments
            operands = _pointers(context, builder, array, value, left, right)
            square = element_pointer(context, builder, source, *square)
            target = element_pointer(context, builder, array, value, target)
            between = _splitting(builder, square, target, _PARTS_OF_COLUMN, TILE, 4 * len(_TILES_OF_COLUMN))
            _emit_column(builder, operands, between)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, source, types.int64, types.int64), emit


@intrinsic
def split_column(typing_context, array, source, start, target):
    """Make the left half of the square at ``source[start]`` half an operand for the right side."""

    def emit(context, builder, signature, arguments):
        if _serves(array):
            value, *square, target = arguments
            square = element_pointer(context, builder, source, *square)
            target = element_pointer(context, builder, array, value, target)
            _splitting(builder, square, target, _PARTS_OF_COLUMN, TILE, 1)(0)
        return context.get_dummy_value()

    return types.void(array, source, types.int64, types.int64), emit


@intrinsic
def split(typing_context, low, high, array, offset):
    """Write the pairs of two registers (tiles of one) to their places in the three pieces of an operand.

    The first piece of a number is the number rounded to 8 bits, the second what is left of it cut to 8 bits, the third
    the rest: 24 bits in all, those that a float32 number has.
    """

    def emit(context, builder, signature, arguments):
        if _serves(array):
            registers = [
                vector.Vector(builder, builder.extract_value(tile, 0), LANES[types.float32]) for tile in arguments[:2]
            ]
            _emit_split(builder, *registers, element_pointer(context, builder, array, *arguments[2:]), PIECE)
        return context.get_dummy_value()

    return types.void(low, high, array, types.int64), emit


def _emit_split(builder: ir.IRBuilder, low: vector.Vector, high: vector.Vector, target: ir.Value, gap: int) -> None:
    upper, half, sixteen = low.integers(0xFFFF0000), low.integers(0x8000), low.integers(16)

    def pieces(number: vector.Vector) -> list[ir.Value]:
        rounded = builder.and_(builder.add(number.bits(), half), upper)
        rest = number - number.from_bits(rounded)
        cut = builder.and_(rest.bits(), upper)
        return [rounded, cut, (rest - number.from_bits(cut)).bits()]

    for k, (first, second) in enumerate(zip(pieces(low), pieces(high), strict=True)):
        pairs = low.from_bits(builder.or_(builder.lshr(first, sixteen), second))
        vector.store(builder, builder.gep(target, [integer_constant(k * gap)]), pairs)


@intrinsic
def pair_bytes(typing_context, source, start, count, array, offset):
    """Write the pairs of ``SIDE`` bytes, a row of the left side, to their place in an operand of one piece.

    Nothing is read after the first ``count`` bytes, and counts as zeros.
    """

    def emit(context, builder, signature, arguments):
        if not _serves(array) or source.dtype != types.uint8:
            return context.get_dummy_value()
        value, place, number, *target = arguments
        row_type = ir.VectorType(_BYTE, SIDE)
        bits = builder.sub(builder.shl(integer_constant(1), number), integer_constant(1))
        mask = builder.bitcast(builder.trunc(bits, ir.IntType(SIDE)), ir.VectorType(ir.IntType(1), SIDE))
        pointer = builder.bitcast(element_pointer(context, builder, source, value, place), row_type.as_pointer())
        alignment = ir.IntType(32)
        function = ir.FunctionType(row_type, [pointer.type, alignment, mask.type, row_type])
        load = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.load.v{SIDE}i8.p0")
        row = builder.call(load, [pointer, ir.Constant(alignment, 1), mask, ir.Constant(row_type, None)])
        lanes = LANES[types.float32]
        low, high = (
            builder.uitofp(
                builder.shuffle_vector(row, row, ir.Constant(ir.VectorType(alignment, PAIRS), [*half])), lanes.vector
            )
            for half in (range(PAIRS), range(PAIRS, SIDE))
        )
        first, second = (vector.Vector(builder, half, lanes) for half in (low, high))
        pairs = first.from_bits(builder.or_(builder.lshr(first.bits(), first.integers(16)), second.bits()))
        vector.store(builder, element_pointer(context, builder, array, *target), pairs)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, array, types.int64), emit
