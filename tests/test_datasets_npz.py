"""The .npz reader: what NumPy writes is read back, and no header is believed."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmlp.datasets.files import data_error
from fastmlp.datasets.npz import read_npy, read_npz
from fastmlp.errors import DataFormatError
from tests.dataset_files import forged_npy, npy_bytes, ramp, zip_bytes

ROOMY = 2**30
X_Y = (("X", "y"),)
numeric_arrays = hnp.arrays(
    st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes()),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name one file that each example of a property test overwrites."""
    return tmp_path_factory.mktemp("npz") / "values"


@given(X=numeric_arrays, y=numeric_arrays, compressed=st.booleans(), fortran=st.booleans())
def test_round_trip(scratch: Path, X: np.ndarray, y: np.ndarray, compressed: bool, fortran: bool) -> None:
    """Read back every numeric type in every byte order and layout."""
    with scratch.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, X=np.asfortranarray(X) if fortran else X, y=y)
    for read, written in zip(read_npz(scratch, X_Y, max_bytes=ROOMY).values(), (X, y), strict=True):
        assert read.values.dtype == written.dtype.newbyteorder("=")
        assert read.values.flags.c_contiguous and read.values.dtype.isnative
        np.testing.assert_array_equal(read.values, written)


def test_npy(tmp_path: Path) -> None:
    """Read a single .npy file, also one of format version 2."""
    values = ramp(3, 4)
    path = tmp_path / "values.npy"
    for version in ((1, 0), (2, 0)):
        with path.open("wb") as file:
            np.lib.format.write_array(file, values, version)
        np.testing.assert_array_equal(read_npy(path, max_bytes=ROOMY).values, values)


