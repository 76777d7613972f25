"""A data set ready for training, and the one function that loads it."""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets import mnist
from fastmlp.datasets.checks import as_features, as_labels, check_counts, check_test_labels, count_classes
from fastmlp.datasets.files import RawArray, data_error, open_regular
from fastmlp.datasets.idx import read_idx_folder
from fastmlp.datasets.moments import feature_moments, pixel_moments
from fastmlp.datasets.npz import read_npz

_WITH_TEST_PART = ("X_train", "y_train", "X_test", "y_test")
_WITHOUT_TEST_PART = ("X", "y")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test part with what a network needs to know about them.

    Attributes
    ----------
    name : str
        "mnist", or the name of the folder or file.
    X_train, X_test : uint8 or float32 (n, d), C-contiguous
        Raw samples, images flattened row by row; both parts have the same type and the same d.
    y_train, y_test : int64 (n,)
        Class numbers from 0 to n_classes - 1.
    n_classes : int
        The largest label plus one.
    mean, std : float, or float64 (d,)
        Of the training part: over all pixels if the data are uint8, per feature if they are float32.
        A standard deviation of 0 is given as 1.
    image_shape : tuple of two ints, or None
        Height and width if the samples are grey images, such as (28, 28).
    """

    name: str
    X_train: npt.NDArray[Any]
    y_train: npt.NDArray[np.int64]
    X_test: npt.NDArray[Any]
    y_test: npt.NDArray[np.int64]
    n_classes: int
    mean: float | npt.NDArray[np.float64]
    std: float | npt.NDArray[np.float64]
    image_shape: tuple[int, int] | None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over shapes, types and bytes of both parts; computed when first asked for."""
        digest = hashlib.sha256()
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            digest.update(f"{array.shape} {array.dtype.str};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_dataset(
    source: str | os.PathLike[str] = "mnist", *, n_train: int | None = None, max_bytes: int = 4 * 2**30
) -> Dataset:
    """Load MNIST, a folder of IDX files, or an .npz file.

    Parameters
    ----------
    source : str or path, default "mnist"
        - "mnist": the copy inside the package, checksums verified. (A folder of that name is "./mnist".)
        - a folder with four IDX files, plain or .gz: Fashion-MNIST, KMNIST, one set of EMNIST, ...
        - an .npz file with arrays X_train, y_train, X_test, y_test, or X, y. From the latter a test part is
          taken: of each class every fifth sample in a fixed random order. The training part keeps that order.
    n_train : int, optional
        Train on the first `n_train` samples only. Default: all.
    max_bytes : int, default 4 GiB
        Refuse data that need more memory than this as stored, uncompressed.

    Returns
    -------
    Dataset
        Integers from 0 to 255 become uint8, all other numbers float32 (float64 and large integers are
        rounded to it). Samples of more than one dimension are flattened.

    Raises
    ------
    DataFormatError
        A file is missing, damaged, hostile or not fit for training; the message is one line naming the file.
    ValueError
        `n_train` is not between 1 and the number of training samples.
    TypeError
        `source` is not a path, or `n_train` or `max_bytes` is not an integer.

    Examples
    --------
    >>> data = load_dataset("mnist", n_train=20_000)
    >>> data.X_train.shape, data.n_classes
    ((20000, 784), 10)
    """
    name, raw = _read(source, operator.index(max_bytes))
    check_counts(raw["X_train"], raw["y_train"])
    check_counts(raw["X_test"], raw["y_test"])
    X_train, X_test = _same_type(as_features(raw["X_train"]), as_features(raw["X_test"]))
    if X_train.shape[1] != X_test.shape[1]:
        raise data_error(
            raw["X_test"].origin, "wrong number of features", got=X_test.shape[1], expected=X_train.shape[1]
        )
    y_train, y_test = as_labels(raw["y_train"]), as_labels(raw["y_test"])
    n_classes = count_classes(y_train, raw["y_train"].origin)
    check_test_labels(y_test, y_train, raw["y_test"].origin)

    n = len(X_train) if n_train is None else operator.index(n_train)
    if not 1 <= n <= len(X_train):
        raise ValueError(f"n_train must be 1 to {len(X_train)}, the size of the training part (got {n})")
    X_train, y_train = X_train[:n], y_train[:n]
    mean, std = pixel_moments(X_train) if X_train.dtype == np.uint8 else feature_moments(X_train)
    _, *sample_shape = raw["X_train"].values.shape
    image_shape = (sample_shape[0], sample_shape[1]) if len(sample_shape) == 2 else None
    return Dataset(name, X_train, y_train, X_test, y_test, n_classes, mean, std, image_shape)


def _read(source: str | os.PathLike[str], max_bytes: int) -> tuple[str, dict[str, RawArray]]:
    if source == "mnist":
        return "mnist", read_idx_folder(mnist.FOLDER, max_bytes=max_bytes, checksums=mnist.CHECKSUMS)
    path = Path(source)
    if _is_folder(path):
        return path.resolve().name, read_idx_folder(path, max_bytes=max_bytes)
    if path.suffix.lower() != ".npz":
        open_regular(path).close()  # a missing file is said to be missing
        raise data_error(path, "not a data set", expected="an .npz file or a folder of IDX files")
    arrays = read_npz(path, (_WITHOUT_TEST_PART, _WITH_TEST_PART), max_bytes=max_bytes)
    return path.stem, arrays if "X_train" in arrays else _split(arrays["X"], arrays["y"])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no permission to look: opening it as a file will say so
        return False


def _split(X: RawArray, y: RawArray) -> dict[str, RawArray]:
    """Take a test part: of each class every fifth sample, in a random order that is always the same."""
    check_counts(X, y)
    # checked before the split, so that an error counts the rows as they are in the file
    samples = as_features(X).reshape(X.values.shape)
    labels = as_labels(y)
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[by_class]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    is_test = np.zeros(len(labels), bool)
    is_test[by_class] = rank_in_class % 5 == 4
    if not is_test.any():
        raise data_error(
            y.origin,
            "too few samples to take a test part",
            expected="a class of 5 or more",
            hint="Give X_test and y_test",
        )
    train, test = order[~is_test[order]], order[is_test[order]]
    return {
        "X_train": RawArray(X.origin, samples[train]),
        "y_train": RawArray(y.origin, labels[train]),
        "X_test": RawArray(X.origin, samples[test]),
        "y_test": RawArray(y.origin, labels[test]),
    }


def _same_type(A: npt.NDArray[Any], B: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    common = np.result_type(A, B)  # uint8 and float32 meet in float32
    return A.astype(common, copy=False), B.astype(common, copy=False)
