"""Compiling every kernel before it is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from fastmlp.network import Network
from fastmlp.profiling import peak_gflops
from fastmlp.training import train


def compile_kernels(dtypes: Sequence[str] = ("float32", "float64")) -> Iterator[tuple[str, str, float]]:
    """Compile all kernels, or load them from the cache, by training a tiny network on each kind of input.

    Parameters
    ----------
    dtypes : sequence of str, default ("float32", "float64")
        Number types of the networks.

    Yields
    ------
    dtype : str
        Number type of the network.
    input_dtype : str
        Number type of the samples: "uint8" (pixels) or that of the network.
    seconds : float
        What it took.
    """
    for dtype in dtypes:
        for input_dtype in ("uint8", dtype):
            started = time.perf_counter()
            X = np.arange(24).reshape(8, 3).astype(input_dtype)
            y = np.arange(8) % 2
            network = Network((3, 2, 2), dtype=dtype)
            train(network, X, y, epochs=1, batch_size=4, validation=(X, y), threads=1)
            network.predict_proba(X, threads=1)
            network.gradients(X, y)
            peak_gflops(dtype, seconds=0.0)
            yield dtype, input_dtype, time.perf_counter() - started
