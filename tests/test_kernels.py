"""The shape of the compiled core: who compiles, who imports whom, and that the hot loops really are SIMD."""

from __future__ import annotations

import ast
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

import fastmlp
from fastmlp import engine
from fastmlp.kernels import compiler
from fastmlp.kernels.compiler import EntryKernel
from fastmlp.kernels.tile import ROWS, VECTORS
from tests import probe_kernels

PACKAGE = Path(fastmlp.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The files that compile; the textbook port of the benchmarks is a rival and compiles as textbooks do.
COMPILERS = {"fastmlp/kernels/building_block.py", "fastmlp/kernels/compiler.py", "bench/peers/textbook_numba.py"}

# Names by which Numba compiles.
COMPILING = {
    "jit",
    "njit",
    "vectorize",
    "guvectorize",
    "cfunc",
    "stencil",
    "generated_jit",
    "jit_module",
    "CPUDispatcher",
}


def imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, also inside functions, not for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written in full"
            module = node.module or ""
            found |= {
                f"{module}.{alias.name}" if is_module(f"{module}.{alias.name}") else module for alias in node.names
            }
    return {name for name in found if name.split(".")[0] == "fastmlp"}


def is_module(name: str) -> bool:
    """Whether a dotted name is a file or folder of the package."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("fastmlp") and (path.with_suffix(".py").is_file() or path.is_dir())


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


GRAPH = {module_name(path): imports(path) for path in SOURCES}


def folder_of(name: str) -> str:
    """Return the command line, the report, the readers of data and the engine as one module each."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[1:2] in (["cli"], ["report"], ["datasets"], ["engine"]) else name


def importers(prefix: str) -> set[str]:
    """Return the modules outside of a part of the package that import something of it."""
    return {
        name
        for name, imported in GRAPH.items()
        if not name.startswith(prefix) and any(each == prefix or each.startswith(prefix + ".") for each in imported)
    }


def test_only_two_files_compile() -> None:
    """All kernels get the same options and the same cache; Numba's own cache can run old code."""
    root = PACKAGE.parent
    files = [*SOURCES, *(root / "bench").rglob("*.py")]
    compiling = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "import numba" in text or "from numba" in text else ():
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in COMPILING:
                compiling.add(path.relative_to(root).as_posix())
    assert "fastmlp/kernels/compiler.py" in compiling
    assert compiling <= COMPILERS


def test_no_kernel_may_assume_finite_numbers() -> None:
    """Fast-math that does would let the compiler drop the checks for a diverged loss."""
    assert "fastmath" not in compiler._OPTIONS
    for path in (PACKAGE / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.keyword) and node.arg == "fastmath"), path.name


def test_kernels_import_nothing_from_outside() -> None:
    """The cache is keyed by the sources of this folder: what is compiled must not depend on other files."""
    for name, imported in GRAPH.items():
        if name.startswith("fastmlp.kernels"):
            assert all(each.startswith("fastmlp.kernels") for each in imported), name


def test_kernels_do_not_read_the_environment() -> None:
    """Numba freezes what they would find; only the compiler looks, and makes it part of the cache's key."""
    for path in (PACKAGE / "kernels").glob("*.py"):
        if path.name != "compiler.py":
            text = path.read_text(encoding="utf-8")
            assert "environ" not in text, path.name
            assert not re.search(r"\b(print|open|getenv)\(", text), path.name


def test_imports_run_one_way() -> None:
    """A network saves itself and a model file makes a network; all else has an order."""
    graph: dict[str, set[str]] = {}
    for name, imported in GRAPH.items():
        graph.setdefault(folder_of(name), set()).update(folder_of(each) for each in imported)
    graph = {name: imported - {name, "fastmlp"} for name, imported in graph.items() if name != "fastmlp"}
    graph["fastmlp.network"].remove("fastmlp.model_file")
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {error.args[1]}")


def test_each_layer_is_used_by_those_above_it_only() -> None:
    library = {name for name in GRAPH if not name.startswith("fastmlp.cli")}  # the command line is on top of all
    assert importers("fastmlp.cli") <= {"fastmlp.__main__"}
    near_the_kernels = {f"fastmlp.{name}" for name in ("engine", "network", "profiling")}
    assert {folder_of(name) for name in importers("fastmlp.kernels") & library} <= near_the_kernels
    near_the_engine = {f"fastmlp.{name}" for name in ("network", "training", "profiling")}
    assert importers("fastmlp.engine") & library <= near_the_engine
    for below in ("network", "engine", "baseline", "model_file", "history", "checks", "plots", "system"):
        assert "fastmlp.training" not in GRAPH[f"fastmlp.{below}"], "training is above"
    for name in GRAPH:
        if name.startswith("fastmlp.datasets"):
            allowed = ("fastmlp.datasets", "fastmlp.errors", "fastmlp.memory")
            assert all(each.startswith(allowed) for each in GRAPH[name]), name


# Machine code


def target_features() -> str:
    """Return the CPU features that Numba compiles for."""
    return str(cpu_target.target_context.codegen().magic_tuple()[2])


