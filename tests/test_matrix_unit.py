"""Products on the matrix unit, where there is one; and that wide networks are as good with it as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import memory
from fastmlp.kernels import optimizer, split
from fastmlp.kernels.layout import Layout, aligned_zeros
from fastmlp.kernels.matrix_unit import MATRIX_UNIT, OPERAND, PAIRS, SIDE
from fastmlp.kernels.thresholds import MATRIX_BLOCKS, MATRIX_BYTES_BLOCKS, MATRIX_PREDICT_BLOCKS
from fastmlp.system import cpu_features
from tests import probe_kernels
from tests.probe_kernels import run

Floats = NDArray[np.float32]
FLOAT32 = np.dtype(np.float32)
CAPACITY = 64

needs_matrix_unit = pytest.mark.skipif(not MATRIX_UNIT, reason="this processor has no matrix unit")


def random(*shape: int, seed: int = 0) -> Floats:
    """Numbers of very different sizes, some of them zero."""
    generator = np.random.default_rng(seed)
    numbers = generator.standard_normal(shape) * 10.0 ** generator.uniform(-6, 3, shape)
    return np.where(generator.random(shape) < 0.1, 0, numbers).astype(np.float32)


def pieces(x: Floats) -> list[Floats]:
    """Three numbers of 8 bits each that add up to a number."""

    def cut(y: Floats) -> Floats:
        bits: NDArray[np.uint32] = y.view(np.uint32) & np.uint32(0xFFFF0000)
        return bits.view(np.float32)

    nearest = cut((x.view(np.uint32) + np.uint32(0x8000)).view(np.float32))
    second = cut(x - nearest)
    return [nearest, second, x - nearest - second]


def multiply(left: Floats, right: Floats, sums: Floats) -> Floats:
    """What Intel's manual says of TDPBF16PS, for what is multiplied in ``matrix_unit``."""
    lefts, rights = pieces(left), pieces(right)
    for i, j in ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0)):
        halves = np.zeros((2, SIDE, SIDE), np.float32)
        for k in range(PAIRS):
            for half, row in enumerate((k, k + PAIRS)):
                halves[half] += lefts[i][:, row, None] * rights[j][row]
        sums = sums + (halves[0] + halves[1])
    return sums


