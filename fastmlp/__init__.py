"""fastmlp: multi-layer perceptrons on the CPU, trained by compiled kernels that you can read.

Nothing heavy is imported here: Numba arrives with the first network, matplotlib with the first plot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastmlp.checkpoint import Checkpoint, Checkpoints
    from fastmlp.datasets import Dataset, load_dataset
    from fastmlp.errors import (
        CheckpointError,
        DataFormatError,
        DivergedError,
        FastmlpError,
        ModelFormatError,
        OutOfMemoryError,
        TrainingInterrupted,
    )
    from fastmlp.history import History
    from fastmlp.network import Evaluation, Network
    from fastmlp.training import Progress, train

_HOME = {
    "Checkpoint": "fastmlp.checkpoint",
    "CheckpointError": "fastmlp.errors",
    "Checkpoints": "fastmlp.checkpoint",
    "DataFormatError": "fastmlp.errors",
    "Dataset": "fastmlp.datasets",
    "DivergedError": "fastmlp.errors",
    "Evaluation": "fastmlp.network",
    "FastmlpError": "fastmlp.errors",
    "History": "fastmlp.history",
    "ModelFormatError": "fastmlp.errors",
    "Network": "fastmlp.network",
    "OutOfMemoryError": "fastmlp.errors",
    "Progress": "fastmlp.training",
    "TrainingInterrupted": "fastmlp.errors",
    "load_dataset": "fastmlp.datasets",
    "train": "fastmlp.training",
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "DataFormatError",
    "Dataset",
    "DivergedError",
    "Evaluation",
    "FastmlpError",
    "History",
    "ModelFormatError",
    "Network",
    "OutOfMemoryError",
    "Progress",
    "TrainingInterrupted",
    "__version__",
    "load_dataset",
    "train",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
