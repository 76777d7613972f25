"""load_dataset: MNIST is the real one, folders and .npz files give the same data, bad data are refused."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from fastmlp import memory
from fastmlp.datasets import Dataset, load_dataset, mnist
from fastmlp.datasets.idx import read_idx
from fastmlp.datasets.images import read_images
from fastmlp.datasets.moments import feature_moments, pixel_moments
from fastmlp.errors import DataFormatError
from tests.dataset_files import forged_npy, idx_header, ramp, small_arrays, write_idx_folder, zip_bytes


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Load the real MNIST once."""
    return load_dataset("mnist")


def test_mnist(digits: Dataset) -> None:
    """Find in MNIST what is known of it."""
    assert digits.name == "mnist" and digits.n_classes == 10 and digits.image_shape == (28, 28)
    for X, y, n in ((digits.X_train, digits.y_train, 60_000), (digits.X_test, digits.y_test, 10_000)):
        assert X.shape == (n, 784) and X.dtype == np.uint8 and X.flags.c_contiguous
        assert y.shape == (n,) and y.dtype == np.int64
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(digits.y_train).tolist() == train_counts
    assert np.bincount(digits.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert (digits.X_train == 0).all(axis=0).sum() == 67


def test_first_20000() -> None:
    """Give the mean and standard deviation of the assignment for the first 20,000 digits."""
    part = load_dataset(n_train=20_000)
    assert part.X_train.shape == (20_000, 784) and part.y_train.shape == (20_000,)
    assert part.X_test.shape == (10_000, 784)
    assert part.mean == 33.55274553571429
    assert part.std == pytest.approx(78.875500707847, rel=1e-14)


def test_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse MNIST with one pixel changed, though the gzip stream is sound."""
    for name in mnist.CHECKSUMS:
        shutil.copy(mnist.FOLDER / name, tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(content, 1))
    monkeypatch.setattr(mnist, "FOLDER", tmp_path)
    with pytest.raises(DataFormatError, match=r"t10k-images-idx3-ubyte.gz: wrong SHA-256 checksum .*expected 0fa789"):
        load_dataset("mnist")


def test_import_is_light() -> None:
    """Import neither Numba nor matplotlib nor Pillow with the data sets."""
    code = "import sys, fastmlp.datasets.images; print(sys.modules.keys() & {'numba', 'matplotlib', 'PIL'})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def write_npz(path: Path, **arrays: object) -> Path:
    """Write arrays to an .npz file."""
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["plain", ".gz", "npz"])
def test_own_data(tmp_path: Path, kind: str) -> None:
    """Load the same data from IDX files, plain and compressed, and from an .npz file."""
    arrays = small_arrays()
    if kind == "npz":
        data = load_dataset(write_npz(tmp_path / "small.npz", **arrays))
    else:
        data = load_dataset(str(write_idx_folder(tmp_path / "small", arrays, "own-", kind.removeprefix("plain"))))
    assert data.name == "small" and data.n_classes == 2 and data.image_shape == (2, 3)
    np.testing.assert_array_equal(data.X_train, arrays["X_train"].reshape(6, 6))
    np.testing.assert_array_equal(data.X_test, arrays["X_test"].reshape(3, 6))
    assert data.y_train.tolist() == [0, 1, 0, 1, 1, 0] and data.y_test.tolist() == [1, 0, 1]
    assert data.mean == pytest.approx(arrays["X_train"].mean(), rel=1e-14)


def test_fingerprint(tmp_path: Path) -> None:
    """Fingerprint equal data equally, and see a change in the shape, type or bytes of any array."""
    arrays = small_arrays()
    data = load_dataset(write_npz(tmp_path / "small.npz", **arrays))
    assert load_dataset(write_idx_folder(tmp_path / "other", arrays)).fingerprint == data.fingerprint
    digest = hashlib.sha256()
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        digest.update(f"{array.shape} {array.dtype.str};".encode() + array.tobytes())
    assert data.fingerprint == digest.hexdigest()
    for role, values in arrays.items():
        changed = values.copy()
        changed.flat[0] ^= 1
        other = load_dataset(write_npz(tmp_path / "changed.npz", **(arrays | {role: changed})))
        assert other.fingerprint != data.fingerprint, role


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (np.array([0, 255]), np.array([0.0, 1.0]), "f4"),
        (np.array([0, 255]), np.array([0, -1], "i1"), "f4"),
        (np.array([0, 255], "i8"), np.array([0, 255], "u4"), "u1"),
        (np.array([0, 256]), np.array([0, 255], "u1"), "f4"),
        (np.array([-1, 255], "i2"), np.array([0, 255]), "f4"),
        (np.array([0, 1], "f8"), np.array([0, 1], "f2"), "f4"),
        (np.array([False, True]), np.array([True, False]), "u1"),
        (np.array([0, 2**64 - 1], "u8"), np.array([0, 1]), "f4"),
        (np.array([0, 1], ">f4"), np.array([0, 1], "<f8"), "f4"),
    ],
)
def test_types(tmp_path: Path, train: np.ndarray, test: np.ndarray, expected: str) -> None:
    """Keep whole numbers from 0 to 255 as uint8, turn all else into float32, both parts alike."""
    path = write_npz(
        tmp_path / "d.npz",
        X_train=train[:, None],
        y_train=[0, 1],
        X_test=test[:, None],
        y_test=np.array([1, 0], "f2"),
    )
    data = load_dataset(path)
    for loaded, written in ((data.X_train, train), (data.X_test, test)):
        assert loaded.dtype == expected and loaded.flags.c_contiguous
        np.testing.assert_array_equal(loaded[:, 0], written.astype(expected))
    assert np.ndim(data.mean) == np.ndim(data.std) == (expected == "f4")
    assert data.y_test.tolist() == [1, 0] and data.image_shape is None


def test_split(tmp_path: Path) -> None:
    """Take every fifth sample of each class as test part, always the same ones, and lose none."""
    y = np.repeat([0, 1, 2], [100, 53, 4])
    path = write_npz(tmp_path / "sorted.npz", X=np.arange(157 * 4).reshape(157, 2, 2), y=y)
    data = load_dataset(path)
    assert data.image_shape == (2, 2)
    assert np.bincount(data.y_test).tolist() == [20, 10]
    assert np.bincount(data.y_train).tolist() == [80, 43, 4]
    rows = np.concatenate([data.X_train, data.X_test])[:, 0].astype(int) // 4
    assert sorted(rows) == list(range(157))
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_test]), y[rows])
    assert len(set(data.y_train[:30])) > 1  # though the file is sorted by class
    assert load_dataset(path).fingerprint == data.fingerprint


def test_gap_in_the_classes(tmp_path: Path) -> None:
    """Keep labels as they are where they do not begin at 0, as in EMNIST letters."""
    path = write_npz(tmp_path / "d.npz", X_train=ramp(3, 2), y_train=[1, 3, 1], X_test=ramp(1, 2), y_test=[3])
    data = load_dataset(path)
    assert data.n_classes == 4 and data.y_train.tolist() == [1, 3, 1]


def test_n_train(tmp_path: Path) -> None:
    """Take the first samples only, but know the classes of all."""
    data = load_dataset(write_idx_folder(tmp_path, small_arrays()), n_train=1)
    assert data.X_train.shape == (1, 6) and data.y_train.tolist() == [0] and data.n_classes == 2


@pytest.mark.parametrize("n_train", [0, -1, 7])
def test_n_train_out_of_range(tmp_path: Path, n_train: int) -> None:
    """Refuse an n_train that the data do not have."""
    with pytest.raises(ValueError, match=rf"n_train must be 1 to 6.*\(got {n_train}\)"):
        load_dataset(write_idx_folder(tmp_path, small_arrays()), n_train=n_train)


@pytest.mark.parametrize("source", [None, 3, b"mnist"])
def test_source_of_wrong_type(source: object) -> None:
    """Refuse a source that is no path."""
    with pytest.raises(TypeError):
        load_dataset(source)  # type: ignore[arg-type]


def test_n_train_of_wrong_type(tmp_path: Path) -> None:
    """Refuse an n_train that is no integer."""
    with pytest.raises(TypeError):
        load_dataset(write_idx_folder(tmp_path, small_arrays()), n_train=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("max_bytes", ["4GB", math.nan, None])
def test_limit_of_wrong_type(tmp_path: Path, max_bytes: Any) -> None:
    """Refuse a limit that is no integer: compared with NaN no file would be too large."""
    with pytest.raises(TypeError):
        load_dataset(write_idx_folder(tmp_path, small_arrays()), max_bytes=max_bytes)


def test_limit_counts_all_files(tmp_path: Path) -> None:
    """Count the four files of a folder together against max_bytes."""
    folder = write_idx_folder(tmp_path, small_arrays())
    load_dataset(folder, max_bytes=63)
    with pytest.raises(DataFormatError, match=r"t10k-labels-idx1-ubyte: data too large \(got 3 bytes, .* at most 2\)"):
        load_dataset(folder, max_bytes=62)


@pytest.mark.parametrize("kind", ["plain", "compressed", ".npz", ".npy", "converted", "picture"])
def test_data_beyond_the_memory_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Refuse what max_bytes would allow but a container or another program does not leave room for."""
    monkeypatch.setattr(memory, "available_memory", lambda: 30_000_000)
    path = tmp_path / {"picture": "digit.png", "converted": "digit.npy"}.get(kind, f"digit{kind}")
    shape, n_bytes = (40_000, 1_000), 40_000_000
    if kind == "plain":
        path.write_bytes(idx_header(0x08, *shape))
        os.truncate(path, path.stat().st_size + n_bytes)
    elif kind == "compressed":
        path.write_bytes(gzip.compress(idx_header(0x08, *shape) + bytes(n_bytes), 1))
    elif kind == ".npz":
        path.write_bytes(zip_bytes({"X.npy": forged_npy(str(shape), n_bytes, "'|u1'")}, zipfile.ZIP_DEFLATED))
    elif kind == "picture":  # 2400 x 2400 pixels, one bit each
        Image.new("1", (2400, 2400)).save(path)
    else:
        # what can be read may not fit once more, as float32
        shape, n_bytes = ((10_000, 1_000), 20_000_000) if kind == "converted" else (shape, 80_000_000)
        path.write_bytes(forged_npy(str(shape), 0, "'<f2'"))
        os.truncate(path, path.stat().st_size + n_bytes)
    with pytest.raises(DataFormatError, match=r"digit.*: the data needs [0-9]+ MB of memory, 30 MB available"):
        if kind in ("plain", "compressed"):
            read_idx(path, max_bytes=2**40)
        else:
            read_images([path], (1, 1_000), max_bytes=2**40)


def with_value(shape: tuple[int, int], row: int, column: int, value: float) -> np.ndarray:
    """Make float64 zeros with one other value."""
    X = np.zeros(shape)
    X[row, column] = value
    return X


BAD_DATA = {
    "images without label": ({"X_train": np.zeros((5, 2, 3))}, r"X_train'?: 5 images but 6 labels"),
    "test row without label": ({"X_test": ramp(4, 6)}, r"X_test'?: 4 rows but 3 labels"),
    "other width": ({"X_test": ramp(3, 7)}, r"X_test'?: wrong number of features \(got 7, expected 6\)"),
    "flat features": ({"X_train": ramp(6)}, r"features need a row per sample \(got shape \(6,\)"),
    "NaN": ({"X_train": with_value((6, 6), 4, 2, np.nan)}, r"NaN/infinity .* \(row 4, column 2: nan\)"),
    "infinity": ({"X_test": with_value((3, 6), 1, 5, -np.inf)}, r"NaN/infinity .* \(row 1, column 5: -inf\)"),
    "1e39": (
        {"X_train": with_value((6, 6), 0, 3, 1e39)},
        r"too large for float32 \(row 0, column 3: 1e\+39\)",
    ),
    "label 3.7": ({"y_train": [0, 1, 3.7, 0, 1, 0]}, r"labels must be whole numbers \(got 3.7 in row 2"),
    "label 1e300": (
        {"y_train": [0, 1, 1, 1e300, 1, 0]},
        r"labels must be whole numbers \(got 1e\+300 in row 3",
    ),
    "label NaN": ({"y_train": [np.nan, 1, 1, 1, 1, 0]}, r"labels must be whole numbers \(got nan in row 0"),
    "label -1": (
        {"y_train": [0, 1, 1, -1, 1, 0]},
        r"labels must be whole numbers \(got -1 in row 3, expected 0 to",
    ),
    "label 10**6": ({"y_test": [0, 1, 10**6]}, r"\(got 1000000 in row 2, expected 0 to 999999\)"),
    "label 2**64 - 1": (
        {"y_test": np.array([0, 1, 2**64 - 1], "u8")},
        r"\(got 18446744073709551615 in row 2",
    ),
    "labels one-hot": ({"y_train": np.eye(6)}, r"labels must be one number per sample \(got shape \(6, 6\)"),
    "labels text": ({"y_train": list("abcabc")}, r"data type not supported \(got <U1"),
    "label unseen": (
        {"y_test": [0, 1, 12]},
        r"label 12 not among classes 0..1 of the training part \(row 2\)",
    ),
    "label in a gap": (
        {"y_train": [0, 0, 2, 2, 5, 5], "y_test": [2, 3, 5]},
        r"label 3 not among classes 0, 2, 5 of the training part \(row 1\)",
    ),
    "label unseen among many": (
        {"X_train": ramp(30, 6), "y_train": 2 * ramp(30), "y_test": [0, 2, 3]},
        r"label 3 not among classes 0, 2, 4, .*, 38, \.\.\. of the training part",
    ),
    "one class": ({"y_train": [1] * 6, "y_test": [1] * 3}, r"need at least 2 classes \(got only label 1\)"),
    "one array missing": (
        {"y_test": None},
        r"expected arrays 'X' and 'y', or 'X_train', .*found 'X_test', 'X_train'",
    ),
}


@pytest.mark.parametrize(("change", "words"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data(tmp_path: Path, change: dict[str, object], words: str) -> None:
    """Refuse data that are not fit for training in one clear line."""
    arrays = {role: values for role, values in (small_arrays() | change).items() if values is not None}
    path = write_npz(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataFormatError, match=words) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (ramp(4, 2), [0, 1, 0, 1], "too few samples to take a test part"),
        (ramp(9, 2), [0] * 10, "9 rows but 10 labels"),
        (ramp(10, 2), [0] * 10, "need at least 2 classes"),
        (ramp(10, 2), [0] * 9 + [0.5], "got 0.5 in row 9"),
        (with_value((10, 2), 7, 1, np.nan), [0, 1] * 5, "row 7, column 1"),
    ],
)
def test_bad_data_to_split(tmp_path: Path, X: np.ndarray, y: list[float], words: str) -> None:
    """Refuse data that cannot be split."""
    with pytest.raises(DataFormatError, match=words):
        load_dataset(write_npz(tmp_path / "data.npz", X=X, y=y))


def test_bad_idx_data(tmp_path: Path) -> None:
    """Name the file where images and labels of a folder do not agree."""
    folder = write_idx_folder(tmp_path, small_arrays() | {"y_train": np.zeros(5, np.uint8)})
    with pytest.raises(DataFormatError, match="train-images-idx3-ubyte: 6 images but 5 labels"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "nowhere: no such file"),
        ("nowhere/data.npz", "no such file"),
        ("folder", "folder: holds no file train-images-idx3-ubyte"),
        ("text", r"text: not a data set \(expected an .npz file or a folder of IDX files\)"),
        ("text/data.npz", "cannot be opened"),
        ("", "holds no file train-images-idx3-ubyte"),
        ("nul\0", "cannot be opened"),
    ],
)
def test_bad_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str) -> None:
    """Say what is wrong with a path."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("1,2,3")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataFormatError, match=words):
        load_dataset(source)


@pytest.mark.parametrize(
    ("method", "words"),
    [("stat", "data: permission denied"), ("iterdir", "data: cannot be listed: not for you")],
)
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, words: str) -> None:
    """Name a folder that may not be looked at or listed."""
    folder = write_idx_folder(tmp_path / "data", small_arrays())

    def refuse(*args: object, **options: object) -> None:  # root may do everything, so a mode of 000 would not do
        raise PermissionError(13, "not for you")

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, refuse)
        with pytest.raises(DataFormatError, match=words):
            load_dataset(folder)


@given(X=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)), copies=st.integers(1, 200))
def test_pixel_moments(X: np.ndarray, copies: int) -> None:
    """Agree with NumPy in float64, for data of less and of more than one piece."""
    mean, std = pixel_moments(np.tile(X, (copies, 1)))
    assert mean == pytest.approx(X.mean(), rel=1e-14)
    assert std == pytest.approx(X.std() or 1.0, rel=1e-12)


def test_pixel_moments_of_white() -> None:
    """Sum the largest pixels without overflow."""
    assert pixel_moments(np.full((300, 784), 255, np.uint8)) == (255.0, 1.0)


def test_feature_moments() -> None:
    """Agree with NumPy in float64, feature by feature, also far from zero."""
    X = (np.random.default_rng(0).normal(size=(5000, 30)) * 10.0 ** ramp(30) + 1000).astype(np.float32)
    mean, std = feature_moments(X)
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(std, X.std(axis=0, dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, 1e-45])
def test_constant_feature(value: float) -> None:
    """Give a constant feature a standard deviation of 1."""
    X = np.full((70_001, 1), value, np.float32)
    assert feature_moments(X)[1] == 1.0
