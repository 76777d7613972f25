"""Every tile intrinsic against NumPy, in both dtypes and for several shapes of tile.

One kernel runs them all and stores the results one behind the other, so that there is little to compile.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastmlp.kernels.tile import ROWS, VECTORS
from fastmlp.kernels.vector import REGISTER_BYTES
from tests import probe_kernels
from tests.probe_kernels import GAP, START, STRIDE
from tests.small_data import Array

DTYPES = ("float32", "float64")

FACTOR = 0.3
ALL = 2**64 - 1


def expected_results(x: Array, y: Array) -> dict[str, Array]:
    """Return what ``probe_kernels.element_wise`` stores, in its order."""
    factor = x.dtype.type(FACTOR)
    return {
        "load and store": x,
        "add": x + y,
        "subtract": x - y,
        "multiply": x * y,
        "divide": x / y,
        "maximum": np.maximum(x, y),
        "rectify": np.maximum(x, 0),
        "step": (x > 0).astype(x.dtype),
        "add_scaled": x + factor * y,
        "fill": np.full_like(x, factor),
        "zeros": np.zeros_like(x),
        "zeros_like": np.zeros_like(x),
        "load with stride 0": np.broadcast_to(x[0], x.shape),
        "load_like": y,
        "load_as of the same dtype": y,
        "where_greater": np.where(x > y, x + x, y),
    }


ELEMENT_WISE = list(expected_results(np.ones((1, 1)), np.ones((1, 1))))
ROUNDED_TWICE = ("add_scaled",)


def operands(dtype: str, seed: int = 0) -> tuple[Array, Array]:
    """Make two flat arrays, read-only, large enough for a tile of any shape."""
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=START + 40 * STRIDE).astype(dtype) for _ in range(2)]
    for array in arrays:
        array.flags.writeable = False
    return arrays[0], arrays[1]


def width(dtype: str) -> int:
    """Return the columns of a tile."""
    return VECTORS * lanes(dtype)


def lanes(dtype: str) -> int:
    """Return the numbers in a register."""
    return REGISTER_BYTES // np.dtype(dtype).itemsize


def rows_of(array: Array, rows: int, columns: int) -> Array:
    """Return what a tile loads from an array."""
    return np.stack([array[START + r * STRIDE : START + r * STRIDE + columns] for r in range(rows)])


@pytest.fixture(scope="module", params=DTYPES)
def element_wise_results(request: pytest.FixtureRequest) -> tuple[Array, Array, Array]:
    """Run the first kernel once; returns its operands and what it stored, ``(results, rows, columns)``."""
    a, b = operands(request.param)
    size = ROWS * STRIDE
    out = np.full(len(ELEMENT_WISE) * size, -7.0, request.param)
    arguments = a, b, a.dtype.type(FACTOR), out, size
    probe_kernels.run(probe_kernels.element_wise, *arguments)
    columns = width(request.param)
    stored = out.reshape(-1, ROWS, STRIDE)
    assert (stored[:, :, columns:] == -7).all(), "nothing is written beside the tile"
    return a, b, stored[:, :, :columns]


@pytest.mark.parametrize("name", ELEMENT_WISE)
def test_element_wise_operation(element_wise_results: tuple[Array, Array, Array], name: str) -> None:
    a, b, results = element_wise_results
    x, y = (rows_of(array, ROWS, width(a.dtype.name)) for array in (a, b))
    expected = expected_results(x, y)[name]
    ours = results[ELEMENT_WISE.index(name)]
    if name in ROUNDED_TWICE:  # by NumPy; the kernel rounds once
        np.testing.assert_allclose(ours, expected, rtol=0, atol=np.finfo(a.dtype).eps * 4)
    else:
        np.testing.assert_array_equal(ours, expected)


class Reductions:
    """The results of the second kernel and what it was given."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.block, self.lanes = np.dtype(dtype), width(dtype), lanes(dtype)
        self.a, self.b = (array.copy() for array in operands(dtype, 1))
        self.a[[START, START + 2, START + self.block - 1]] = [0.0, -0.0, 0.0]
        self.bytes = np.arange(len(self.a)).astype(np.uint8)
        size = ROWS * self.block
        out = np.full(5 * size + self.lanes**2, -7.0, dtype)
        self.numbers, self.bits = np.zeros(5, dtype), np.zeros(2, np.uint64)
        self.masks = np.full(5, ALL, np.uint64)
        arguments = self.a, self.b, self.bytes, out, self.numbers, self.bits, self.masks
        probe_kernels.run(probe_kernels.reductions, *arguments)
        self.results = out[: 5 * size].reshape(5, ROWS, self.block)
        self.transposed = out[5 * size :].reshape(self.lanes, self.lanes)
        self.tile = rows_of(self.a, ROWS, self.block)
        self.row = self.b[11 : 11 + self.block]

    @property
    def rounding(self) -> float:
        """What a second rounding may change."""
        return float(np.finfo(self.dtype).eps) * 8