def panel(matrix: Floats, rows: int) -> Floats:
    """``[blocks][rows][SIDE]``, flat, aligned; what is not of the matrix is no number, and nobody may use it."""
    blocks = -(-matrix.shape[1] // SIDE)
    padded = np.full((rows, blocks * SIDE), np.nan, np.float32)
    padded[: len(matrix), : matrix.shape[1]] = matrix
    flat = aligned_zeros(padded.size, FLOAT32)
    flat.reshape(blocks, rows, SIDE)[...] = padded.reshape(rows, blocks, SIDE).transpose(1, 0, 2)
    return flat


def matrix(flat: Floats, rows: int, used: int) -> Floats:
    """The used rows of a panel."""
    return flat.reshape(-1, rows, SIDE).transpose(1, 0, 2).reshape(rows, -1)[:used]


def operands(prepared: int = 0) -> Floats:
    """Room for operands, also of so many squares of prepared weights, full of what is no number."""
    room = aligned_zeros(split.LENGTH + prepared * OPERAND, FLOAT32)
    room[:] = np.nan
    return room


def tolerance(summands: int) -> float:
    """How wrong a sum can be, relative to the sum of the absolute values: half an eps for each time it is rounded.

    Sixteen times within a tile, six times for each 32 summands; and for the products that are left out.
    """
    return float(np.finfo(np.float32).eps) * (16 / 2 + 6 / 2 * -(-summands // SIDE) + 1)


def assert_close(found: Floats, a: Floats, b: Floats, added: Floats | float = 0.0) -> None:
    """``found = a b + added``."""
    exact = a.astype(float) @ b.astype(float) + added
    size = np.abs(a).astype(float) @ np.abs(b).astype(float) + np.abs(added)
    assert np.all(np.abs(found - exact) <= tolerance(a.shape[1]) * size)


def test_a_matrix_unit_is_used_where_the_system_lets_us_have_it() -> None:
    if MATRIX_UNIT:
        assert "amx_bf16" in cpu_features()
    for sizes, trains, predicts in (
        ((9, 64, 400, 400, 3), True, True),
        ((400, 400, 3), True, False),
        ((9, 97, 3), True, True),
        ((9, 256, 3), True, True),
        ((9, 257, 3), True, False),
        ((9, 96, 3), False, True),
        ((9, 3), False, False),
    ):
        for dtype in (np.float32, np.float64):
            for training, used in ((True, trains), (False, predicts)):
                layout = Layout(sizes, np.dtype(dtype), 32, training=training)
                assert layout.uses_matrix_unit == (MATRIX_UNIT and used and dtype == np.float32), (sizes, training)


def test_the_estimate_of_memory_knows_the_operands() -> None:
    assert (memory._WIDE, memory._WIDE_FOR_BYTES) == (MATRIX_BLOCKS, MATRIX_BYTES_BLOCKS)
    assert (memory._NARROW, memory._OPERANDS) == (MATRIX_PREDICT_BLOCKS, split.LENGTH)


def test_three_pieces_are_a_number() -> None:
    x = random(1000)
    total = np.zeros(1000)
    for piece in pieces(x):
        np.testing.assert_array_equal(piece.view(np.uint32) & 0xFFFF, 0)
        total += piece
    np.testing.assert_array_equal(total, x)


@needs_matrix_unit
@pytest.mark.parametrize("seed", range(5))
def test_products_have_the_bits_that_the_manual_says(seed: int) -> None:
    left, right, sums = (random(SIDE, SIDE, seed=10 * seed + k) for k in range(3))
    expected = multiply(left, right, sums)
    found = sums.reshape(-1).copy()
    run(probe_kernels.multiply_squares, left.reshape(-1), right.reshape(-1), found, aligned_zeros(2 * OPERAND, FLOAT32))
    np.testing.assert_array_equal(found.reshape(SIDE, SIDE), expected)
    assert_close(expected, left, right, sums)


@needs_matrix_unit
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_number_stays_none(side: int, bad: float) -> None:
    """A training that diverges has to notice; what overflows when it is rounded is as good as infinite."""
    squares = [np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32)]
    squares[side][3, 20] = bad
    found = np.zeros(SIDE * SIDE, np.float32)
    room = aligned_zeros(2 * OPERAND, FLOAT32)
    run(probe_kernels.multiply_squares, squares[0].reshape(-1), squares[1].reshape(-1), found, room)
    finite = np.isfinite(found.reshape(SIDE, SIDE))
    wrong = finite[3] if side == 0 else finite[:, 20]
    assert not wrong.any()
    assert finite.sum() == SIDE * (SIDE - 1)


SHAPES = [(1, 1, 1), (25, 1, 2), (32, 2, 1), (33, 3, 3), (64, 33, 2), (64, 65, 1), (48, 16, 5)]


@needs_matrix_unit
@pytest.mark.parametrize(("rows", "inputs", "blocks"), SHAPES)
def test_forward(rows: int, inputs: int, blocks: int) -> None:
    a, w, bias = (
        random(rows, inputs * SIDE),
        random(inputs * SIDE, blocks * SIDE, seed=1),
        random(blocks * SIDE, seed=2),
    )
    z = aligned_zeros(CAPACITY * blocks * SIDE, FLOAT32)
    run(
        probe_kernels.forward_on_matrix_unit, blocks, panel(a, CAPACITY), CAPACITY, rows, inputs,
        panel(w, inputs * SIDE), bias, z, operands(),
    )  # fmt: skip
    assert_close(matrix(z, CAPACITY, rows), a, w, bias)


@needs_matrix_unit
@pytest.mark.parametrize(("rows", "inputs", "blocks"), [*SHAPES[:-2], (64, 5, 32), (48, 16, 5)])
def test_gradient_of_the_inputs(rows: int, inputs: int, blocks: int) -> None:
    deltas, w = random(rows, blocks * SIDE), random(inputs * SIDE, blocks * SIDE, seed=1)
    gradient = aligned_zeros(CAPACITY * inputs * SIDE, FLOAT32)
    run(
        probe_kernels.gradient_on_matrix_unit, inputs, blocks, panel(w, inputs * SIDE), panel(deltas, CAPACITY),
        CAPACITY, rows, gradient, operands(),
    )  # fmt: skip
    assert_close(matrix(gradient, CAPACITY, rows), deltas, w.T.copy())


RULES = {
    "direct": (optimizer.DIRECT, True, True),
    "plain, one piece": (optimizer.PLAIN, True, True),
    "plain, first": (optimizer.PLAIN, True, False),
    "plain, in between": (optimizer.PLAIN, False, False),
    "plain, last": (optimizer.PLAIN, False, True),
    "momentum": (optimizer.MOMENTUM, True, True),
    "nesterov, last": (optimizer.NESTEROV, False, True),
    "gradient": (optimizer.GRADIENT, True, True),
}


def expected_step(name: str, shrink: float, step: Any, w: Any, v: Any, sums: Any) -> tuple[Any, Any, Any]:
    """New weights, velocities and sums."""
    rule, first, last = RULES[name]
    total = step if first else sums + step
    if not last:
        return w, v, total
    total = total - shrink * w
    if rule == optimizer.GRADIENT:
        return w, v, total
    if rule in (optimizer.DIRECT, optimizer.PLAIN):
        return w + total, v, sums
    velocity = 0.5 * v + total
    return w + (velocity if rule == optimizer.MOMENTUM else 0.5 * velocity + total), velocity, sums


@needs_matrix_unit
def test_who_owns_nothing_of_a_layer_changes_nothing() -> None:
    a, w, z = random(CAPACITY, SIDE), random(SIDE * SIDE, seed=1), random(CAPACITY * SIDE, seed=2)
    before = w.copy(), z.copy()
    panel_a = panel(a, CAPACITY)
    run(probe_kernels.forward_on_matrix_unit, 0, panel_a, CAPACITY, 64, 1, w, w, z, operands())
    rule = RULES["direct"]
    run(probe_kernels.step_on_matrix_unit, 0, *rule, 0.0, panel_a, CAPACITY, 0, 64, 1, panel_a, w, w, w, operands())
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(z, before[1])


@needs_matrix_unit
@pytest.mark.parametrize("shrink", [0.0, 0.25])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("earlier", "samples", "inputs", "blocks"),
    [(0, 1, 1, 1), (0, 25, 2, 3), (0, 32, 33, 1), (0, 33, 3, 2), (0, 64, 40, 2), (64, 33, 22, 2), (64, 64, 17, 1)],
)
def test_weight_step(name: str, earlier: int, samples: int, inputs: int, blocks: int, shrink: float) -> None:
    shape = inputs * SIDE, blocks * SIDE
    a, deltas = random(earlier + samples, shape[0]), random(earlier + samples, shape[1], seed=1)
    before = [random(*shape, seed=2 + k) for k in range(3)]
    flats = [panel(each, shape[0]) for each in before]
    run(
        probe_kernels.step_on_matrix_unit, blocks, *RULES[name], shrink, two_panels(a, earlier), CAPACITY, earlier,
        samples, inputs, two_panels(deltas, earlier), *flats, operands(),
    )  # fmt: skip
    assert_stepped(name, shrink, a, deltas, before, flats)


def two_panels(matrix: Floats, earlier: int) -> Floats:
    """A panel of the last rows, and behind it one of the earlier."""
    return np.concatenate([panel(matrix[earlier:], CAPACITY), panel(matrix[:earlier], CAPACITY)])


def assert_stepped(name: str, shrink: float, a: Floats, deltas: Floats, before: list[Floats], after: list[Any]) -> None:
    """Weights, velocities and sums, matrices before a step and panels after it, have done what a rule says."""
    rows = a.shape[1]
    step = a.T.astype(float) @ deltas.astype(float)
    size = np.abs(a.T).astype(float) @ np.abs(deltas).astype(float) + sum(np.abs(each) for each in before)
    for flat, expected in zip(after, expected_step(name, shrink, step, *before), strict=True):
        assert np.all(np.abs(matrix(flat, rows, rows) - expected) <= tolerance(len(a)) * size)


def images(samples: int, n_features: int) -> NDArray[np.uint8]:
    """Bytes of all sizes, many of them zero."""
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (samples, n_features), np.uint8)
    return np.where(generator.random(pixels.shape) < 0.3, 0, pixels).astype(np.uint8)


