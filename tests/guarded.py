"""Run the library with every array of every kernel between two forbidden pages, in a process of its own.

A read or write outside an array then ends the process (SIGSEGV) instead of going unnoticed. Arrays lie flush
with the end of their pages, or with the start; what is left of a page holds a pattern that must not change.

``python -m tests.guarded end|start [SHIFT]`` runs the cases, ``... self-test`` commits the faults to catch.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastmlp.engine import prediction
from fastmlp.kernels.compiler import EntryKernel
from fastmlp.kernels.peak import CHAINS, multiply_add_chains
from fastmlp.kernels.piece import Memory
from fastmlp.kernels.tile import VECTORS
from fastmlp.kernels.vector import REGISTER_BYTES
from fastmlp.network import Network
from fastmlp.training import train
from fastmlp.workers import Workers, run_apart
from tests import probe_kernels
from tests.small_data import ACTIVATIONS, Array, Samples, make_network, pixels, same_bits, table

PATTERN = 0xA5


class Pages:
    """A copy of an array between two forbidden pages.

    Parameters
    ----------
    array : ndarray
        C-contiguous.
    at_end : bool
        Whether the copy ends where its last page ends, instead of beginning where its first page begins.
    """

    def __init__(self, array: Array, *, at_end: bool) -> None:
        self.original = array
        page = mmap.PAGESIZE
        length = -(-array.nbytes // page) * page
        self._map = mmap.mmap(-1, length + 2 * page)
        everything = np.frombuffer(self._map, np.uint8)
        address = everything.ctypes.data
        for forbidden in (address, address + page + length):
            if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(forbidden), page, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        between = everything[page : page + length]
        between[:] = PATTERN
        start = length - array.nbytes if at_end else 0
        self._rest = between[:start] if at_end else between[array.nbytes :]
        self.copy: Array = between[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.copy[...] = array
        self.copy.flags.writeable = array.flags.writeable

    def finish(self) -> None:
        """Look at the pattern and hand over what was written."""
        if not (self._rest == PATTERN).all():
            raise AssertionError("a kernel wrote beside an array")
        if self.original.flags.writeable:
            self.original[...] = self.copy


class Guard:
    """Guarded copies of all arrays of some calls that share arrays."""

    def __init__(self, *, at_end: bool) -> None:
        self.at_end = at_end
        self._pages: dict[tuple[Any, ...], Pages] = {}

    def copy(self, value: Any) -> Any:
        """Copy an array, or the arrays in a tuple; the same array gets the same copy."""
        if isinstance(value, Memory):
            # what earlier calls left in the working memory must not matter, not even NaN
            for name in ("shared", "parts", "exchange", "own", "gathered", "nonzero", "marks", "operands"):
                getattr(value, name).view(np.uint8)[:] = 0xFF
        if isinstance(value, tuple):
            copies = [self.copy(each) for each in value]
            return type(value)(*copies) if hasattr(value, "_fields") else tuple(copies)
        if not isinstance(value, np.ndarray):
            return value
        key: tuple[Any, ...] = value.ctypes.data, value.nbytes, value.dtype.str, value.flags.writeable
        if not value.nbytes:
            key = (id(value),)
        if key not in self._pages:
            self._pages[key] = Pages(value, at_end=self.at_end)
        return self._pages[key].copy

    def finish(self) -> None:
        """Check all copies and hand over what was written to them."""
        for pages in self._pages.values():
            pages.finish()


class GuardedKernel:
    """A compiled kernel whose calls get guarded copies of their arrays."""

    at_end = True

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self.kernel = kernel

    def __call__(self, *arguments: Any) -> None:
        """Make one call alone."""
        guard = Guard(at_end=self.at_end)
        self.kernel(*guard.copy(arguments))
        guard.finish()


def install() -> None:
    """Let all kernels that the library calls be guarded."""
    prepare, run = EntryKernel.prepare, Workers.run

    def guarded_prepare(self: EntryKernel, *arguments: object) -> tuple[Callable[..., Any], float]:
        kernel, seconds = prepare(self, *arguments)
        return GuardedKernel(kernel), seconds

    def guarded_run(self: Workers, calls: list[Any], *rest: Any) -> None:
        guard = Guard(at_end=GuardedKernel.at_end)
        run(self, [guarded(call, guard) for call in calls], *rest)
        guard.finish()

    def guarded_run_apart(calls: list[Any], stop: Callable[[], None]) -> None:
        guard = Guard(at_end=GuardedKernel.at_end)
        for call in calls:
            *_, prepared, _ = call.args
            prepared[:] = 0  # the guard overwrites it
        run_apart([guarded(call, guard) for call in calls], stop)
        guard.finish()

    EntryKernel.prepare = guarded_prepare  # type: ignore[method-assign]
    prediction.run_apart = guarded_run_apart  # type: ignore[assignment]
    Workers.run = guarded_run  # type: ignore[method-assign, assignment]


def guarded(call: Any, guard: Guard) -> Callable[[], object]:
    """Give a kernel's call guarded copies."""
    return partial(call.func.kernel, *guard.copy(call.args))


class Case(NamedTuple):
    """What is run."""

    samples: Samples
    network: Network
    options: dict[str, Any]

    def __str__(self) -> str:
        n, threads, X = len(self.samples.X), self.options["threads"], self.samples.X
        density = np.count_nonzero(X) / X.size
        return f"{self.network}, {n} samples of {X.dtype}, density {density:.2f}, {threads} threads"