def assembly(monkeypatch: pytest.MonkeyPatch, kernel: EntryKernel, *arguments: object) -> str:
    """Compile a kernel without the cache, as code from the cache cannot be looked at."""
    monkeypatch.setattr(compiler, "_folder", (None, "the assembly is wanted"))
    fresh = EntryKernel(kernel.python)
    fresh.prepare(*arguments)
    return str(fresh._dispatcher.inspect_asm(fresh._dispatcher.signatures[0]))


def loops_over_tiles(assembly: str, suffix: str, rows: int) -> list[list[str]]:
    """Return the blocks that read ``rows`` single numbers and multiply-add a whole tile by them."""
    blocks = re.split(r"^\S+:.*$", assembly, flags=re.MULTILINE)
    instructions = [[line.strip() for line in block.splitlines()] for block in blocks]
    return [
        block
        for block in instructions
        if count(block, r"vbroadcasts[sd]\s.*\(|vfn?madd.*\{1to\d+\}|vmovddup\s.*\(") >= rows
        and count(block, rf"vfn?madd\d+{suffix}\s.*%[yz]mm") >= rows * VECTORS
    ]


def count(instructions: list[str], pattern: str) -> int:
    """Count the instructions that begin with a pattern."""
    return sum(bool(re.match(pattern, line)) for line in instructions)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("product", "float32"), ("product", "float64"), ("step", "float32")],
)
def test_products_run_on_packed_multiply_adds(monkeypatch: pytest.MonkeyPatch, name: str, dtype: str) -> None:
    """One per register of the tile in a loop that spills nothing, and none on single numbers."""
    if "+fma" not in target_features():
        pytest.skip("the CPU that Numba compiles for has no FMA of x86-64")
    numbers = np.zeros(1, dtype)
    if name == "product":
        text = assembly(monkeypatch, probe_kernels.dense_product, numbers, numbers, numbers, 32, 2)
    else:
        text = assembly(monkeypatch, probe_kernels.dense_step, 0, numbers, numbers, numbers, 32, 2)
    suffix = "ps" if dtype == "float32" else "pd"
    loops = loops_over_tiles(text, suffix, ROWS)
    assert loops, "no loop holds the whole tile"
    assert not re.search(r"vfn?m(add|sub)\d+s[sd]\s", text), "single numbers are multiplied"
    for loop in loops:
        assert count(loop, r"vmov\w+\s+%[xyz]mm\d+, -?\d*\(%r[sb]p\)") == 0, "registers spill"


@compiler.kernel
def _plus(a, b):
    return a + b


def test_building_blocks_are_compiled_once_for_all_numbers_and_are_no_machine_code() -> None:
    """For each number that is written, and once more at every level, compiling takes twice as long."""

    @numba.njit
    def three_sums(n):
        return _plus(n, 1) + _plus(n, 2) + _plus(n, n)

    assert three_sums(3) == 15
    (compiled,) = _plus.overloads.values()
    assert not compiled.library.codegen._engine.is_symbol_defined(compiled.fndesc.llvm_func_name)


def test_code_is_looked_up_by_all_that_its_types_depend_on() -> None:
    """An array of another kind must never reach code that was compiled for the first."""
    a = np.zeros((4, 6), np.float32)
    fixed = a.copy()
    fixed.flags.writeable = False
    misaligned = np.zeros(97, np.uint8)[1:].view(np.float32)
    record = np.zeros(1, [("x", np.int64)])
    arguments = [a, a.astype(np.float64), a[0], a.T, a[::2, ::2], fixed, misaligned, record, 1, 1.0, True, (a,), (1, a)]
    kinds = [compiler._kind(argument) for argument in arguments]
    assert len(set(kinds)) == len(kinds)
    assert compiler._kind(a.copy()) == kinds[0]


def test_threads_may_ask_for_a_kernel_at_once() -> None:
    """As when the first thing that a program does is to predict in several threads."""
    together = threading.Barrier(8)
    x = np.zeros(64, np.float32)

    def prepare(kernel: EntryKernel) -> object:
        together.wait(60)
        return kernel.prepare(0, x, x)[0]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            fresh = EntryKernel(probe_kernels.apply.python)
            assert len(set(pool.map(prepare, [fresh] * 8))) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("n_features", [1, 31, 64, 100])
def test_projections_on_the_background(n_features: int, dtype: type) -> None:
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (50, n_features), np.uint8)
    mean, std = random.uniform(1, 50, n_features), random.uniform(20, 80, n_features)
    model = engine.Model((n_features, 3, 2), "relu", np.dtype(dtype), mean, std, skip_background=True)
    zeros = [np.zeros((n_features, 3)), np.zeros((3, 2))], [np.zeros(3), np.zeros(2)]
    memory = engine.TrainingMemory(
        model, *zeros, batch_size=8, steps_per_epoch=1, rule=0, momentum=0.0, l2=0.0, threads=1
    )
    memory.take(X, np.zeros(50, np.int32))
    expected = (X / std) @ (-mean / std)
    tolerance = np.finfo(dtype).eps * n_features
    np.testing.assert_allclose(memory._data.projections, expected, rtol=tolerance, atol=tolerance)
