"""Which numbers differ from zero, as bits, and matrices of bits, bytes and numbers transposed."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastmlp.kernels.flat import element_pointer
from fastmlp.kernels.tile import VECTORS
from fastmlp.kernels.vector import LANES, integer_constant

# Samples that are described by one mask of 32 bits.
MARK = 32

# Columns that are transposed at a time: 16 bytes are what most instructions of x86 that reorder bytes keep to.
COLUMNS = 16


def _store_flags(builder: ir.IRBuilder, masks: ir.Value, bit: ir.Value, flags: ir.Value) -> None:
    """Store some bits into a uint64, from bit number ``bit`` on; whole bytes if there are as many."""
    count = flags.type.width
    target = builder.gep(builder.bitcast(masks, ir.IntType(8).as_pointer()), [builder.lshr(bit, integer_constant(3))])
    if count >= 8:
        builder.store(flags, builder.bitcast(target, flags.type.as_pointer()), align=1)
        return
    byte = ir.IntType(8)
    shift = builder.trunc(builder.and_(bit, integer_constant(7)), byte)
    hole = builder.not_(builder.shl(ir.Constant(byte, 2**count - 1), shift))
    kept = builder.and_(builder.load(target), hole)
    builder.store(builder.or_(kept, builder.shl(builder.zext(flags, byte), shift)), target)


@intrinsic
def mark_nonzero(typing_context, like, array, offset, masks, word, bit):
    """Write which of ``BLOCK`` numbers differ from zero into as many bits of ``masks[word]``, from ``bit`` on.

    BLOCK is that of the dtype of ``like``; ``bit`` is a multiple of it. Blocks of eight or more are whole bytes, which
    threads can write side by side.
    """
    if masks.dtype != types.uint64:
        return None

    def emit(context, builder, signature, arguments):
        count = VECTORS * LANES[like.dtype].count
        is_float = isinstance(array.dtype, types.Float)
        element = LANES[array.dtype].scalar if is_float else ir.IntType(8)
        values = ir.VectorType(element, count)
        pointer = builder.bitcast(element_pointer(context, builder, array, *arguments[1:3]), values.as_pointer())
        loaded = builder.load(pointer, align=1)
        zero = ir.Constant(values, None)
        flags = builder.fcmp_unordered("!=", loaded, zero) if is_float else builder.icmp_unsigned("!=", loaded, zero)
        target = element_pointer(context, builder, masks, *arguments[3:5])
        _store_flags(builder, target, arguments[5], builder.bitcast(flags, ir.IntType(count)))
        return context.get_dummy_value()

    return types.void(like, array, types.int64, masks, types.int64, types.int64), emit


@intrinsic
def clear_marks(typing_context, like, masks, word, bit):
    """Clear what ``mark_nonzero`` writes."""
    if masks.dtype != types.uint64:
        return None

    def emit(context, builder, signature, arguments):
        flags = ir.Constant(ir.IntType(VECTORS * LANES[like.dtype].count), 0)
        _store_flags(builder, element_pointer(context, builder, masks, *arguments[1:3]), arguments[3], flags)
        return context.get_dummy_value()

    return types.void(like, masks, types.int64, types.int64), emit


@intrinsic(prefer_literal=True)
def nonzero_samples(typing_context, x, offset, gap, count, samples):
    """Bit r, below ``samples``, says whether any of ``x[offset + r + k * gap]``, k below ``count``, differs from zero.

    A uint64. A negative zero counts as different.
    """

    def emit(context, builder, signature, arguments):
        row = ir.VectorType(ir.IntType(x.dtype.bitwidth), samples.literal_value)
        found = ir.Constant(row, None)
        pointer = element_pointer(context, builder, x, *arguments[:2])
        for _ in range(count.literal_value):
            loaded = builder.load(builder.bitcast(pointer, row.as_pointer()), align=x.dtype.bitwidth // 8)
            found = builder.or_(found, loaded)
            pointer = builder.gep(pointer, [arguments[2]])
        flags = builder.icmp_unsigned("!=", found, ir.Constant(row, None))
        bits = builder.bitcast(flags, ir.IntType(samples.literal_value))
        return builder.zext(bits, ir.IntType(64)) if samples.literal_value < 64 else bits

    return types.uint64(x, types.int64, types.int64, count, samples), emit


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _merge(builder: ir.IRBuilder, vectors: list[ir.Value], halves: int) -> list[ir.Value]:
    """Merge the first half of some vectors with the second like two halves of a pack of cards.

    That takes the highest bit of the number of a vector to the end of an element's place in it; done for all bits of
    the rows of a matrix, they are behind those of the columns. Each of one or two halves of ``COLUMNS`` elements is
    merged on its own.
    """
    width, middle = COLUMNS * halves, len(vectors) // 2
    merges = [
        [
            half * COLUMNS + part * COLUMNS // 2 + k // 2 + k % 2 * width
            for half in range(halves)
            for k in range(COLUMNS)
        ]
        for part in range(2)
    ]
    return [_shuffle(builder, vectors[k], vectors[k + middle], merge) for k in range(middle) for merge in merges]


@intrinsic
def transpose_bits(typing_context, words, offset, out, out_offset):
    """Bit ``r`` of ``out[out_offset + i]`` is bit ``i`` of ``words[offset + r]``: 32 uint64 become 64 uint32 or uint64.

    The bytes first: two rows are side by side in each half of a vector of 32 bytes, the second half is of the rows from
    16 on. Each merge takes the highest bit of the row to the end of the place of a byte (see ``transpose_rows``), until
    that of the column is which vector it is in.
    """
    if words.dtype != types.uint64 or out.dtype not in (types.uint32, types.uint64):
        return None

    def emit(context, builder, signature, arguments):
        column, pair = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(8), 16)
        start = element_pointer(context, builder, words, *arguments[:2])

        def load_pair(r: int) -> ir.Value:
            pointer = builder.gep(start, [integer_constant(r)])
            return builder.load(builder.bitcast(pointer, pair.as_pointer()), align=8)

        vectors = [_shuffle(builder, load_pair(r), load_pair(r + 16), list(range(32))) for r in range(0, 16, 2)]
        for _ in range(4):
            vectors = _merge(builder, vectors, 2)
        target = element_pointer(context, builder, out, *arguments[2:])
        zero = ir.Constant(column, None)
        for byte, values in enumerate(vectors):
            for bit in range(7, -1, -1):
                # the sign bits are one instruction on x86
                flags = builder.bitcast(builder.icmp_signed("<", values, zero), ir.IntType(32))
                place = builder.gep(target, [integer_constant(8 * byte + bit)])
                builder.store(builder.zext(flags, place.type.pointee) if out.dtype == types.uint64 else flags, place)
                values = builder.add(values, values)
        return context.get_dummy_value()

    return types.void(words, types.int64, out, types.int64), emit


@intrinsic(prefer_literal=True)
def transpose_rows(typing_context, x, starts, row, column, out, out_offset, gap, rows):
    """``out[out_offset + c * gap + r] = x[starts[row + r] + column + c]`` for 8 or 32 rows and ``COLUMNS`` columns.

    Numbers of any type; ``starts`` is uint64. 32 rows are two times 16 side by side, so that bytes never cross the
    16 of them that most instructions of x86 keep to.
    """
    if x.dtype != out.dtype or starts.dtype != types.uint64:
        return None
    count = rows.literal_value
    halves = 2 if count == 32 else 1
    height = count // halves

    def emit(context, builder, signature, arguments):
        _, _, first, start, _, target, step, _ = arguments
        element = context.get_data_type(x.dtype)
        half = ir.VectorType(element, COLUMNS)

        def load_row(r: int) -> ir.Value:
            index = builder.add(first, integer_constant(r))
            begin = builder.load(element_pointer(context, builder, starts, arguments[1], index))
            pointer = element_pointer(context, builder, x, arguments[0], builder.add(begin, start))
            return builder.load(builder.bitcast(pointer, half.as_pointer()), align=x.dtype.bitwidth // 8)

        vectors = [load_row(r) for r in range(height)]
        if halves == 2:
            everything = list(range(2 * COLUMNS))
            vectors = [_shuffle(builder, a, load_row(r + height), everything) for r, a in enumerate(vectors)]
        for _ in range(height.bit_length() - 1):
            vectors = _merge(builder, vectors, halves)
        parts = COLUMNS * halves // count  # a vector has so many columns
        for k, merged in enumerate(vectors):
            for part in range(parts):
                column = _shuffle(builder, merged, merged, list(range(part * count, (part + 1) * count)))
                place = builder.add(target, builder.mul(step, integer_constant(k * parts + part)))
                pointer = builder.bitcast(
                    element_pointer(context, builder, out, arguments[4], place), column.type.as_pointer()
                )
                builder.store(column, pointer, align=x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(x, starts, types.int64, types.int64, out, types.int64, types.int64, rows), emit
