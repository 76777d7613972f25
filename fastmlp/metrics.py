"""How well predictions fit the labels, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.memory import check_available


@dataclass(frozen=True)
class ClassificationReport:
    """The confusion matrix of a set of predictions and what follows from it.

    Parameters
    ----------
    confusion : int64 (n_classes, n_classes)
        Row: the true class; column: the predicted one.
    precision, recall, f1 : float64 (n_classes,)
        Fractions; NaN where they are undefined (precision of a class that was never predicted, recall of a
        class without a sample).
    support : int64 (n_classes,)
        Samples of each class.
    """

    confusion: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The fraction of predictions that are right."""
        return float(np.trace(self.confusion) / self.confusion.sum())


def confusion_matrix(y_true: ArrayLike, y_predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count how often each class was taken for each other.

    Parameters
    ----------
    y_true, y_predicted : int (n,)
        True and predicted labels, 0 <= label < n_classes.
    n_classes : int
        Number of classes.

    Returns
    -------
    int64 (n_classes, n_classes)
        Row: the true class; column: the predicted one.

    Raises
    ------
    TypeError
        If the labels are not whole numbers.
    ValueError
        If the two differ in shape, are not 1-d, are empty, or hold a label outside 0..n_classes-1.
    OutOfMemoryError
        If the matrix needs more memory than there is.
    """
    true = _labels(y_true, "y_true", n_classes)
    predicted = _labels(y_predicted, "y_predicted", n_classes)
    if true.shape != predicted.shape:
        raise ValueError(f"{true.shape[0]} true labels but {predicted.shape[0]} predicted ones")
    hint = "Leave out classes"
    check_available(2 * 8 * n_classes**2, "the confusion matrix", f"for {n_classes} classes", hint)
    counts = np.bincount(true * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.astype(np.int64).reshape(n_classes, n_classes)


def classification_report(y_true: ArrayLike, y_predicted: ArrayLike, n_classes: int) -> ClassificationReport:
    """Return confusion matrix, precision, recall, F1 score and support of every class.

    Parameters and errors are those of `confusion_matrix`.
    """
    confusion = confusion_matrix(y_true, y_predicted, n_classes)
    right = np.diagonal(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    return ClassificationReport(
        confusion=confusion,
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        # 2 / (1/precision + 1/recall), written so that it is defined where only one of the two is
        f1=_ratio(2.0 * right, support + predicted),
        support=support,
    )


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    ratio = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _labels(values: ArrayLike, name: str, n_classes: int) -> NDArray[np.int64]:
    """Check labels and return them as int64."""
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"{name} must be 1-d and not empty (got shape {labels.shape})")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold whole numbers (got {labels.dtype})")
    if labels.min() < 0 or labels.max() >= n_classes:
        outside = labels[(labels < 0) | (labels >= n_classes)][0]
        raise ValueError(f"{name}: label {outside} not among classes 0..{n_classes - 1}")
    return labels.astype(np.int64)
