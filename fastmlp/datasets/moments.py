"""Mean and standard deviation of the training part, by which a network standardises its input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_PIECE = 2**16  # values at a time: their squares sum to less than 2**32, and copies stay in the CPU's cache


def pixel_moments(X: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and population standard deviation of all values, from exact integer sums.

    Parameters
    ----------
    X : uint8 (n, d), C-contiguous

    Returns
    -------
    mean, std : float
        A standard deviation of 0 is returned as 1, so that dividing by it is safe.
    """
    pixels = X.reshape(-1)
    total = total_of_squares = 0
    for start in range(0, pixels.size, _PIECE):
        piece = pixels[start : start + _PIECE].astype(np.uint32)
        total += int(piece.sum(dtype=np.uint32))
        total_of_squares += int((piece * piece).sum(dtype=np.uint32))
    n = pixels.size
    return total / n, math.sqrt(n * total_of_squares - total * total) / n or 1.0


def feature_moments(X: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and population standard deviation of each feature, in float64 and two passes.

    Parameters
    ----------
    X : float32 (n, d)

    Returns
    -------
    mean, std : float64 (d,)
        The standard deviation of a constant feature is returned as 1. So is one below the smallest normal
        float32, whose reciprocal a float32 network could not hold.
    """
    n, d = X.shape
    step = max(1, _PIECE // d)
    pieces: list[npt.NDArray[Any]] = [X[start : start + step] for start in range(0, n, step)]
    mean = sum((piece.sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(d)) / n
    variance = sum((np.square(piece - mean).sum(axis=0) for piece in pieces), np.zeros(d)) / n
    std = np.sqrt(variance)
    std[std < np.finfo(np.float32).tiny] = 1.0
    return mean, std
