"""How weights are drawn before training; biases start at zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INITIALIZATIONS = ("he", "lecun", "glorot", "uniform")


def initial_weights(
    init: str, fan_in: int, fan_out: int, generator: np.random.Generator, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Draw the weights of one layer.

    Parameters
    ----------
    init : {"he", "lecun", "glorot", "uniform"}
        "he": normal, standard deviation sqrt(2 / fan_in) (He et al., 2015, for ReLU).
        "lecun": normal, standard deviation 1 / sqrt(fan_in) (LeCun et al., 1998).
        "glorot": uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).
        "uniform": uniform within +-1.
    fan_in, fan_out : int
        Inputs and outputs of the layer.
    generator : numpy.random.Generator
        Source of the numbers, which are drawn in float64 whatever the dtype.
    dtype : numpy.dtype
        float32 or float64.

    Returns
    -------
    ndarray, shape (fan_in, fan_out)
    """
    shape = (fan_in, fan_out)
    if init == "he":
        weights = generator.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    elif init == "lecun":
        weights = generator.standard_normal(shape) / np.sqrt(fan_in)
    elif init == "glorot":
        limit = np.sqrt(6.0 / (fan_in + fan_out))
        weights = generator.uniform(-limit, limit, shape)
    else:
        weights = generator.uniform(-1.0, 1.0, shape)
    return weights.astype(dtype)
