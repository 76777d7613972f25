"""Memory estimates in unbounded integers."""

from __future__ import annotations

import pytest

from fastmlp.memory import count_parameters, human_bytes, training_bytes


@pytest.mark.parametrize(
    ("layers", "count"),
    [((784, 64, 10), 50_890), ((784, 64, 64, 10), 55_050), ((784, *[64] * 10, 10), 88_330), ((3, 2), 8)],
)
def test_parameters_are_counted_as_in_the_assignment(layers: tuple[int, ...], count: int) -> None:
    assert count_parameters(layers) == count


def test_an_absurd_layer_does_not_overflow() -> None:
    needed = training_bytes(
        (784, 99_999_999_999, 10), dtype="float32", batch_size=32, steps=1, momentum=True, copies=1, threads=1
    )
    assert needed > 99_999_999_999 * (784 + 10) * 4 * 3
    assert human_bytes(needed).endswith("PB") or human_bytes(needed).endswith("TB")


@pytest.mark.parametrize(("momentum", "copies", "sets"), [(False, 0, 1), (True, 0, 2), (False, 2, 3), (True, 2, 4)])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
def test_every_copy_of_the_parameters_counts(momentum: bool, copies: int, sets: int, dtype: str, size: int) -> None:
    layers = (784, 64, 10)
    needed = training_bytes(layers, dtype=dtype, batch_size=0, steps=0, momentum=momentum, copies=copies, threads=0)
    assert needed == sets * size * count_parameters(layers)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (23_456_789_012, "23 GB"),
        (954 * 10**12, "954 TB"),
        (10**30, "1e+12 EB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
