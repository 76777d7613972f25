"""Which parts of the kernels are ever run, counted by the compiled kernels themselves.

Coverage tools follow Python's lines, which compiled code does not run; Numba's own coverage marks what was compiled.
Here every block of every kernel gets an instruction that leaves a mark when the block is run: the body of each
function, loop and branch, and also the way past an ``if`` without ``else``. ``pytest -p tests.kernel_coverage``
changes the sources so while they are imported, compiles without the cache, and at the end lists the blocks that no
test in this process has run. ``python -m tests.coverage`` does it with the right tests.

Operands that ``and``, ``or`` and conditional expressions leave out are not seen.
"""

# mypy: ignore-errors
# An intrinsic is a function only inside of kernels.

from __future__ import annotations

import ast
import importlib.machinery
import os
import sys
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

KERNELS = Path(__file__).absolute().parent.parent / "fastmlp" / "kernels"
DECORATORS = {"kernel", "phase", "entry_kernel"}
MARKER = "_leave_mark"

marks = np.zeros(1 << 14, np.uint8)
blocks: list[tuple[str, int, str]] = []
"""File, line and kind of each block; its position is its number."""


@intrinsic
def leave_mark(typing_context: Any, block: Any) -> Any:
    """Note that a block was run."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        address = builder.add(ir.Constant(ir.IntType(64), marks.ctypes.data), arguments[0])
        builder.store(ir.Constant(byte, 1), builder.inttoptr(address, byte.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), emit


class Marker(ast.NodeTransformer):
    """Puts a mark at the beginning of every block of the kernels of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = False

    def mark(self, line: int, kind: str) -> ast.stmt:
        """Make a statement that leaves a new mark."""
        blocks.append((self.name, line, kind))
        return ast.parse(f"{MARKER}({len(blocks) - 1})").body[0]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Mark the kernels, also those in a function that makes kernels."""
        names = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
        outside, self.inside = self.inside, bool(names & DECORATORS)
        self.generic_visit(node)
        if self.inside:
            has_docstring = ast.get_docstring(node) is not None
            node.body.insert(int(has_docstring), self.mark(node.lineno, f"kernel {node.name}"))
        self.inside = outside
        return node

    def visit_If(self, node: ast.If) -> ast.If:
        """Mark both branches, whether or not the second is written."""
        self.generic_visit(node)
        if self.inside:
            line = node.orelse[0].lineno if node.orelse else node.lineno
            node.orelse.insert(0, self.mark(line, "else" if node.orelse else "past the if"))
            node.body.insert(0, self.mark(node.lineno, "if"))
        return node

    def _loop(self, node: Any) -> Any:
        self.generic_visit(node)
        if self.inside:
            node.body.insert(0, self.mark(node.lineno, "loop"))
        return node

    visit_For = visit_While = _loop  # noqa: N815


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the source of a kernel module with marks."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source, never taking what Python has cached."""
        path = Path(self.get_filename(fullname))
        tree = Marker(path.name).visit(ast.parse(path.read_text(), str(path)))
        position = sum(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in tree.body)
        position += ast.get_docstring(tree) is not None
        tree.body[position:position] = ast.parse(f"from tests.kernel_coverage import leave_mark as {MARKER}").body
        return compile(ast.fix_missing_locations(tree), str(path), "exec")


class Finder(importlib.machinery.PathFinder):
    """Finds the kernel modules."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Give our loader to the modules with kernels."""
        if not fullname.startswith("fastmlp.kernels."):
            return None
        spec = super().find_spec(fullname, path, target)
        spec.loader = Loader(fullname, spec.origin)
        return spec


def pytest_configure(config: Any) -> None:
    """Begin before anything is imported."""
    assert "fastmlp.kernels.tile" not in sys.modules, "the kernels are imported already"
    os.environ["FASTMLP_CACHE_DIR"] = "off"
    sys.meta_path.insert(0, Finder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what was never run."""
    run = marks[: len(blocks)].astype(bool)
    count, missed = Counter(), Counter()
    terminalreporter.section("blocks of compiled kernels that were never run")
    for (name, line, kind), seen in sorted(zip(blocks, run.tolist(), strict=True)):
        count[name] += 1
        if not seen:
            missed[name] += 1
            terminalreporter.line(f"fastmlp/kernels/{name}:{line}: {kind}")
    for name in sorted(count):
        terminalreporter.line(f"{name:20} {count[name] - missed[name]:4} of {count[name]:4} blocks run")
    terminalreporter.line(f"{'all':20} {int(run.sum()):4} of {len(run):4} blocks run")