def with_zeros(x: NDArray[np.uint8], inputs: int) -> Floats:
    """Samples as numbers, with zeros where there is no feature."""
    padded = np.zeros((len(x), inputs * SIDE), np.float32)
    padded[:, : x.shape[1]] = x
    return padded


@needs_matrix_unit
@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize(
    ("samples", "n_features", "blocks"), [(1, 1, 1), (33, 31, 2), (64, 33, 3), (64, 784, 2), (57, 1100, 2), (64, 64, 0)]
)
def test_forward_of_bytes(samples: int, n_features: int, blocks: int, ready: bool) -> None:
    inputs = -(-n_features // SIDE)
    x = images(samples + 3, n_features)
    order = np.random.default_rng(0).permutation(samples + 3).astype(np.uint32)
    w = random(inputs * SIDE, blocks * SIDE)
    z = aligned_zeros(CAPACITY * blocks * SIDE, FLOAT32)
    run(
        probe_kernels.forward_of_bytes, blocks, x.reshape(-1), n_features, order, 2, samples, inputs,
        panel(w, inputs * SIDE), ready, z, np.zeros(CAPACITY, np.uint64), operands(blocks * inputs),
    )  # fmt: skip
    if blocks:
        assert_close(matrix(z, CAPACITY, samples), with_zeros(x[order[2 : 2 + samples]], inputs), w)


@needs_matrix_unit
@pytest.mark.parametrize("shrink", [0.0, 0.25])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("earlier", "samples", "inputs", "blocks"), [(0, 57, 2, 3), (0, 64, 33, 1), (64, 33, 22, 2), (64, 64, 35, 1)]
)
def test_weight_step_of_bytes(name: str, earlier: int, samples: int, inputs: int, blocks: int, shrink: float) -> None:
    shape = inputs * SIDE, blocks * SIDE
    x, deltas = images(earlier + samples, shape[0]), random(earlier + samples, shape[1], seed=1)
    raw = np.full((2, shape[0], CAPACITY), 255, np.uint8)  # those of earlier samples at the beginning
    raw[0, :, :earlier] = x[:earlier].T
    raw[1, :, :samples] = x[earlier:].T
    before = [random(*shape, seed=2 + k) for k in range(3)]
    flats = [panel(each, shape[0]) for each in before]
    run(
        probe_kernels.step_of_bytes, blocks, *RULES[name], shrink, raw.reshape(-1), CAPACITY, earlier, samples, inputs,
        two_panels(deltas, earlier), *flats, operands(),
    )  # fmt: skip
    assert_stepped(name, shrink, x.astype(np.float32), deltas, before, flats)


def test_threads_that_own_layers_own_neighbours() -> None:
    """Twice as many the second; the output layer and the one below it belong to the same, as nobody waits between."""
    layout = Layout((784, *[64] * 10, 10), FLOAT32, 32)
    assert layout.owns_layers == MATRIX_UNIT
    if MATRIX_UNIT:
        first, second = (layout.owned(thread, 2)["last_group"][1:].tolist() for thread in range(2))
        assert (first, second) == ([1] * 3 + [0] * 7, [0] * 3 + [1] * 7)
        assert np.flatnonzero(layout.owned(0, 2)["alone"]).tolist() == [2, 3, 5, 6, 7, 8, 9, 10]
    for sizes in ((784, *[64] * 4, 10), (784, *[100] * 10, 10), (50_000, *[64] * 7, 10)):
        assert not Layout(sizes, FLOAT32, 32).owns_layers