def cases(shift: int) -> Iterator[Case]:
    """Give data, networks and options over all tail shapes; another ``shift`` combines them otherwise."""
    sizes = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 130)
    count = shift
    for dtype in ("float32", "float64"):
        for n_features in sizes:
            for kind in ("bytes", "sparse bytes", "numbers", "sparse numbers"):
                count += 1
                n = sizes[count % len(sizes)] if count % 7 else 600
                n_classes = (1, 2, 8, 9, 10, 17, 40)[count % 7]
                hidden = ((), (1,), (33,), (16, 31), (64, 5), (100,), (20,) * 6, (40, 129), (400, 390))[count % 9]
                if kind == "numbers":
                    samples = table(n, n_features, n_classes, dtype=dtype)
                else:
                    samples = pixels(n, n_features, n_classes, density=0.9 if kind == "bytes" else 0.2)
                if kind == "sparse numbers":
                    samples = samples._replace(X=samples.X.astype(dtype))
                activation = ACTIVATIONS[count % 5]
                network = make_network(samples, *hidden, activation=activation, dtype=dtype, n_classes=n_classes)
                options: dict[str, Any] = {
                    "batch_size": sizes[count * 5 % len(sizes)] if n < 600 else 550,
                    "momentum": (0.0, 0.5)[count % 2],
                    "nesterov": count % 4 == 1,
                    "l2": (0.0, 0.1)[count // 2 % 2],
                    "threads": 1 + count % 3,
                    "epochs": 1 if count % 4 else 3,
                    "learning_rate": 0.01,
                    # without a validation, one call runs several epochs
                    "validation": (samples.X, samples.y) if count % 4 else None,
                }
                yield Case(samples, network, options)


def run_all(shift: int, *, at_end: bool) -> None:
    """Run all cases with and without the guard, and compare the results bit for bit."""
    GuardedKernel.at_end = at_end
    free = [run_case(*case) for case in cases(shift)]
    install()
    for dtype in ("float32", "float64"):
        run_chains(np.dtype(dtype))
    for case, expected in zip(cases(shift), free, strict=True):
        print(case, flush=True)  # the last line says where it ended
        network, results = run_case(*case)
        assert same_bits(network, expected[0])
        assert [each.tobytes() for each in results] == [each.tobytes() for each in expected[1]]


def run_case(samples: Samples, network: Network, options: dict[str, Any]) -> tuple[Network, list[Array]]:
    """Do everything that runs kernels, on one thread and on several."""
    weights, biases, loss = network.gradients(samples.X, samples.y)
    history = train(network, samples.X, samples.y, **options)
    results = [*weights, *biases, np.array(loss), history.batch_loss, history.validation_loss]
    results.append(network.predict_proba(samples.X))
    results.append(np.array(network.evaluate(samples.X[:1], samples.y[:1])))
    if network.n_parameters > 5000:  # enough work for several threads
        many = np.resize(samples.X, (20_000_000 // network.n_parameters + 600, samples.X.shape[1]))
        results.append(network.predict_proba(many, threads=3))
    return network, results


def run_chains(dtype: np.dtype[Any]) -> None:
    """Run the kernel that measures the machine's peak."""
    starts = np.linspace(0.0, 1.0, CHAINS * REGISTER_BYTES // dtype.itemsize).astype(dtype)
    constants, ends = np.array([0.5, 0.5], dtype), np.empty_like(starts)
    kernel, _ = multiply_add_chains.prepare(constants, starts, 1, ends)
    kernel(constants, starts, 3, ends)
    np.testing.assert_allclose(ends, 1.0 + (starts - 1.0) / 8.0, rtol=1e-6)


def self_test() -> None:
    """Commit each fault in a child process and see that the guard ends it."""
    block = VECTORS * REGISTER_BYTES // 4
    numbers = np.zeros(1000, np.float32)

    def read(offset: int, *, at_end: bool) -> None:
        guard = Guard(at_end=at_end)
        probe_kernels.run(probe_kernels.read_from, *guard.copy((numbers, numbers.copy(), offset)))
        guard.finish()

    def write(offset: int, *, at_end: bool) -> None:
        guard = Guard(at_end=at_end)
        probe_kernels.run(probe_kernels.write_to, *guard.copy((numbers, offset)))
        guard.finish()

    last = len(numbers) - block
    for fault in (read, write):  # compiles as well
        fault(last, at_end=True)
        fault(0, at_end=False)
    for fault in (read, write):
        assert status_of(partial(fault, last + 1, at_end=True)) == -signal.SIGSEGV
        assert status_of(partial(fault, -1, at_end=False)) == -signal.SIGSEGV
    # on the side without a forbidden page, writing shows in the pattern
    assert status_of(partial(write, last + 1, at_end=False)) == 1
    assert status_of(partial(write, -1, at_end=True)) == 1


def status_of(fault: Callable[[], None]) -> int:
    """Return how a child process ends: minus the signal, or the exit code."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            fault()
            os._exit(0)
        except AssertionError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "self-test":
        self_test()
    else:
        run_all(int(sys.argv[2]) if len(sys.argv) > 2 else 0, at_end=sys.argv[1] == "end")
