"""Random orders: the reference, and the kernel that draws the same ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fastmlp.kernels.shuffle import draw_order
from fastmlp.shuffling import draw_numbers, epoch_order


def test_each_epoch_has_an_order_of_its_own() -> None:
    first, second = (epoch_order(100, seed=3, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist() != epoch_order(100, seed=4, epoch=1).tolist()
    assert first.tolist() == epoch_order(100, seed=3, epoch=0).tolist()
    assert epoch_order(5, 0, 0, shuffle=False).tolist() == [0, 1, 2, 3, 4]


def test_all_orders_are_drawn_equally_often() -> None:
    counts = Counter(tuple(epoch_order(4, seed=5, epoch=epoch).tolist()) for epoch in range(24 * 500))
    deviation = sum((count - 500) ** 2 / 500 for count in counts.values())
    assert len(counts) == 24
    assert deviation < 49.7  # chi-squared with 23 degrees of freedom: more in one of a thousand cases


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 100_000])
def test_the_kernel_draws_the_same_order(n: int) -> None:
    numbers, order = np.empty(n), np.empty(n, np.uint32)
    kernel, _ = draw_order.prepare(numbers, order)
    draw_numbers(7, 2, numbers)
    kernel(numbers, order)
    np.testing.assert_array_equal(order, epoch_order(n, seed=7, epoch=2))


def test_no_place_is_exchanged_with_one_behind_it() -> None:
    largest = np.full(5, np.nextafter(1.0, 0.0))
    order = np.full(5, 9, np.uint32)
    draw_order.prepare(largest, order)[0](largest, order)
    assert order.tolist() == [0, 1, 2, 3, 4]
