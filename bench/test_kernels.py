"""Single kernels against NumPy on one thread: checked in a bare ``pytest``, timed with ``pytest --benchmark-only``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from numpy.typing import NDArray

from bench import kernels
from fastmlp.baseline import activate
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.kernels.layout import aligned_zeros, block_width

FLOAT32 = np.dtype(np.float32)
BLOCK = block_width(FLOAT32)
SHAPES = [(32, 784, 64), (128, 512, 512), (512, 1024, 1024)]
CUBE = (1024, 1024, 1024)

Array = NDArray[Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """NumPy's BLAS has one thread, as a kernel has."""
    with threadpoolctl.threadpool_limits(1):
        yield


def random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def panel(matrix: Array) -> Array:
    """``[blocks][rows][BLOCK]``, flat, aligned and padded with zeros."""
    rows, columns = matrix.shape
    blocks = -(-columns // BLOCK)
    flat = aligned_zeros(blocks * rows * BLOCK, FLOAT32)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = matrix
    flat.reshape(blocks, rows, BLOCK)[...] = padded.reshape(rows, blocks, BLOCK).transpose(1, 0, 2)
    return flat


def matrix(flat: Array, rows: int, columns: int) -> Array:
    """The reverse of ``panel``."""
    return flat.reshape(-1, rows, BLOCK).transpose(1, 0, 2).reshape(rows, -1)[:, :columns]


def padded_rows(weights: Array) -> Array:
    """Weights with rows of zeros up to whole blocks of inputs."""
    return np.pad(weights, ((0, -len(weights) % BLOCK), (0, 0)))


def product_call(shape: tuple[int, int, int]) -> tuple[Callable[[], Array], Callable[[], Array], float]:
    """A kernel's call, NumPy's call, and the tolerance: rounding grows with the length of the sums."""
    rows, fan_in, fan_out = shape
    a, w = random(rows, fan_in), random(fan_in, fan_out)
    inputs, outputs = -(-fan_in // BLOCK), -(-fan_out // BLOCK)
    panel_a = panel(a)
    weights = np.concatenate([panel(padded_rows(w)), np.zeros(outputs * BLOCK, np.float32)])
    z = aligned_zeros(outputs * rows * BLOCK, FLOAT32)
    arguments = (panel_a, rows, inputs, weights, outputs, z)
    kernel, _ = kernels.product.prepare(*arguments)

    def ours() -> Array:
        kernel(*arguments)
        return matrix(z, rows, fan_out)

    return ours, lambda: a @ w, 1e-6 * fan_in


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product(shape: tuple[int, int, int]) -> None:
    ours, numpy, tolerance = product_call(shape)
    np.testing.assert_allclose(ours(), numpy(), atol=tolerance)


@pytest.mark.parametrize("who", ["fastmlp", "numpy"])
@pytest.mark.parametrize("shape", [*SHAPES, CUBE], ids=str)
def test_product_speed(benchmark: Any, shape: tuple[int, int, int], who: str) -> None:
    benchmark.group = f"product {shape}"
    ours, numpy, _ = product_call(shape)
    call = ours if who == "fastmlp" else numpy
    call()
    benchmark(call)
    benchmark.extra_info["GFLOP/s"] = 2e-9 * float(np.prod(shape)) / benchmark.stats.stats.median


def step_call(shape: tuple[int, int, int]) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """One weight step ``W + a^T deltas``, starting from zero weights each time it is checked."""
    rows, fan_in, fan_out = shape
    a, deltas = random(rows, fan_in), random(rows, fan_out) * np.float32(1e-3)
    inputs, outputs = -(-fan_in // BLOCK), -(-fan_out // BLOCK)
    w = aligned_zeros(outputs * inputs * BLOCK * BLOCK, FLOAT32)
    arguments = (panel(a), rows, inputs, panel(deltas), w, outputs)
    kernel, _ = kernels.step.prepare(*arguments)
    plain = np.zeros((fan_in, fan_out), np.float32)

    def ours() -> Array:
        kernel(*arguments)
        return matrix(w, inputs * BLOCK, fan_out)[:fan_in]

    def numpy() -> Array:
        np.add(plain, a.T @ deltas, out=plain)
        return plain

    return ours, numpy


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_step(shape: tuple[int, int, int]) -> None:
    ours, numpy = step_call(shape)
    np.testing.assert_allclose(ours(), numpy(), atol=1e-7 * shape[0])


@pytest.mark.parametrize("who", ["fastmlp", "numpy"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_step_speed(benchmark: Any, shape: tuple[int, int, int], who: str) -> None:
    benchmark.group = f"weight step {shape}"
    ours, numpy = step_call(shape)
    benchmark(ours if who == "fastmlp" else numpy)


def activation_call(name: str) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """An activation of 32 x 512 numbers; ours works in place, so it is given them anew each time."""
    rows, units = 32, 512
    z = random(rows, units) * np.float32(4)
    source = panel(z)
    work = source.copy()
    arguments = (ACTIVATIONS.index(name), work, rows, units // BLOCK)
    kernel, _ = kernels.activation.prepare(*arguments)

    def ours() -> Array:
        np.copyto(work, source)
        kernel(*arguments)
        return matrix(work, rows, units)

    return ours, lambda: activate(name, z)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    ours, numpy = activation_call(name)
    np.testing.assert_allclose(ours(), numpy(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("who", ["fastmlp", "numpy"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_speed(benchmark: Any, name: str, who: str) -> None:
    benchmark.group = f"activation {name}, 32 x 512"
    ours, numpy = activation_call(name)
    benchmark(ours if who == "fastmlp" else numpy)


def softmax_call() -> tuple[Callable[[], Array], Callable[[], Array]]:
    """Softmax of 10 classes for BLOCK samples; ours has samples along the vectors and classes padded to 16."""
    classes, n_classes = 16, 10
    logits = random(BLOCK, n_classes) * np.float32(5)
    ours_in = aligned_zeros(classes * BLOCK, FLOAT32)
    ours_in.reshape(classes, BLOCK)[:n_classes] = logits.T
    out, log_sums = aligned_zeros(classes * BLOCK, FLOAT32), aligned_zeros(BLOCK, FLOAT32)
    arguments = (ours_in, classes, n_classes, BLOCK, out, log_sums)
    kernel, _ = kernels.softmax.prepare(*arguments)

    def ours() -> Array:
        kernel(*arguments)
        return out.reshape(classes, BLOCK)[:n_classes].T

    def numpy() -> Array:
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    return ours, numpy


def test_softmax() -> None:
    ours, numpy = softmax_call()
    np.testing.assert_allclose(ours(), numpy(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("who", ["fastmlp", "numpy"])
def test_softmax_speed(benchmark: Any, who: str) -> None:
    benchmark.group = f"softmax of 10 classes, {BLOCK} samples"
    ours, numpy = softmax_call()
    benchmark(ours if who == "fastmlp" else numpy)
