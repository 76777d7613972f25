"""How Numba compiles what only kernels call: not to machine code, but to what is linked into these.

Numba optimises a function together with all that it calls, and makes machine code of it, before another function can
call it: what is at the bottom is optimised and translated anew for every level above it. Building blocks are left as
they were written instead, and all is optimised once, when a kernel that Python calls is compiled.

Numba also makes another copy for each number that is written where a function is called, as in ``f(0)``. One is enough
here, since LLVM sees that number as well.

With both, and without what only a matrix unit needs, compiling for a training takes half the time: 21 and 24 s instead
of 42 and 49, in turn on an AMD Zen 3. As loops are unrolled once instead of at each level, there are a quarter fewer
instructions; mini-batches take as long, within 2 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):
    """The code of a building block and of all that it calls, which nobody runs from here."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """The step from Numba's code to LLVM's."""

    _name = "lower_building_block"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        result = state["cr"]
        name = object().__reduce__  # callers find the code by some function written in C that is not another's
        state.targetctx.insert_user_function(name, result.fndesc, [state.library])
        state["cr"] = result._replace(cfunc=name)
        return True


class _Passes(CompilerBase):
    """Numba's, but for this step."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [(_Lowering if step is NativeLowering else step, why) for step, why in passes.passes]
        passes.finalize()
        return [passes]


class BuildingBlock(CPUDispatcher):
    """A function that kernels call.

    Parameters
    ----------
    function : callable
    options : dict
        Of ``numba.njit``.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        # neither Python nor C calls it: without the wrappers for these, compiling takes 28 % less time
        unwrapped = {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=unwrapped | options, pipeline_class=_Passes)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile for arguments of these types, but for all numbers instead of the one that is written there."""
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)
