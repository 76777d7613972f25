"""Register tiles: what kernels know of SIMD; ``marks`` has what is done with bits.

A ``Tile(dtype, rows, vectors)`` is a block of ``rows x vectors`` SIMD registers that a kernel holds in a variable.
The intrinsics below load, store and combine tiles. They address arrays by a flat element offset and do no checks:
the caller owns the bounds. Loops over rows and vectors run in Python while the instructions are emitted, so that a
kernel stays a few lines and the shape of the tile is a compile-time constant.

A product of matrices is then a loop over one instruction, the rank-1 step ``multiply_add``::

    tile = load(bias, 0, 0, ROWS, VECTORS)
    for i in range(fan_in):
        tile = multiply_add(tile, a, a_offset + i, a_stride, w, w_offset + i * BLOCK)
    store(z, z_offset, z_stride, tile)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

from fastmlp.kernels import vector
from fastmlp.kernels.flat import element_pointer
from fastmlp.kernels.vector import LANES, REGISTER_BYTES, Lanes, Vector, integer_constant

_IS_ARM = cpu_target.target_context.codegen().magic_tuple()[0].startswith(("aarch64", "arm64"))

# The tile that feeds the multiply-add units from the registers there are: 32 with AVX-512 and on ARM, else 16.
ROWS = 8 if REGISTER_BYTES == 64 else 4
VECTORS = 4 if _IS_ARM else 2


class Tile(types.Type):
    """Numba type of a block of ``rows x vectors`` registers of ``dtype``."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int) -> None:
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        super().__init__(name=f"Tile({dtype}, {rows}, {vectors})")

    @property
    def lanes(self) -> Lanes:
        """The register that the tile is made of."""
        return LANES[self.dtype]


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    """In LLVM a tile is an array of vectors, which its optimiser splits into registers."""

    def __init__(self, manager: Any, tile: Tile) -> None:
        super().__init__(manager, tile, ir.ArrayType(tile.lanes.vector, tile.rows * tile.vectors))


def registers_of(builder: ir.IRBuilder, tile: Tile, value: ir.Value) -> list[Vector]:
    """The registers of a tile, row after row."""
    return [Vector(builder, builder.extract_value(value, i), tile.lanes) for i in range(tile.rows * tile.vectors)]


def assemble(builder: ir.IRBuilder, registers: list[Vector]) -> ir.Value:
    """The tile that is made of some registers, row after row."""
    value = ir.Constant(ir.ArrayType(registers[0].lanes.vector, len(registers)), ir.Undefined)
    for i, register in enumerate(registers):
        value = builder.insert_value(value, register.value, i)
    return value


