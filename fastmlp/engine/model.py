"""What the kernels need to know of a network and of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.kernels.layout import OPTIONS, WORD, Layout, aligned_zeros, quad_distance
from fastmlp.kernels.piece import Data


@dataclass(frozen=True, eq=False)
class Model:
    """What the kernels need to know of a network.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, input and output included.
    activation : str
        One of ``fastmlp.kernels.activation.ACTIVATIONS``.
    dtype : numpy.dtype
        float32 or float64.
    mean, std : ndarray of float64, scalar or of shape (n_features,)
        Standardisation of the inputs.
    skip_background : bool
        Whether zeros in the inputs are to be skipped.
    """

    sizes: tuple[int, ...]
    activation: str
    dtype: np.dtype[Any]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    skip_background: bool

    @property
    def sparse(self) -> bool:
        """Whether the input layer skips the background; without a hidden layer it is the output layer, which cannot."""
        return self.skip_background and len(self.sizes) > 2

    def equals(self, other: Model) -> bool:
        """Whether it surely says the same: arrays are compared by identity, and only if nobody can write to them."""
        return (
            (self.sizes, self.activation, self.dtype) == (other.sizes, other.activation, other.dtype)
            and self.skip_background == other.skip_background
            and all(
                mine is theirs and isinstance(mine, np.ndarray) and not mine.flags.writeable
                for mine, theirs in ((self.mean, other.mean), (self.std, other.std))
            )
        )

    def options(self, layout: Layout, **values: Any) -> NDArray[Any]:
        """The record of options of a kernel call."""
        values |= {
            "capacity": layout.rows,
            "columns": layout.columns,
            "gathered_pieces": layout.gathered_pieces,
            "hands_on": layout.hands_on,
            "words": layout.words,
            "apart": quad_distance(self.sizes[0]),
            "n_features": self.sizes[0],
            "n_classes": self.sizes[-1],
            "activation": ACTIVATIONS.index(self.activation),
            "sparse": self.sparse,
            "stretch": values.get("stretch", 1),
        }
        return np.array([tuple(values.get(name, 0) for name in OPTIONS.names or ())], OPTIONS)

    def suited(self, X: NDArray[Any]) -> NDArray[Any]:
        """Samples as the kernels take them: as numbers of our dtype, if they are bytes with a factor for each feature.

        See ``kernels.background.scale_floats``. What is read from files has no such bytes.
        """
        return X.astype(self.dtype, copy=False) if self.sparse and self.std.ndim > 0 else X

    def data(
        self,
        layout: Layout,
        X: NDArray[Any],
        labels: NDArray[np.int32],
        order: NDArray[Any],
        projections: NDArray[Any],
    ) -> Data:
        """Samples and how to standardise them: ``x = (value - origin) * factor + beta``, see ``kernels.background``."""
        factor, shift = (aligned_zeros(layout.words * WORD, self.dtype) for _ in range(2))
        zeros = aligned_zeros(layout.words * WORD, self.dtype)
        n_features = self.sizes[0]
        factor[:n_features] = 1.0 / self.std
        shift[:n_features] = -self.mean / self.std if self.sparse else self.mean
        origin, beta = (zeros, shift) if self.sparse else (shift, zeros)
        scale = factor[:1].copy() if X.dtype == np.uint8 and self.std.ndim == 0 else np.ones(1, self.dtype)
        numbers = np.arange(256, dtype=self.dtype)
        X, labels, order = read_only(X), read_only(labels), read_only(order)
        return Data(X, labels, order, origin, factor, beta, scale, numbers, projections)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A flat read-only view: kernels are compiled for one type of array, whether or not the caller's is writable."""
    view = array.reshape(-1).view()
    view.flags.writeable = False
    return view


def pack(model: Model, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Parameters as the kernels want them."""
    return Layout(model.sizes, model.dtype, 1, training=False).pack(weights, biases)
