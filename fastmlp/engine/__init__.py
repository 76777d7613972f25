"""Between the network and the kernels: memory, and the calls into compiled code.

Nothing above this folder knows how numbers are laid out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.engine.model import Model, pack
from fastmlp.engine.prediction import Predictor
from fastmlp.engine.training import TrainingMemory, rule_of
from fastmlp.kernels import optimizer

__all__ = ["Model", "Predictor", "TrainingMemory", "compile_kernels", "pack", "rule_of"]


def compile_kernels(dtype: np.dtype[Any], input_dtype: np.dtype[Any]) -> float:
    """Compile, or load from the cache, all kernels for networks of a dtype and inputs of a dtype; returns seconds."""
    model = Model((1, 1, 2), "relu", dtype, np.zeros(()), np.ones(()), skip_background=False)
    weights, biases = [np.zeros((1, 1)), np.zeros((1, 2))], [np.zeros(1), np.zeros(2)]
    memory = TrainingMemory(
        model, weights, biases, batch_size=1, steps_per_epoch=1, rule=optimizer.DIRECT, momentum=0.0, l2=0.0, threads=1
    )
    X, y = np.zeros((1, 1), input_dtype), np.zeros(1, np.int32)
    return memory.take(X, y) + Predictor(model, memory.parameters, 1).prepare(X, y)
