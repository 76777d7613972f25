"""The memory that each thread has for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import split
from fastmlp.kernels.layout import WORD, Layout, aligned_zeros
from fastmlp.kernels.matrix_unit import OPERAND
from fastmlp.kernels.piece import Data, Memory
from fastmlp.kernels.walks import PAIR


def aligned_masks(length: int) -> NDArray[Any]:
    """Empty masks (uint64) that begin at a cache line."""
    return aligned_zeros(length, np.dtype(np.uint64))


def _n_operands(layout: Layout) -> int:
    """Room for what the matrix unit multiplies; where only is predicted, with all weights of the first layer."""
    if not layout.uses_matrix_unit:
        return 0
    first = layout.layers[0]
    return split.LENGTH + (0 if layout.training else int(first["inputs"]) * int(first["outputs"]) * OPERAND)


def own_memory(layout: Layout) -> tuple[NDArray[Any], ...]:
    """The fields of ``Memory`` from ``own`` on."""
    return (
        aligned_zeros(layout.n_private, layout.dtype),
        aligned_zeros(layout.n_gathered, np.dtype(np.uint8)),
        aligned_masks(layout.n_starts),
        aligned_masks(layout.n_nonzero),
        aligned_zeros(layout.n_marks, np.dtype(np.uint32)),
        aligned_masks(layout.n_input_walks),
        aligned_masks(layout.n_input_walks if layout.joins_pieces else 0),
        aligned_masks(layout.n_units if layout.training else 0),
        aligned_zeros(layout.words * WORD // PAIR if layout.training else 0, np.dtype(np.uint8)),
        aligned_zeros(_n_operands(layout), layout.dtype),
    )


def fit(memory: Memory, layout: Layout, data: Data) -> Memory:
    """Memory for data of their dtype."""
    if data.x.dtype == memory.gathered.dtype:
        return memory
    return memory._replace(gathered=aligned_zeros(layout.n_gathered, data.x.dtype))