@pytest.fixture(scope="module", params=DTYPES)
def reduced(request: pytest.FixtureRequest) -> Reductions:
    """Run the second kernel once."""
    return Reductions(request.param)


def test_rank_one_step(reduced: Reductions) -> None:
    factors = reduced.a[3 : 3 + 7 * ROWS : 7]
    expected = reduced.tile + np.outer(factors, reduced.row)
    np.testing.assert_allclose(reduced.results[0], expected, rtol=0, atol=reduced.rounding)


def test_rank_one_step_of_another_shape(reduced: Reductions) -> None:
    expected = reduced.tile[:3, : reduced.lanes] + np.outer(reduced.a[3:24:7], reduced.row[: reduced.lanes])
    ours = reduced.results[4].reshape(-1)
    for r in range(3):
        stored = ours[r * reduced.block : r * reduced.block + reduced.lanes]
        np.testing.assert_allclose(stored, expected[r], rtol=0, atol=reduced.rounding)
    assert (ours[reduced.lanes : reduced.block] == -7).all()


def test_multiply_add_rows(reduced: Reductions) -> None:
    expected = reduced.tile + reduced.b[2 : 2 + ROWS, None] * reduced.tile
    np.testing.assert_allclose(reduced.results[1], expected, rtol=0, atol=reduced.rounding)


def test_rows_are_added_from_first_to_last(reduced: Reductions) -> None:
    expected = reduced.tile[0]
    for row in reduced.tile[1:]:
        expected = expected + row
    np.testing.assert_array_equal(reduced.results[2][0], expected)
    assert (reduced.results[2][1:] == -7).all()


def test_elements_are_added_registers_first_then_lanes_by_halves(reduced: Reductions) -> None:
    registers = reduced.tile.reshape(-1, reduced.lanes)
    for number, total in ((0, registers), (1, registers[:1])):
        lane_sums = total[0]
        for register in total[1:]:
            lane_sums = lane_sums + register
        while len(lane_sums) > 1:
            half = len(lane_sums) // 2
            lane_sums = lane_sums[:half] + lane_sums[half:]
        assert reduced.numbers[number] == lane_sums[0]


def test_bytes_become_numbers(reduced: Reductions) -> None:
    expected = rows_of(reduced.bytes, ROWS, reduced.block)
    assert expected.max() > 127, "large bytes must not become negative"
    np.testing.assert_array_equal(reduced.results[3], expected)


def test_transpose(reduced: Reductions) -> None:
    square = rows_of(reduced.a, reduced.lanes, reduced.lanes)
    np.testing.assert_array_equal(reduced.transposed, square.T)


def test_nonzero_bits(reduced: Reductions) -> None:
    """Zeros of both signs count as zero."""
    expected = sum(1 << i for i, value in enumerate(reduced.tile[0]) if value != 0)
    assert expected.bit_count() == reduced.block - 3
    others = ALL - (2**reduced.block - 1 << reduced.block)
    assert reduced.masks[1] == others | expected << reduced.block
    of_bytes = sum(1 << i for i, value in enumerate(reduced.bytes[: reduced.block]) if value != 0)
    assert reduced.masks[2] == ALL - (2**reduced.block - 1) | of_bytes
    assert reduced.masks[3] == ALL - (2**reduced.block - 1), "cleared"
    assert reduced.masks[[0, 4]].tolist() == [ALL, ALL]


