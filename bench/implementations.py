"""The one table of implementations: who is in it is checked, and who is checked is timed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmlp.system import usable_cpus

if TYPE_CHECKING:
    from bench.peers.base import Peer


@dataclass(frozen=True)
class Implementation:
    """A library with its best settings for this work.

    Attributes
    ----------
    name : str
        Short and unique; it ends in "-1" or "-all", the number of threads.
    label : str
        For tables and figures.
    peer : str
        "module:class" of the adapter, imported in the worker process only.
    module : str
        What must be importable, and whose version is reported.
    dtype : {"float32", "float64"}
        Of weights, data and arithmetic.
    one_thread : bool
        One thread, or as many as the process may use.
    optional : bool
        Only timed when asked for.
    """

    name: str
    label: str
    peer: str
    module: str
    dtype: str = "float32"
    one_thread: bool = False
    optional: bool = False

    @property
    def threads(self) -> int:
        """Threads that it may use here."""
        return 1 if self.one_thread else usable_cpus()

    @property
    def installed(self) -> bool:
        """Whether its library is."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def threads_text(self) -> str:
        """The number of threads in words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"

    @property
    def title(self) -> str:
        """The label with dtype and threads, as a table row begins."""
        return f"{self.label}, {self.threads_text}"

    def environment(self) -> dict[str, str]:
        """Return the environment of its worker process: thread pools limited, no overrides."""
        environment = {key: value for key, value in os.environ.items() if key not in UNSET_IN_WORKERS}
        environment.update(dict.fromkeys(_THREAD_VARIABLES, str(self.threads)))
        environment["JAX_PLATFORMS"] = "cpu"
        if self.threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        return environment

    def adapter(self) -> type[Peer]:
        """Import the adapter; called in the worker process."""
        module, _, name = self.peer.partition(":")
        adapter: type[Peer] = getattr(importlib.import_module(module), name)
        return adapter


# OpenBLAS would take another CPU's kernels or cache sizes on their word; the rest would change what a peer
# does by itself.
UNSET_IN_WORKERS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "XLA_FLAGS")
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def _with_one_and_all_threads(
    name: str, label: str, peer: str, module: str, dtype: str = "float32", optional: bool = False
) -> tuple[Implementation, Implementation]:
    return (
        Implementation(f"{name}-1", label, peer, module, dtype, one_thread=True, optional=optional),
        Implementation(f"{name}-all", label, peer, module, dtype, optional=optional),
    )


IMPLEMENTATIONS: tuple[Implementation, ...] = (
    *_with_one_and_all_threads("fastmlp", "fastmlp", "bench.peers.own:Fastmlp", "fastmlp"),
    *_with_one_and_all_threads("jax", "JAX, jitted scan over the epoch", "bench.peers.jax_scan:JaxScan", "jax"),
    *_with_one_and_all_threads("pytorch", "PyTorch, eager", "bench.peers.pytorch:PyTorch", "torch"),
    *_with_one_and_all_threads(
        "pytorch-compiled", "PyTorch, compiled", "bench.peers.pytorch:PyTorchCompiled", "torch", optional=True
    ),
    *_with_one_and_all_threads(
        "scikit-learn", "scikit-learn MLPClassifier", "bench.peers.scikit_learn:ScikitLearn", "sklearn"
    ),
    *_with_one_and_all_threads("numpy-float32", "NumPy float32", "bench.peers.numpy_twin:NumpyTwin", "numpy"),
    *_with_one_and_all_threads(
        "numpy-float64", "NumPy float64", "bench.peers.numpy_twin:NumpyTwin", "numpy", dtype="float64"
    ),
    Implementation("numba-textbook-all", "textbook Numba", "bench.peers.textbook_numba:TextbookNumba", "numba"),
)

BY_NAME = {implementation.name: implementation for implementation in IMPLEMENTATIONS}


def chosen(names: Sequence[str], *, with_optional: bool = False) -> list[Implementation]:
    """Return the installed ones among `names`; a name without threads, "jax", stands for all its entries."""
    return [
        each
        for each in IMPLEMENTATIONS
        if (each.name in names or family_of(each.name) in names)
        and each.installed
        and (with_optional or not each.optional)
    ]


def missing() -> list[str]:
    """Return the modules of the table that are not installed, to be named in the report."""
    return sorted({each.module for each in IMPLEMENTATIONS if not each.installed})


def family_of(name: str) -> str:
    """Return the name without its number of threads: "jax-all" -> "jax"."""
    return name.rsplit("-", 1)[0]