class Explosive:
    """Unpickling this fails the test."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


BAD_ARRAYS = {
    "object": (npy_bytes(np.array([Explosive()], object)), ["object arrays are not allowed"]),
    "pickle": (pickle.dumps(Explosive()), ["not an .npy header"]),
    "complex": (npy_bytes(ramp(4, dtype="complex64")), ["complex data not supported", "got complex64"]),
    "structured": (npy_bytes(np.zeros(3, "i4, f4")), ["structured data not supported"]),
    "strings": (
        npy_bytes(np.array(["a"])),
        ["data type not supported", "got <U1", "expected integers or floats"],
    ),
    "dates": (npy_bytes(np.zeros(2, "datetime64[s]")), ["data type not supported"]),
    "1.1 TiB in 128 bytes": (
        forged_npy("(300000000000,)"),
        ["shape (300000000000,) needs 1200000000000 bytes, file has 0"],
    ),
    "sizes beyond 64 bits": (forged_npy(f"({2**62}, {2**62})"), [f"needs {4 * 2**124} bytes"]),
    "one byte short": (forged_npy("(2, 3)", 23), ["shape (2, 3) needs 24 bytes, file has 23"]),
    "one byte long": (forged_npy("(2, 3)", 25), ["shape (2, 3) needs 24 bytes, file has 25"]),
    "negative size": (forged_npy("(-2, -3)", 24), ["negative size", "(-2, -3)"]),
    "size no integer": (forged_npy("(2.5, 3)", 30), ["not an .npy header"]),
    "shape no tuple": (forged_npy("6", 24), ["not an .npy header"]),
    "no dimensions": (npy_bytes(np.float32(1)), ["wrong number of dimensions", "got 0, expected 1 to 4"]),
    "5 dimensions": (npy_bytes(np.zeros((1,) * 5)), ["wrong number of dimensions", "got 5"]),
    "no samples": (npy_bytes(np.zeros((0, 4))), ["no samples"]),
    "no features": (npy_bytes(np.zeros((4, 0))), ["no features"]),
    "unknown type": (forged_npy("(1,)", 4, descr="'<q9'"), ["not an .npy header"]),
    "order no bool": (forged_npy("(1,)", 4, fortran_order="'no'"), ["not an .npy header"]),
    "deeply nested": (forged_npy("(" * 5000), ["not an .npy header"]),
    "many signs": (forged_npy("(" + "-" * 9000 + "1,)"), ["not an .npy header"]),
    "header of 1 GB": (b"\x93NUMPY\x02\x00" + (2**30).to_bytes(4, "little"), ["header of 1073741824 bytes"]),
    "version 3": (b"\x93NUMPY\x03\x00" + bytes(99), ["not an .npy header: format version (3, 0)"]),
    "text": (b"1,2,3\n", ["not an .npy header"]),
    "nothing": (b"", ["not an .npy header"]),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(("data", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_array(tmp_path: Path, data: bytes, words: list[str], compression: int) -> None:
    """Refuse a bad array in one clear line that names file and array."""
    path = tmp_path / "data.npz"
    path.write_bytes(zip_bytes({"X.npy": data, "y.npy": npy_bytes(ramp(4))}, compression))
    with pytest.raises(DataFormatError) as caught:
        read_npz(path, X_Y, max_bytes=ROOMY)
    message = str(caught.value)
    assert message.startswith(f"{path}, array 'X': ") and "\n" not in message
    assert all(word in message for word in words), message


GOOD = zip_bytes({"X.npy": npy_bytes(ramp(4, 3)), "y.npy": npy_bytes(ramp(4))})
BAD_ARCHIVES = {
    "empty": (b"", "file is empty"),
    "text": (b"1,2,3\n", r"not a readable .npz"),
    "npy": (npy_bytes(ramp(3)), r"not a readable .npz"),
    "truncated": (GOOD[:-30], r"not a readable .npz"),
    "wrong CRC": (GOOD.replace(npy_bytes(ramp(4)), npy_bytes(ramp(4) + 1)), r"not a readable .npz.*CRC"),
    "no arrays": (zip_bytes({}), r"expected arrays 'X' and 'y', found none"),
    "missing array": (zip_bytes({"X.npy": b""}), r"expected arrays 'X' and 'y', found 'X'"),
    "extra array": (zip_bytes({"X.npy": b"", "y.npy": b"", "z": b""}), r"found 'X', 'y' and 'z'"),
    "thousand arrays": (zip_bytes(dict.fromkeys(map(str, range(1000)), b"")), r"found 1000 others"),
    "path as name": (zip_bytes({"../X.npy": b"", "y.npy": b""}), r"found '../X' and 'y'"),
    "bzip2": (zip_bytes({"X.npy": b"", "y.npy": b""}, zipfile.ZIP_BZIP2), r"unknown zip compression 12"),
    "encrypted": (GOOD.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"), r"encrypted"),
}


LONG = {
    "of an array": zip_bytes({"X" * 65_000 + ".npy": npy_bytes(ramp(4)), "y.npy": b""}),
    # the name before the array, 65,000 characters by its length, differs from the one in the list at the end
    "before an array": GOOD[:26] + (65_000).to_bytes(2, "little") + GOOD[28:],
}


@pytest.mark.parametrize("data", LONG.values(), ids=LONG)
def test_long_name(tmp_path: Path, data: bytes) -> None:
    """Errors quote the beginning of it."""
    path = tmp_path / "data.npz"
    path.write_bytes(data)
    with pytest.raises(DataFormatError) as caught:
        read_npz(path, X_Y, max_bytes=ROOMY)
    message = str(caught.value).removeprefix(f"{path}: ")
    assert len(message) == 400
    assert message.endswith("...")


def test_every_part_of_an_error_is_printable_and_what_quotes_is_short() -> None:
    message = str(data_error("a\x1b", "b\n" * 1000, got="c\r" * 1000, expected="d\t", hint="e\x07"))
    assert message.isprintable()
    assert message.startswith(r"a\x1b: b\nb\n")
    assert message.endswith(r"..., expected d\t). e\x07")
    assert len(message) < 1000


@pytest.mark.parametrize(("data", "words"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_bad_archive(tmp_path: Path, data: bytes, words: str) -> None:
    """Refuse a bad archive."""
    path = tmp_path / "data.npz"
    path.write_bytes(data)
    with pytest.raises(DataFormatError, match=words):
        read_npz(path, X_Y, max_bytes=ROOMY)


def test_duplicate_member(tmp_path: Path) -> None:
    """Refuse an archive with the same name twice, as either could be meant."""
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("X.npy", "X.npy", "y.npy"):
            archive.writestr(name, npy_bytes(ramp(2)))
    with pytest.raises(DataFormatError, match="found 'X', 'X' and 'y'"):
        read_npz(path, X_Y, max_bytes=ROOMY)


def test_forged_member_size(tmp_path: Path) -> None:
    """Refuse a size that the archive declares but its compressed bytes cannot hold."""
    path = tmp_path / "data.npz"
    X = forged_npy("(300000000000,)")
    sizes = struct.pack("<II", len(X), len(X))
    path.write_bytes(zip_bytes({"X.npy": X, "y.npy": b""}).replace(sizes, struct.pack("<II", len(X), 2**31)))
    with pytest.raises(DataFormatError, match="header declares 2147483648 bytes, file has 128 compressed ones"):
        read_npz(path, X_Y, max_bytes=2**40)


def test_member_shorter_than_declared(tmp_path: Path) -> None:
    """Refuse an array whose header and archive agree on a size that does not come."""
    path = tmp_path / "data.npz"
    X = forged_npy("(100,)", 300)
    data = zip_bytes({"X.npy": X, "y.npy": b""}, zipfile.ZIP_DEFLATED)
    path.write_bytes(data.replace(struct.pack("<I", len(X)), struct.pack("<I", len(X) + 100)))
    with pytest.raises(DataFormatError, match=r"shape \(100,\) needs 400 bytes, file has 300"):
        read_npz(path, X_Y, max_bytes=ROOMY)


@pytest.mark.parametrize("n_arrays", [1, 2])
def test_limit(tmp_path: Path, n_arrays: int) -> None:
    """Count all arrays together against max_bytes."""
    names = ("X", "y")[:n_arrays]
    path = tmp_path / "data.npz"
    np.savez(path, **dict.fromkeys(names, ramp(1000)))
    exact = n_arrays * len(npy_bytes(ramp(1000)))
    read_npz(path, (names,), max_bytes=exact)
    with pytest.raises(DataFormatError, match=rf"data too large \(got {exact} bytes, expected at most {exact - 1}\)"):
        read_npz(path, (names,), max_bytes=exact - 1)


def test_npy_limit(tmp_path: Path) -> None:
    """Refuse an .npy file larger than max_bytes."""
    path = tmp_path / "values.npy"
    np.save(path, ramp(1000))
    with pytest.raises(DataFormatError, match="data too large"):
        read_npy(path, max_bytes=4000)


HEADER_BOMB = b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little") + b" " * 2**26


@pytest.mark.parametrize("content", [HEADER_BOMB, npy_bytes(np.zeros(2**24, "f4"))], ids=["header", "values"])
def test_zip_bomb(tmp_path: Path, content: bytes) -> None:
    """Refuse a zip bomb without unpacking it."""
    path = tmp_path / "data.npz"
    path.write_bytes(zip_bytes({"X.npy": content, "y.npy": npy_bytes(ramp(4))}, zipfile.ZIP_DEFLATED))
    limit = ROOMY if content is HEADER_BOMB else 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DataFormatError, match=r"header of 67108864 bytes|data too large"):
            read_npz(path, X_Y, max_bytes=limit)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(data=st.data(), compressed=st.booleans())
def test_fuzz(scratch: Path, data: st.DataObject, compressed: bool) -> None:
    """Raise only DataFormatError, whatever byte is damaged or missing."""
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, X=ramp(4, 3), y=ramp(4, dtype="i8"))
    content = bytearray(file.getvalue())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    try:
        arrays = read_npz(scratch, X_Y, max_bytes=ROOMY)
    except DataFormatError:
        return
    # the zip checksum covers the arrays: what is read at all is what was written
    np.testing.assert_array_equal(arrays["X"].values, ramp(4, 3))
    np.testing.assert_array_equal(arrays["y"].values, ramp(4))
