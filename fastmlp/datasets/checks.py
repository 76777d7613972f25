"""From arrays as they were in a file to features and labels that every kernel can take without looking."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets.files import RawArray, check_room, data_error

_MAX_CLASSES = 1_000_000  # a network has an output per class: larger labels are identifiers, not classes


def as_features(raw: RawArray) -> npt.NDArray[Any]:
    """Flatten samples to rows and bring them into one of the two types that data sets have.

    Parameters
    ----------
    raw : RawArray
        Integers or floats, 2 to 4 dimensions, samples first.

    Returns
    -------
    ndarray, shape (n, d), C-contiguous
        uint8 if all values are integers from 0 to 255, else float32.

    Raises
    ------
    DataFormatError
        One dimension only, a value that is NaN, infinite or too large for float32, or no memory to convert them.
    """
    origin, values = raw
    if values.ndim < 2:
        raise data_error(origin, "features need a row per sample", got=f"shape {values.shape}", expected="(n, d)")
    rows = values.reshape(len(values), -1)
    is_bytes = rows.dtype == np.uint8 or (rows.dtype.kind != "f" and rows.min() >= 0 and rows.max() <= 255)
    if is_bytes:
        return np.ascontiguousarray(rows, np.uint8)
    # the copy, unless there is none, and which of its values are finite
    check_room(origin, rows.size * (1 if rows.dtype == np.float32 else 5))
    with np.errstate(all="ignore"):  # an overflow becomes infinity, which the next line finds
        X = np.ascontiguousarray(rows, np.float32)
    finite = np.isfinite(X)
    if not finite.all():
        row, column = divmod(int(finite.argmin()), X.shape[1])
        raise data_error(
            origin,
            f"contains NaN/infinity or a value too large for float32 (row {row}, column {column}: {rows[row, column]})",
        )
    return X


def as_labels(raw: RawArray) -> npt.NDArray[np.int64]:
    """Check that labels are class numbers and return them as int64, shape (n,).

    Raises
    ------
    DataFormatError
        Not one number per sample, or a label that is not a whole number from 0 to 999999.
    """
    origin, labels = raw
    if labels.ndim != 1:
        raise data_error(origin, "labels must be one number per sample", got=f"shape {labels.shape}", expected="(n,)")
    # NaN fails each comparison; the limit is a float64 because float16 cannot hold it
    valid = (labels >= 0) & (labels < np.float64(_MAX_CLASSES)) & (labels == np.floor(labels))
    if not valid.all():
        row = int(valid.argmin())
        raise data_error(
            origin,
            "labels must be whole numbers",
            got=f"{labels[row]} in row {row}",
            expected=f"0 to {_MAX_CLASSES - 1}",
            hint="Number the classes 0, 1, 2, ...",
        )
    return labels.astype(np.int64)


def check_counts(images: RawArray, labels: RawArray) -> None:
    """Refuse a part whose features and labels do not have the same number of samples."""
    if len(images.values) != len(labels.values):
        word = "images" if images.values.ndim > 2 else "rows"
        raise data_error(images.origin, f"{len(images.values)} {word} but {len(labels.values)} labels")


def count_classes(y_train: npt.NDArray[np.int64], origin: str) -> int:
    """Return the number of classes: the largest label of the training part plus one.

    A number between that never occurs counts as a class without samples (EMNIST letters has no 0), so that a
    predicted class is always a label of the data.

    Raises
    ------
    DataFormatError
        Only one class occurs.
    """
    if y_train.min() == y_train.max():
        raise data_error(origin, "need at least 2 classes", got=f"only label {y_train[0]}")
    return int(y_train.max()) + 1


def check_test_labels(y_test: npt.NDArray[np.int64], y_train: npt.NDArray[np.int64], origin: str) -> None:
    """Refuse test labels of a class that the training part does not have."""
    classes = np.unique(y_train)
    unseen = ~np.isin(y_test, classes)
    if unseen.any():
        row = int(unseen.argmax())
        raise data_error(
            origin, f"label {y_test[row]} not among classes {_span(classes)} of the training part (row {row})"
        )


def _span(classes: npt.NDArray[np.int64]) -> str:
    if len(classes) == classes[-1] - classes[0] + 1:
        return f"{classes[0]}..{classes[-1]}"
    return ", ".join(map(str, classes[:20])) + (", ..." if len(classes) > 20 else "")
