"""IDX files: what is written is read back, and of what is damaged nothing is used."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmlp.datasets import files
from fastmlp.datasets.idx import find_idx_files, read_idx
from fastmlp.errors import DataFormatError
from tests.dataset_files import IDX_CODES, idx_bytes, idx_header, ramp, small_arrays, write_idx_folder

ROOMY = 2**30
idx_arrays = st.sampled_from(sorted(IDX_CODES)).flatmap(
    lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file that each example of a property test overwrites."""
    return tmp_path_factory.mktemp("idx") / "values"


@given(values=idx_arrays, compressed=st.booleans())
def test_round_trip(scratch: Path, values: np.ndarray, compressed: bool) -> None:
    """Read back every type and shape."""
    data = idx_bytes(values)
    scratch.write_bytes(gzip.compress(data) if compressed else data)
    read = read_idx(scratch, max_bytes=ROOMY)
    assert read.dtype == values.dtype and read.dtype.isnative
    assert read.flags.c_contiguous and read.flags.writeable
    np.testing.assert_array_equal(read, values)


def test_large_file(tmp_path: Path) -> None:
    """Read a file of more than one piece and several gzip members whole."""
    values = np.random.default_rng(1).integers(0, 256, (3, files._PIECE // 2 + 7), np.uint8)
    data = idx_bytes(values)
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(data[:1000], 1) + gzip.compress(data[1000:], 1))
    np.testing.assert_array_equal(read_idx(path, max_bytes=ROOMY), values)


BAD_FILES = {
    "text": (b"label,pixel\n", ["not an IDX file", "magic 0x6c616265", "expected 0x0000"]),
    "three bytes": (b"\0\0\x08", ["not an IDX file"]),
    "unknown type code": (idx_header(0x0A, 4) + bytes(4), ["not an IDX file", "magic 0x00000a01"]),
    "no dimensions": (b"\0\0\x08\0" + bytes(4), ["not an IDX file", "magic 0x00000800"]),
    "5 dimensions": (idx_header(0x08, 1, 1, 1, 1, 1) + bytes(1), ["not an IDX file", "magic 0x00000805"]),
    "short header": (idx_header(0x08, 1, 2, 3)[:10], ["header is cut short", "got 6 bytes", "expected 12"]),
    "1.7 TB in 20 bytes": (
        idx_header(0x08, 2**31 - 1, 28, 28) + bytes(4),
        [f"header declares {(2**31 - 1) * 784} bytes, file has 4"],
    ),
    "sizes beyond 64 bits": (idx_header(0x0E, *[2**32 - 1] * 4), [f"declares {8 * (2**32 - 1) ** 4} bytes"]),
    "one byte short": (idx_header(0x08, 2, 3) + bytes(5), ["header declares 6 bytes, file has 5"]),
    "one byte long": (idx_header(0x08, 2, 3) + bytes(7), ["header declares 6 bytes, file has 7"]),
    "no samples": (idx_header(0x08, 0, 28, 28), ["no samples", "(0, 28, 28)"]),
    "no features": (idx_header(0x08, 5, 0, 28), ["no features", "(5, 0, 28)"]),
    "too large": (
        idx_header(0x08, 2, 600) + bytes(1200),
        ["data too large", "got 1200 bytes", "at most 1000"],
    ),
    "gz, text": (gzip.compress(b"label,pixel\n"), ["not an IDX file"]),
    "gz, 1.7 TB": (
        gzip.compress(idx_header(0x08, 2**31 - 1, 28, 28)),
        [f"header declares {(2**31 - 1) * 784} bytes"],
    ),
    "gz, one byte short": (gzip.compress(idx_header(0x08, 9) + bytes(8)), ["declares 9 bytes, file has 8"]),
    "gz, one byte long": (
        gzip.compress(idx_header(0x08, 9) + bytes(10)),
        ["decompressed data exceeds the declared 9 bytes"],
    ),
    "gz, truncated": (gzip.compress(idx_bytes(ramp(90, dtype="u1")))[:-9], ["corrupt gzip stream at byte"]),
    "gz, wrong CRC": (
        gzip.compress(idx_bytes(ramp(9, dtype="u1")))[:-8] + bytes(8),
        ["corrupt gzip stream at byte", "CRC"],
    ),
    "gz, trailing text": (gzip.compress(idx_bytes(ramp(9, dtype="u1"))) + b"x", ["corrupt gzip stream"]),
}


@pytest.mark.parametrize(("data", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(tmp_path: Path, data: bytes, words: list[str]) -> None:
    """Refuse a bad file in one clear line."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataFormatError) as caught:
        read_idx(path, max_bytes=1000)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert all(word in message for word in words), message


def test_damage_position(tmp_path: Path) -> None:
    """Give the position of damage in a gzip stream."""
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)))[:4000])
    with pytest.raises(DataFormatError, match="corrupt gzip stream at byte 4000:"):
        read_idx(path, max_bytes=ROOMY)


NOT_READABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (str, "no such file"),
    "directory": (Path.mkdir, "is a directory"),
    "empty": (Path.touch, "file is empty"),
    "fifo": (os.mkfifo, "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "link to itself": (lambda path: path.symlink_to(path), "cannot be opened"),
}


@pytest.mark.parametrize(("make", "words"), NOT_READABLE.values(), ids=NOT_READABLE)
def test_not_readable(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """Say what a path is that is no readable file."""
    path = tmp_path / "values"
    make(path)
    with pytest.raises(DataFormatError, match=words):
        read_idx(path, max_bytes=ROOMY)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a file that may not be read."""
    path = tmp_path / "values"
    path.write_bytes(b"secret")

    def refuse(*args: object) -> None:  # root may read everything, so a mode of 000 would not do
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataFormatError, match="values: permission denied"):
        read_idx(path, max_bytes=ROOMY)


def test_unprintable_path() -> None:
    """Refuse a path that no system takes, and escape it for the terminal."""
    with pytest.raises(DataFormatError) as caught:
        read_idx(Path("red\x1b[31m\nline\0"), max_bytes=ROOMY)
    assert str(caught.value).startswith(r"red\x1b[31m\nline\x00: cannot be opened")


@pytest.mark.parametrize("n_declared", [1000, 2**27])
def test_gzip_bomb(tmp_path: Path, n_declared: int) -> None:
    """Unpack no more of a gzip bomb than its header declares, and nothing if that is too much."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_header(0x08, n_declared) + bytes(2**26), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataFormatError, match=r"exceeds the declared 1000|data too large"):
            read_idx(path, max_bytes=2**20)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), compressed=st.booleans())
def test_fuzz(scratch: Path, data: st.DataObject, compressed: bool) -> None:
    """Raise only DataFormatError, whatever byte is damaged or missing."""
    good = idx_bytes(ramp(4, 3, 2, dtype="i2"))
    content = bytearray(gzip.compress(good) if compressed else good)
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    try:
        read = read_idx(scratch, max_bytes=ROOMY)
    except DataFormatError:
        return
    assert read.nbytes <= len(good)


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("", ".gz"), ("emnist-letters-", ".gz")])
def test_file_names(tmp_path: Path, prefix: str, suffix: str) -> None:
    """Find files by their usual names."""
    write_idx_folder(tmp_path, small_arrays(), prefix, suffix)
    (tmp_path / "README.txt").touch()
    found = find_idx_files(tmp_path)
    assert {role: path.name for role, path in found.items()} == {
        "X_train": f"{prefix}train-images-idx3-ubyte{suffix}",
        "y_train": f"{prefix}train-labels-idx1-ubyte{suffix}",
        "X_test": f"{prefix}t10k-images-idx3-ubyte{suffix}",
        "y_test": f"{prefix}t10k-labels-idx1-ubyte{suffix}",
    }


def test_file_name_variants(tmp_path: Path) -> None:
    """Know names with dots and with test for t10k."""
    names = [
        "train-images.idx3-ubyte",
        "train-labels.idx1-ubyte",
        "test-images-idx3-ubyte",
        "test-labels.idx1-ubyte",
    ]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "train-images-idx3-ubyte").mkdir()  # as in a well-known archive: the file is inside
    assert [path.name for path in find_idx_files(tmp_path).values()] == names


def test_plain_and_compressed_copy(tmp_path: Path) -> None:
    """Prefer a plain file to its compressed copy."""
    for suffix in (".gz", ""):
        write_idx_folder(tmp_path, small_arrays(), suffix=suffix)
    assert not any(path.name.endswith(".gz") for path in find_idx_files(tmp_path).values())


def test_missing_file(tmp_path: Path) -> None:
    """Name the file that is missing."""
    write_idx_folder(tmp_path, small_arrays())
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataFormatError, match=f"{tmp_path}: holds no file t10k-labels-idx1-ubyte"):
        find_idx_files(tmp_path)


def test_two_data_sets(tmp_path: Path) -> None:
    """Refuse a folder of two data sets, naming both."""
    for prefix in ("emnist-letters-", "emnist-digits-"):
        write_idx_folder(tmp_path, small_arrays(), prefix)
    with pytest.raises(DataFormatError, match=r"holds 2 data sets \(got emnist-digits, emnist-letters\)"):
        find_idx_files(tmp_path)
