"""The order in which samples are visited: the same for the compiled trainer and its NumPy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def epoch_order(n: int, seed: int, epoch: int, *, shuffle: bool = True) -> NDArray[Any]:
    """Return the order of the samples in one epoch.

    Each epoch has a generator of its own, so that a resumed training needs no generator state.

    Parameters
    ----------
    n : int
        Number of samples, below 2**32.
    seed : int
        Seed of the training.
    epoch : int
        Number of the epoch, from 0.
    shuffle : bool, default True
        Whether the order is a random permutation; if not, it is 0, 1, 2, ...

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    if not shuffle:
        return np.arange(n, dtype=np.uint32)
    # drawn as 64-bit integers, which NumPy exchanges in half the time of 32-bit ones
    return np.random.Generator(np.random.SFC64([seed, epoch])).permutation(n).astype(np.uint32)