def row_pointers(
    builder: ir.IRBuilder, pointer: ir.Value, stride: ir.Value, tile: Tile, gap: ir.Value | None = None
) -> list[ir.Value]:
    """Pointers to the registers of a tile in memory, row after row; blocks of ``VECTORS`` are ``gap`` apart."""
    pointers = []
    for _ in range(tile.rows):
        for v in range(tile.vectors):
            offset: ir.Value = integer_constant(v % VECTORS * tile.lanes.count)
            if gap is not None:
                offset = builder.add(offset, builder.mul(gap, integer_constant(v // VECTORS)))
            elif v >= VECTORS:
                offset = integer_constant(v * tile.lanes.count)
            pointers.append(builder.gep(pointer, [offset]))
        pointer = builder.gep(pointer, [stride])
    return pointers


@intrinsic(prefer_literal=True)
def zeros(typing_context, array, rows, vectors):
    """A tile of zeros with the dtype of ``array``."""
    tile = Tile(array.dtype, rows.literal_value, vectors.literal_value)

    def emit(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(array, rows, vectors), emit


@intrinsic
def zeros_like(typing_context, tile):
    """Zeros in the shape of another tile."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(tile), emit


@intrinsic(prefer_literal=True)
def load(typing_context, array, offset, stride, rows, vectors):
    """``tile[r, :] = array[offset + r * stride:]``; stride 0 repeats one row."""
    tile = Tile(array.dtype, rows.literal_value, vectors.literal_value)

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        pointers = row_pointers(builder, pointer, arguments[2], tile)
        return assemble(builder, [vector.load(builder, p, tile.lanes) for p in pointers])

    return tile(array, types.int64, types.int64, rows, vectors), emit


@intrinsic
def load_like(typing_context, tile, array, offset, stride, gap):
    """``load_blocks`` in the shape of another tile."""

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[1:3])
        pointers = row_pointers(builder, pointer, arguments[3], tile, arguments[4])
        return assemble(builder, [vector.load(builder, p, tile.lanes) for p in pointers])

    return tile(tile, array, types.int64, types.int64, types.int64), emit


@intrinsic
def load_square(typing_context, array, offset, stride):
    """``load`` as many rows of one register as the register has lanes."""
    tile = Tile(array.dtype, LANES[array.dtype].count, 1)

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        pointers = row_pointers(builder, pointer, arguments[2], tile)
        return assemble(builder, [vector.load(builder, p, tile.lanes) for p in pointers])

    return tile(array, types.int64, types.int64), emit


@intrinsic
def store(typing_context, array, offset, stride, tile):
    """``array[offset + r * stride:] = tile[r, :]``."""

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        registers = registers_of(builder, tile, arguments[3])
        for p, register in zip(row_pointers(builder, pointer, arguments[2], tile), registers, strict=True):
            vector.store(builder, p, register)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, tile), emit


def rank_one(
    builder: ir.IRBuilder, tile: Tile, value: ir.Value, pointer: ir.Value, stride: ir.Value, row: list[Any],
    read: Callable[[ir.Value], ir.Value],
) -> Any:  # fmt: skip
    """Multiply a column of numbers, ``stride`` apart, with a row of registers in memory, and add to a tile."""
    factors = [vector.load(builder, p, tile.lanes) for p in row]
    registers = registers_of(builder, tile, value)
    for r in range(tile.rows):
        scalar = vector.broadcast(builder, read(pointer), tile.lanes)
        for v, factor in enumerate(factors):
            registers[r * tile.vectors + v] = scalar.multiply_add(factor, registers[r * tile.vectors + v])
        pointer = builder.gep(pointer, [stride])
    return assemble(builder, registers)


@intrinsic
def multiply_add(typing_context, tile, a, a_offset, a_stride, b, b_offset):
    """The rank-1 step ``tile[r, :] += a[a_offset + r * a_stride] * b[b_offset:]``, rounded once."""

    def emit(context, builder, signature, arguments):
        value, _, offset, stride, _, b_start = arguments
        pointer = element_pointer(context, builder, a, arguments[1], offset)
        start = element_pointer(context, builder, b, arguments[4], b_start)
        row = row_pointers(builder, start, integer_constant(0), Tile(tile.dtype, 1, tile.vectors))
        return rank_one(builder, tile, value, pointer, stride, row, builder.load)

    return tile(tile, a, types.int64, types.int64, b, types.int64), emit


@intrinsic
def multiply_add_blocks(typing_context, tile, a, a_offset, a_stride, b, b_offset, b_gap):
    """``multiply_add`` for a tile of several blocks of columns, whose rows of ``b`` are ``b_gap`` apart."""

    def emit(context, builder, signature, arguments):
        value, _, offset, stride, _, b_start, gap = arguments
        pointer = element_pointer(context, builder, a, arguments[1], offset)
        start = element_pointer(context, builder, b, arguments[4], b_start)
        row = row_pointers(builder, start, integer_constant(0), Tile(tile.dtype, 1, tile.vectors), gap)
        return rank_one(builder, tile, value, pointer, stride, row, builder.load)

    return tile(tile, a, types.int64, types.int64, b, types.int64, types.int64), emit


@intrinsic(prefer_literal=True)
def load_blocks(typing_context, array, offset, stride, gap, rows, blocks):
    """``load`` several blocks of ``VECTORS`` registers that are ``gap`` apart."""
    tile = Tile(array.dtype, rows.literal_value, blocks.literal_value * VECTORS)

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        pointers = row_pointers(builder, pointer, arguments[2], tile, arguments[3])
        return assemble(builder, [vector.load(builder, p, tile.lanes) for p in pointers])

    return tile(array, types.int64, types.int64, types.int64, rows, blocks), emit


@intrinsic
def store_blocks(typing_context, array, offset, stride, gap, tile):
    """``store`` several blocks of ``VECTORS`` registers that are ``gap`` apart."""

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        registers = registers_of(builder, tile, arguments[4])
        pointers = row_pointers(builder, pointer, arguments[2], tile, arguments[3])
        for p, register in zip(pointers, registers, strict=True):
            vector.store(builder, p, register)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, tile), emit


@intrinsic
def multiply_add_rows(typing_context, tile, a, a_offset, other):
    """``tile[r, :] += a[a_offset + r] * other[r, :]``, rounded once."""

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, a, *arguments[1:3])
        registers, others = registers_of(builder, tile, arguments[0]), registers_of(builder, tile, arguments[3])
        for r in range(tile.rows):
            scalar = vector.broadcast(builder, builder.load(pointer), tile.lanes)
            for i in range(r * tile.vectors, (r + 1) * tile.vectors):
                registers[i] = scalar.multiply_add(others[i], registers[i])
            pointer = builder.gep(pointer, [integer_constant(1)])
        return assemble(builder, registers)

    return tile(tile, a, types.int64, tile), emit


def accumulate(
    builder: ir.IRBuilder, tile: Tile, value: ir.Value, pointer: ir.Value, stride: ir.Value, other: Tile,
    rows: ir.Value, read: Callable[[ir.Value], ir.Value],
) -> Any:  # fmt: skip
    """Multiply a column of numbers, ``stride`` apart, each with its row of another tile, and add to a tile of one."""
    registers, others = registers_of(builder, tile, value), registers_of(builder, other, rows)
    for r in range(other.rows):
        scalar = vector.broadcast(builder, read(pointer), tile.lanes)
        row = others[r * tile.vectors : (r + 1) * tile.vectors]
        registers = [scalar.multiply_add(number, own) for number, own in zip(row, registers, strict=True)]
        pointer = builder.gep(pointer, [stride])
    return assemble(builder, registers)


@intrinsic
def accumulate_rows(typing_context, tile, a, a_offset, a_stride, other):
    """``tile[0, :] += a[a_offset + r * a_stride] * other[r, :]`` for the rows of ``other`` from first to last."""

    def emit(context, builder, signature, arguments):
        value, _, _, stride, rows = arguments
        pointer = element_pointer(context, builder, a, *arguments[1:3])
        return accumulate(builder, tile, value, pointer, stride, other, rows, builder.load)

    if (tile.rows, tile.vectors) != (1, other.vectors):
        return None
    return tile(tile, a, types.int64, types.int64, other), emit


@intrinsic
def add_scaled(typing_context, tile, factor, other):
    """``tile + factor * other`` with a scalar ``factor`` of the tile's dtype, rounded once."""

    def emit(context, builder, signature, arguments):
        scalar = vector.broadcast(builder, arguments[1], tile.lanes)
        pairs = zip(registers_of(builder, tile, arguments[0]), registers_of(builder, tile, arguments[2]), strict=True)
        return assemble(builder, [other.multiply_add(scalar, own) for own, other in pairs])

    return tile(tile, tile.dtype, tile), emit


@intrinsic
def sum_rows(typing_context, tile):
    """The rows of a tile added from first to last: a tile of one row."""
    row = Tile(tile.dtype, 1, tile.vectors)

    def emit(context, builder, signature, arguments):
        registers = registers_of(builder, tile, arguments[0])
        total = registers[: tile.vectors]
        for r in range(1, tile.rows):
            total = [t + registers[r * tile.vectors + v] for v, t in enumerate(total)]
        return assemble(builder, total)

    return row(tile), emit


@intrinsic
def sum_elements(typing_context, tile):
    """All elements of a tile added: registers from first to last, then the lanes by halves."""

    def emit(context, builder, signature, arguments):
        registers = registers_of(builder, tile, arguments[0])
        total = registers[0]
        for register in registers[1:]:
            total = total + register
        width = tile.lanes.count
        while width > 1:
            width //= 2
            order = [i + width if i < width else i for i in range(tile.lanes.count)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), tile.lanes.count), order)
            total = total + total.of(builder.shuffle_vector(total.value, total.value, mask))
        return builder.extract_element(total.value, ir.Constant(ir.IntType(32), 0))

    return tile.dtype(tile), emit


@intrinsic
def transpose(typing_context, tile):
    """A square tile (``lanes`` rows of one register) with rows and columns exchanged."""
    if tile.rows != tile.lanes.count or tile.vectors != 1:
        return None

    def emit(context, builder, signature, arguments):
        return assemble(builder, vector.transpose(registers_of(builder, tile, arguments[0])))

    return tile(tile), emit


def _map(function: Callable[..., Vector], summary: str, operands: int = 1) -> Any:
    """An intrinsic that applies a function of registers to every register of its tiles."""

    def typed(tile: Tile) -> tuple[Any, Any]:
        def emit(context, builder, signature, arguments):
            columns = [registers_of(builder, tile, argument) for argument in arguments]
            return assemble(builder, [function(*registers) for registers in zip(*columns, strict=True)])

        return tile(*[tile] * operands), emit

    if operands == 1:

        def declare(typing_context, tile):
            return typed(tile)
    else:

        def declare(typing_context, tile, other):
            return typed(tile)

    declare.__name__ = declare.__qualname__ = function.__name__
    declare.__doc__ = summary
    return intrinsic(declare)


def _add(a: Vector, b: Vector) -> Vector:
    return a + b


def _subtract(a: Vector, b: Vector) -> Vector:
    return a - b


def _multiply(a: Vector, b: Vector) -> Vector:
    return a * b


def _divide(a: Vector, b: Vector) -> Vector:
    return a / b


def _maximum(a: Vector, b: Vector) -> Vector:
    return a.maximum(b)


def _rectify(x: Vector) -> Vector:
    return x.maximum(0.0)


def _step(x: Vector) -> Vector:
    return x.where(">", 0.0, x.constant(1.0), x.constant(0.0))


add = _map(_add, "Element-wise sum of two tiles.", 2)
subtract = _map(_subtract, "Element-wise difference of two tiles.", 2)
multiply = _map(_multiply, "Element-wise product of two tiles.", 2)
divide = _map(_divide, "Element-wise quotient of two tiles.", 2)
maximum = _map(_maximum, "Element-wise maximum of two tiles; NaN in the first stays NaN.", 2)
rectify = _map(_rectify, "max(x, 0); NaN stays NaN.")
step = _map(_step, "1 where x > 0, else 0.")
exponential = _map(vector.exponential, "e^x.")
logarithm = _map(vector.logarithm, "ln x for positive normal x.")
hyperbolic_tangent = _map(vector.hyperbolic_tangent, "tanh x.")
logistic = _map(vector.logistic, "1 / (1 + e^-x).")


@intrinsic
def where_greater(typing_context, a, b, chosen, otherwise):
    """``chosen`` where ``a > b``, else ``otherwise``; four tiles of one shape."""

    def emit(context, builder, signature, arguments):
        columns = zip(*[registers_of(builder, a, argument) for argument in arguments], strict=True)
        return assemble(builder, [x.where(">", y, yes, no) for x, y, yes, no in columns])

    return a(a, a, a, a), emit


@intrinsic(prefer_literal=True)
def fill(typing_context, array, number, rows, vectors):
    """A tile with ``number`` (a scalar of the array's dtype) in every lane."""
    tile = Tile(array.dtype, rows.literal_value, vectors.literal_value)

    def emit(context, builder, signature, arguments):
        return assemble(builder, [vector.broadcast(builder, arguments[1], tile.lanes)] * (tile.rows * tile.vectors))

    return tile(array, array.dtype, rows, vectors), emit


@intrinsic
def lanes_of(typing_context, array):
    """Number of elements of the array's dtype in one register; a compile-time constant."""

    def emit(context, builder, signature, arguments):
        return integer_constant(LANES[array.dtype].count)

    return types.int64(array), emit
