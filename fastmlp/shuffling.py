"""The order in which samples are visited: the same for the compiled trainer and its NumPy twin.

A random order is drawn as by Fisher and Yates, in the form of Durstenfeld (Communications of the ACM 7, 1964): place
after place is exchanged with one of those up to it. Each epoch has a generator of its own, so that a resumed training
needs no generator state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_numbers(seed: int, epoch: int, numbers: NDArray[np.float64]) -> None:
    """Draw what decides on the order of an epoch: place i is exchanged with place ``floor(number[i] * (i + 1))``.

    Parameters
    ----------
    seed : int
        Seed of the training.
    epoch : int
        Number of the epoch, from 0.
    numbers : ndarray of float64, shape (n,), overwritten
        Uniform in [0, 1).
    """
    np.random.Generator(np.random.SFC64([seed, epoch])).random(out=numbers)


def epoch_order(n: int, seed: int, epoch: int, *, shuffle: bool = True) -> NDArray[Any]:
    """Return the order of the samples in one epoch; ``kernels.shuffle`` does the same in a thirtieth of the time.

    Parameters
    ----------
    n : int
        Number of samples, below 2**32.
    seed, epoch
        As in `draw_numbers`.
    shuffle : bool, default True
        Whether the order is a random permutation; if not, it is 0, 1, 2, ...

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    order = list(range(n))
    if shuffle:
        numbers = np.empty(n)
        draw_numbers(seed, epoch, numbers)
        partners = (numbers * np.arange(1, n + 1)).astype(np.int64)
        for i, partner in enumerate(partners.tolist()):
            order[i], order[partner] = order[partner], order[i]
    return np.array(order, np.uint32)