def test_nonzero_bits_counts_nan(reduced: Reductions) -> None:
    a = np.zeros_like(reduced.a)
    a[START + 1] = np.nan
    masks = np.zeros(5, np.uint64)
    arguments = (
        a,
        reduced.b,
        reduced.bytes,
        np.zeros(50_000, a.dtype),
        np.zeros(5, a.dtype),
        np.zeros(2, np.uint64),
        masks,
    )
    probe_kernels.run(probe_kernels.reductions, *arguments)
    assert masks[1] == 0b10 << reduced.block


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_of_several_blocks(dtype: str) -> None:
    a, b = operands(dtype)
    block = width(dtype)
    out = np.full(20 * block, -7.0, dtype)
    masks, wide_masks = np.zeros(80, np.uint32), np.zeros(80, np.uint64)
    probe_kernels.run(probe_kernels.blocks_and_bits, a, b, out, np.zeros(40, np.uint64), masks, wide_masks)
    x, y = (np.concatenate([rows_of(array[GAP * i :], 3, block) for i in range(2)], axis=1) for array in (a, b))
    loaded, loaded_like, stepped = out[: 18 * block].reshape(3, 3, 2 * block)
    np.testing.assert_array_equal(loaded, x)
    np.testing.assert_array_equal(loaded_like, y)
    rounding = float(np.finfo(a.dtype).eps) * 8
    row = np.concatenate([b[11 + GAP * i :][:block] for i in range(2)])
    np.testing.assert_allclose(stepped, x + np.outer(a[3:24:7], row), rtol=0, atol=rounding)
    total = np.float64(b[2:11:3]) @ np.float64(x[:, :block])
    np.testing.assert_allclose(out[18 * block : 19 * block], total, rtol=0, atol=rounding)
    assert (out[19 * block :] == -7).all()


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_of_a_sample_as_they_lie_in_memory(dtype: str, kind: str) -> None:
    """Bytes wait for their factor, numbers do not."""
    a, b = operands(dtype)
    block = width(dtype)
    numbers = np.random.default_rng(5).integers(0, 256, 20)
    x = numbers.astype(np.uint8 if kind == "bytes" else dtype)
    out = np.zeros(6 * block, dtype)
    probe_kernels.run(probe_kernels.samples, a, b, x, out)
    before = np.concatenate([rows_of(a[GAP * i :], 3, block) for i in range(2)], axis=1)
    row = np.concatenate([b[11 + GAP * i :][:block] for i in range(2)])
    values = numbers[11:14] * (np.float64(1) if kind == "bytes" else np.float64(a[4:7]))
    rounding = float(np.finfo(a.dtype).eps) * 2000
    np.testing.assert_allclose(out.reshape(3, 2 * block), before + np.outer(values, row), rtol=0, atol=rounding)


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_looked_up_and_only_numbers_are_scaled(dtype: str, kind: str) -> None:
    a, b = operands(dtype)
    block = width(dtype)
    table = np.random.default_rng(6).permutation(256).astype(dtype)
    values = np.random.default_rng(5).integers(0, 256, 100)
    x = values.astype(np.uint8 if kind == "bytes" else dtype)
    out, scaled, factor = np.zeros(8 * block, dtype), x.copy(), a.dtype.type(1.5)
    probe_kernels.run(probe_kernels.inputs_of_samples, a, b, x, table, factor, out, scaled)
    before = np.concatenate([rows_of(a[GAP * i :], 3, block) for i in range(2)], axis=1)
    row = np.concatenate([b[11 + GAP * i :][:block] for i in range(2)])
    inputs = np.float64(table[values[4:25:7]] if kind == "bytes" else values[4:25:7])
    rounding = float(np.finfo(a.dtype).eps) * 2000
    expected = before + np.outer(inputs, row)
    np.testing.assert_allclose(out[: 6 * block].reshape(3, 2 * block), expected, rtol=0, atol=rounding)
    np.testing.assert_allclose(out[6 * block :], inputs @ np.float64(before), rtol=0, atol=rounding)
    register = slice(3, 3 + block // VECTORS)
    expected_scaled = x.copy()
    if kind == "numbers":
        expected_scaled[register] *= factor
    np.testing.assert_array_equal(scaled, expected_scaled)


def test_transpose_bits() -> None:
    a, b = operands("float32")
    words = np.random.default_rng(2).integers(0, 2**64, 40, dtype=np.uint64)
    before = 7 << 32 | 7
    masks, wide_masks = np.full(80, 7, np.uint32), np.full(80, before, np.uint64)
    out = np.zeros(20 * width("float32"), np.float32)
    probe_kernels.run(probe_kernels.blocks_and_bits, a, b, out, words, masks, wide_masks)
    expected = [sum((int(words[3 + r]) >> i & 1) << r for r in range(32)) for i in range(64)]
    for found, untouched in ((masks, 7), (wide_masks, before)):
        assert found[5:69].tolist() == expected
        assert found[:5].tolist() + found[69:].tolist() == [untouched] * 16


@pytest.mark.parametrize("dtype", [*DTYPES, "uint8"])
def test_transpose_rows_and_what_is_not_zero(dtype: str) -> None:
    random = np.random.default_rng(3)
    x = (random.integers(-3, 255, 3000) * random.integers(0, 2, 3000)).clip(0).astype(dtype)
    starts = random.integers(0, 2900, 40).astype(np.uint64)
    few, many, bits, gap = np.full((16, 40), 7, dtype), np.full((16, 40), 7, dtype), np.zeros(3, np.uint64), 40
    probe_kernels.run(probe_kernels.transpositions, x, starts, few.reshape(-1), many.reshape(-1), gap, bits)
    for out, rows, column, first, offset in ((few, 8, 5, 2, 3), (many, 32, 0, 1, 1)):
        expected = np.full((16, 40), 7, dtype)
        for row in range(rows):
            start = int(starts[first + row]) + column
            expected[:, offset + row] = x[start : start + 16]
        np.testing.assert_array_equal(out, expected)
    for k, found in enumerate(bits):
        inputs, samples = ((1, 32), (3, 32), (3, 64))[k]
        flags = np.array([x[4 + 40 * i :][:samples] != 0 for i in range(inputs)]).any(axis=0)
        assert int(found) == sum(1 << r for r in np.flatnonzero(flags).tolist())


def test_scalars(reduced: Reductions) -> None:
    assert reduced.numbers[2] == reduced.lanes
    assert reduced.numbers[3] == reduced.a[17]
    assert reduced.numbers[4] == reduced.a[18]
    assert reduced.bits.tolist() == [63, 3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_multiply_add_rounds_once(dtype: str) -> None:
    """The product is exact inside: (1 + e)^2 - (1 + 2 e) = e^2, which two roundings would make 0."""
    e = Fraction(1, 2 ** (12 if dtype == "float32" else 27))
    tiles = np.full(64, -float(1 + 2 * e), dtype)
    a, b, out = np.full(64, float(1 + e), dtype), np.full(64, float(1 + e), dtype), np.zeros(64, dtype)
    assert a[0] * b[0] + tiles[0] == 0
    probe_kernels.run(probe_kernels.multiply_add_once, tiles, a, b, out)
    assert (out[: lanes(dtype)] == float(e * e)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_pass_through(dtype: str) -> None:
    """A diverged loss must show: NaN must not be compared away."""
    block = width(dtype)
    a, b = np.zeros(block, dtype), np.ones(block, dtype)
    a[:4] = [np.nan, np.inf, -np.inf, -2.0]
    out = np.zeros(3 * block, dtype)
    arguments = a, b, out, block
    probe_kernels.run(probe_kernels.largest_and_rectified, *arguments)
    largest, rectified, step = out.reshape(3, block)
    np.testing.assert_array_equal(largest[:5], np.array([np.nan, np.inf, 1, 1, 1], dtype))
    np.testing.assert_array_equal(rectified[:5], np.array([np.nan, np.inf, 0, 0, 0], dtype))
    np.testing.assert_array_equal(step[1:5], np.array([1, 0, 0, 0], dtype))
