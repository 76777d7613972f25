"""Checks of what users hand in, before any kernel sees it: kernels check nothing and could corrupt memory."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_LAYERS = 1000
MAX_UNITS = 1 << 24
MAX_SAMPLES = (1 << 32) - 1
MAX_THREADS = 4096


def check_whole_number(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int of a range; bools are refused.

    Raises
    ------
    TypeError, ValueError
    """
    expected = f">= {low}" if high is None else f"from {low} to {high}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number {expected} (got {value!r})")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be a whole number {expected} (got {value!r})")
    return number


def check_number(
    name: str, value: object, *, low: float = 0.0, high: float = math.inf, open_low: bool = False
) -> float:
    """Return ``value`` as a finite float with ``low <= value < high`` (``low < value`` if ``open_low``).

    Raises
    ------
    TypeError, ValueError
    """
    expected = f"a finite number {'>' if open_low else '>='} {low:g}" + (f" and < {high:g}" if high < math.inf else "")
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {expected} (got {value!r})")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < low or number >= high or (open_low and number <= low):
        raise ValueError(f"{name} must be {expected} (got {value!r})")
    return number


def check_flag(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False; "no" would be true.

    Raises
    ------
    TypeError
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False (got {value!r})")
    return bool(value)


def check_kind(name: str, value: object, kind: type, *, optional: bool = True) -> None:
    """Refuse what is neither a ``kind`` nor, if it is ``optional``, None.

    Raises
    ------
    TypeError
    """
    if not isinstance(value, kind) and not (optional and value is None):
        raise TypeError(f"{name} must be a fastmlp.{kind.__name__} (got {value!r})")


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)} (got {value!r})")
    return str(value)


def check_layers(layers: object) -> tuple[int, ...]:
    """Return the sizes of all layers, input and output included.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(layers, str | bytes) or not isinstance(layers, Sequence | np.ndarray):
        raise TypeError(f"layers must be a sequence of sizes, input and output included (got {layers!r})")
    if len(layers) < 2:
        raise ValueError(f"layers: need at least input and output size (got {tuple(layers)!r})")
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"layers: at most {MAX_LAYERS} (got {len(layers)})")
    return tuple(check_whole_number("each size of layers", size, 1, MAX_UNITS) for size in layers)


def check_pair(name: str, value: object) -> tuple[Any, Any]:
    """Return ``value`` if it is a tuple or list of samples and labels.

    Raises
    ------
    TypeError
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (X, y) of samples and labels")
    return value[0], value[1]


def check_real(name: str, value: object) -> NDArray[Any]:
    """Return ``value`` as an array of real numbers: what NumPy would only convert with a loss is refused.

    Raises
    ------
    TypeError
        For text, complex numbers, objects.
    ValueError
        For masked values, which would count as what is hidden beneath.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers (got dtype {array.dtype})")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        position = ", ".join(map(str, np.argwhere(np.ma.getmaskarray(value))[0]))
        raise ValueError(f"{name} has masked values, expected a number everywhere (the first is masked at {position})")
    return array


def check_samples(X: ArrayLike, n_features: int, dtype: np.dtype[Any], name: str = "X") -> NDArray[Any]:
    """Return samples as a C-contiguous array of bytes or of ``dtype``, copied only if they are not one yet.

    Raises
    ------
    TypeError, ValueError
        For what is not numeric, not two-dimensional, of another number of features, masked, or not finite in
        ``dtype``.
    """
    array = check_real(name, X)
    if array.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, one row per sample (got {array.ndim} dimensions)")
    if array.shape[1] != n_features:
        raise ValueError(f"{name} has {array.shape[1]} features, but the network expects {n_features}")
    if len(array) > MAX_SAMPLES:
        raise ValueError(f"{name} has {len(array)} samples; at most {MAX_SAMPLES} are supported")
    if array.dtype in (np.dtype(bool), np.dtype(np.uint8)):
        return np.ascontiguousarray(array).view(np.uint8)
    with np.errstate(over="ignore"):
        array = np.require(array, dtype, ["C", "ALIGNED"])
    if array.size and not math.isfinite(float(array.min()) + float(array.max())):
        finite = np.isfinite(array)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"{name} contains NaN, infinity or a value too large for {dtype.name} (row {row}, column {column})"
            )
    return array


def check_labels(y: ArrayLike, n_samples: int, n_classes: int, name: str = "y") -> NDArray[np.int32]:
    """Return a copy of the labels as int32 numbers below ``n_classes``.

    A copy, as kernels use them as indices: nobody may change them after they are checked.

    Raises
    ------
    TypeError, ValueError
        For what is not whole, not one-dimensional, of another length, or not a class.
    """
    array = np.asarray(y)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, one label per sample (got {array.ndim} dimensions)")
    if len(array) != n_samples:
        raise ValueError(f"{n_samples} samples but {len(array)} labels in {name}")
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name}: labels must be whole numbers (got dtype {array.dtype})")
    check_real(name, y)
    if not len(array):
        return array.astype(np.int32)
    low, high = array.min(), array.max()
    if not low >= 0 or not high < n_classes:
        bad = array[~((array >= 0) & (array < n_classes))][0]
        raise ValueError(f"{name}: label {bad} is not among the classes 0..{n_classes - 1}")
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise ValueError(f"{name}: labels must be whole numbers (got {array[array != np.floor(array)][0]})")
    return np.array(array, np.int32)
