"""Arrays as kernels pass them on: where the elements begin, and how many there are.

An array of Numba is seven numbers, most of which no kernel asks for, and a kernel gets up to eight arrays. With two
numbers each, 784-64-10 trains in 5 % less time at batch 32, in 7 % less at batch 4, and ten layers of 64 in 3 % less.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_getattr
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, models, overload, register_model


class Flat(types.Type):
    """Numba type of a flat array: no shape, no strides, no owner."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Flat({dtype})")


@register_model(Flat)
class _FlatModel(models.StructModel):
    def __init__(self, manager: Any, flat: Flat) -> None:
        super().__init__(manager, flat, [("data", types.CPointer(flat.dtype)), ("length", types.int64)])


def element_pointer(
    context: Any, builder: ir.IRBuilder, array_type: types.Type, array: ir.Value, offset: ir.Value
) -> ir.Value:
    """Pointer to the element at an offset of a flat array, ours or Numba's; no bounds, no negative indices."""
    if isinstance(array_type, Flat):
        return builder.gep(builder.extract_value(array, 0), [offset])
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def flatten(context: Any, builder: ir.IRBuilder, array_type: types.Array, address: ir.Value) -> ir.Value:
    """Load what a ``Flat`` needs of an array of Numba that is in memory."""
    array = context.make_array(array_type)(context, builder, ref=address)
    flat = cgutils.create_struct_proxy(Flat(array_type.dtype))(context, builder)
    flat.data, flat.length = array.data, array.nitems
    return flat._getvalue()


@infer_getattr
class _FlatAttributes(AttributeTemplate):
    key = Flat

    def resolve_dtype(self, flat: Flat) -> types.DType:
        return types.DType(flat.dtype)


@lower_getattr(Flat, "dtype")
def _dtype(context: Any, builder: ir.IRBuilder, flat: Flat, value: ir.Value) -> ir.Value:
    return context.get_dummy_value()


@intrinsic
def _length(typing_context, flat):
    def emit(context, builder, signature, arguments):
        return builder.extract_value(arguments[0], 1)

    return types.int64(flat), emit


@intrinsic
def flat(typing_context, array):
    """A ``Flat`` of a flat array of Numba."""

    def emit(context, builder, signature, arguments):
        slot = cgutils.alloca_once_value(builder, arguments[0])
        return flatten(context, builder, array, slot)

    return Flat(array.dtype)(array), emit


@intrinsic
def _record(typing_context, flat, index):
    def emit(context, builder, signature, arguments):
        return element_pointer(context, builder, flat, *arguments)

    return flat.dtype(flat, types.int64), emit


@overload(operator.getitem)
def _item(flat, index):
    """Records are handed out by their address; for numbers there is ``get``."""
    of_records = isinstance(flat, Flat) and isinstance(flat.dtype, types.Record)
    return (lambda flat, index: _record(flat, index)) if of_records else None


@overload(len)
def _len(obj):
    return (lambda obj: _length(obj)) if isinstance(obj, Flat) else None


@intrinsic
def get(typing_context, array, offset):
    """``array[offset]`` without the instructions that serve negative indices."""

    def emit(context, builder, signature, arguments):
        return builder.load(element_pointer(context, builder, array, *arguments))

    return array.dtype(array, types.int64), emit


@intrinsic
def put(typing_context, array, offset, value):
    """``array[offset] = value`` without the instructions that serve negative indices."""

    def emit(context, builder, signature, arguments):
        builder.store(arguments[2], element_pointer(context, builder, array, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), emit
