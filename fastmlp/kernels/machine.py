"""What kernels need of the machine besides arithmetic: atomics, a clock, prefetching, the floating-point mode."""

from __future__ import annotations

import os
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastmlp.kernels.flat import element_pointer

_TRIPLE = cpu_target.target_context.codegen().magic_tuple()[0]
_X86 = _TRIPLE.startswith(("x86_64", "i386", "i686"))
_ARM = _TRIPLE.startswith(("aarch64", "arm64"))
_WORD = ir.IntType(64)


# Without it LLVM ends the process where it meets assembly, and Numba does not call it.
llvmlite.binding.initialize_native_asmparser()


def emit_assembly(builder: ir.IRBuilder, result: ir.Type, text: str, constraint: str, *arguments: ir.Value) -> Any:
    """Append instructions as text; ``constraint`` says in which registers operands are."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(ir.InlineAsm(signature, text, constraint, side_effect=True), list(arguments))


@intrinsic
def stay_behind(typing_context):
    """Nothing, but LLVM leaves it, and so what is behind the same condition, where it is.

    Instead of asking first it would do what is there for nothing, and ask for each register whether to take the result.
    """

    def emit(context, builder, signature, arguments):
        emit_assembly(builder, ir.VoidType(), "", "")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def load_acquire(typing_context, array, offset):
    """Read ``array[offset]`` (int64); what its writer wrote before ``store_release`` is visible afterwards."""

    def emit(context, builder, signature, arguments):
        return builder.load_atomic(element_pointer(context, builder, array, *arguments), "acquire", 8)

    return types.int64(array, types.int64), emit


@intrinsic
def store_release(typing_context, array, offset, value):
    """Write ``array[offset] = value`` (int64) after everything written before it."""

    def emit(context, builder, signature, arguments):
        builder.store_atomic(arguments[2], element_pointer(context, builder, array, *arguments[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), emit


@intrinsic
def fetch_add(typing_context, array, offset, value):
    """Add to ``array[offset]`` (int64) atomically and return what it was."""

    def emit(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, array, *arguments[:2])
        return builder.atomic_rmw("add", pointer, arguments[2], "acq_rel")

    return types.int64(array, types.int64, types.int64), emit


@intrinsic
def pause(typing_context):
    """Tell the core that this is a spin loop."""

    def emit(context, builder, signature, arguments):
        if _X86:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        elif _ARM:
            emit_assembly(builder, ir.VoidType(), "yield", "")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def yield_processor(typing_context):
    """Give the rest of the time slice to another thread."""
    # by symbol name: a ctypes pointer would keep the kernel out of the cache
    name, result = ("SwitchToThread", ir.IntType(32)) if os.name == "nt" else ("sched_yield", ir.IntType(32))

    def emit(context, builder, signature, arguments):
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, []), name), [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def clock(typing_context):
    """A counter that runs at a constant rate on every core (the time stamp counter; ``cntvct_el0`` on ARM)."""

    def emit(context, builder, signature, arguments):
        if _ARM:  # LLVM's cycle counter is privileged there
            return emit_assembly(builder, _WORD, "mrs $0, cntvct_el0", "=r")
        function = ir.FunctionType(_WORD, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.readcyclecounter"), [])

    return types.int64(), emit


@intrinsic
def count_trailing_zeros(typing_context, word):
    """Index of the lowest set bit of a uint64 that is not zero."""

    def emit(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit


@intrinsic
def prefetch(typing_context, array, offset):
    """Ask for the cache line of ``array[offset]``; any offset is allowed."""

    def emit(context, builder, signature, arguments):
        pointer = builder.bitcast(element_pointer(context, builder, array, *arguments), ir.IntType(8).as_pointer())
        integer = ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [pointer.type, integer, integer, integer])
        callee = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
        # read, moderate locality (second-level cache), data
        builder.call(callee, [pointer, ir.Constant(integer, 0), ir.Constant(integer, 2), ir.Constant(integer, 1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), emit


@intrinsic
def flush_subnormals(typing_context):
    """Treat subnormal numbers as zero in this thread, as they cost a hundred times an ordinary operation.

    Returns the mode before, for ``restore_floating_point``.
    """

    def emit(context, builder, signature, arguments):
        if _X86:
            before = _control_register(builder)
            _set_control_register(builder, builder.or_(before, ir.Constant(ir.IntType(32), 0x8040)))
            return builder.zext(before, _WORD)
        if _ARM:
            before = emit_assembly(builder, _WORD, "mrs $0, fpcr", "=r")
            emit_assembly(builder, ir.VoidType(), "msr fpcr, $0", "r", builder.or_(before, ir.Constant(_WORD, 1 << 24)))
            return before
        return ir.Constant(_WORD, 0)

    return types.int64(), emit


@intrinsic
def restore_floating_point(typing_context, mode):
    """Undo ``flush_subnormals``."""

    def emit(context, builder, signature, arguments):
        if _X86:
            _set_control_register(builder, builder.trunc(arguments[0], ir.IntType(32)))
        elif _ARM:
            emit_assembly(builder, ir.VoidType(), "msr fpcr, $0", "r", arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit


def _control_register(builder: ir.IRBuilder) -> ir.Value:
    slot = cgutils.alloca_once(builder, ir.IntType(32))
    _control_call(builder, "llvm.x86.sse.stmxcsr", slot)
    return builder.load(slot)


def _set_control_register(builder: ir.IRBuilder, value: ir.Value) -> None:
    slot = cgutils.alloca_once(builder, ir.IntType(32))
    builder.store(value, slot)
    _control_call(builder, "llvm.x86.sse.ldmxcsr", slot)


def _control_call(builder: ir.IRBuilder, name: str, slot: ir.Value) -> None:
    pointer = builder.bitcast(slot, ir.IntType(8).as_pointer())
    function = ir.FunctionType(ir.VoidType(), [pointer.type])
    builder.call(cgutils.get_or_insert_function(builder.module, function, name), [pointer])
