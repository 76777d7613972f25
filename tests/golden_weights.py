"""Hashes of what trainings lead to, for every dtype, activation and width of the SIMD registers.

The order of summation follows from the width of the registers (16, 32 or 64 bytes) and, for wide networks in float32,
from whether there is a matrix unit, so the bits do; they follow from nothing else: not from the number of threads, nor
from the model of the CPU or whether it multiplies and adds in one instruction. After kernels have been changed on
purpose, ``python -m tests.golden_weights`` trains for everything that this CPU can run and writes the new hashes.
``python -m tests.golden_weights print float32`` prints those of one dtype.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fastmlp.kernels.matrix_unit import MATRIX_UNIT
from fastmlp.kernels.vector import REGISTER_BYTES
from fastmlp.network import Network
from fastmlp.system import cpu_features
from fastmlp.training import train
from tests.processes import run_python

FILE = Path(__file__).parent / "data" / "weights.json"
ACTIVATIONS = ("relu", "sigmoid", "tanh", "scaled_tanh", "identity")
DTYPES = ("float32", "float64")

_V3 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+xsave"
_V4 = f"{_V3},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
_AMX = f"{_V4},+amx-tile,+amx-bf16"

# What Numba is to compile for, and what the CPU must have. The features must be named: of an empty list nothing is
# known but that it is an x86-64, and the narrowest registers are taken.
TARGETS: dict[str, tuple[dict[str, str | None], str]] = {
    "x86-64-v2": ({"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"}, ""),
    "x86-64-v3": ({"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": _V3}, "avx2"),
    "x86-64-v4": ({"NUMBA_CPU_NAME": "x86-64-v4", "NUMBA_CPU_FEATURES": _V4}, "avx512vl"),
    "matrix unit": ({"NUMBA_CPU_NAME": "x86-64-v4", "NUMBA_CPU_FEATURES": _AMX}, "amx_bf16"),
}


def runnable(target: str) -> bool:
    """Tell whether this CPU can run code for a target."""
    features, needed = cpu_features(), TARGETS[target][1]
    return "sse4_2" in features and (not needed or needed in features)


def weights_hash(dtype: str, activation: str, threads: int) -> str:
    """Hash networks trained on pixels, with momentum and in stretches, on dense inputs, in pieces, narrow, and wide."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (200, 100), np.uint8)  # a square image, see ``layout.quad_distance``
    pixels[random.random(pixels.shape) < 0.7] = 0
    y = np.arange(200) % 10
    digest = hashlib.sha256()
    for X, hidden, options in (
        (pixels, (70, 40), {"momentum": 0.5, "batch_size": 30, "epochs": 2}),
        (pixels, (70, 40), {"batch_size": 3, "epochs": 1}),
        (255 - pixels, (70, 40), {"l2": 0.01, "batch_size": 150, "epochs": 1, "schedule": "linear"}),
        (pixels, (8,), {"momentum": 0.5, "batch_size": 30, "epochs": 2}),
        (pixels, (400, 390), {"momentum": 0.5, "l2": 0.01, "batch_size": 100, "epochs": 1}),
    ):
        network = Network((100, *hidden, 10), activation=activation, dtype=dtype, mean=X.mean(), std=X.std())
        train(network, X, y, threads=threads, learning_rate=0.05, **options)  # type: ignore[arg-type]
        for array in (*network.weights, *network.biases):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def hashes(dtypes: Iterable[str], *, threads: int = 2) -> dict[str, str]:
    """Return the hashes of what this process multiplies with."""
    return {f"{dtype} {name}": weights_hash(dtype, name, threads) for dtype in dtypes for name in ACTIVATIONS}


UNITS = f"{REGISTER_BYTES} bytes" + (", matrix unit" if MATRIX_UNIT else "")
"""What this process multiplies with."""


def hashes_for(target: str, dtype: str, timeout: float = 100) -> tuple[str, dict[str, str]]:
    """Return what a target multiplies with and its hashes, from a process of its own."""
    variables = TARGETS[target][0]
    units, found = json.loads(run_python("-m", "tests.golden_weights", "print", dtype, timeout=timeout, **variables))
    return str(units), dict(found)


def write() -> None:
    """Train for every target that this CPU can run and write the hashes."""
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    for target in filter(runnable, TARGETS):
        for dtype in DTYPES:
            units, found = hashes_for(target, dtype, timeout=600)
            golden.setdefault(units, {}).update(found)
            print(f"{target}, {units}, {dtype}: done", file=sys.stderr)
    FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["print"]:
        print(json.dumps([UNITS, hashes(sys.argv[2:])]))
    else:
        os.environ.pop("NUMBA_CPU_NAME", None)
        write()
