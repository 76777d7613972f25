"""Writers of small data files, good and bad, for the tests of fastmlp.datasets."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_header(code: int, *shape: int) -> bytes:
    """Return the header of an IDX file that declares this type code and shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def idx_bytes(values: np.ndarray) -> bytes:
    """Return the whole IDX file of an array."""
    code = IDX_CODES[values.dtype.str[1:]]
    return idx_header(code, *values.shape) + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write_idx_folder(folder: Path, arrays: Mapping[str, np.ndarray], prefix: str = "", suffix: str = "") -> Path:
    """Write X_train, y_train, X_test and y_test under the file names of MNIST."""
    folder.mkdir(exist_ok=True)
    for role, values in arrays.items():
        content, part = role.split("_")
        name = f"{'t10k' if part == 'test' else part}-{'images-idx3' if content == 'X' else 'labels-idx1'}-ubyte"
        data = idx_bytes(values)
        (folder / f"{prefix}{name}{suffix}").write_bytes(gzip.compress(data) if suffix == ".gz" else data)
    return folder


def small_arrays() -> dict[str, np.ndarray]:
    """Make six training and three test images of 2 x 3 pixels in two classes."""
    rng = np.random.default_rng(0)
    return {
        "X_train": rng.integers(0, 256, (6, 2, 3), np.uint8),
        "y_train": np.array([0, 1, 0, 1, 1, 0], np.uint8),
        "X_test": rng.integers(0, 256, (3, 2, 3), np.uint8),
        "y_test": np.array([1, 0, 1], np.uint8),
    }


def npy_bytes(values: np.ndarray) -> bytes:
    """Return the .npy file of an array."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def forged_npy(shape: str, n_bytes: int = 0, descr: str = "'<f4'", fortran_order: str = "False") -> bytes:
    """Return an .npy file whose header says what the caller likes, followed by `n_bytes` zeros."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(n_bytes)


def zip_bytes(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive of files given as name to content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def ramp(*shape: int, dtype: str = "float32") -> np.ndarray:
    """Count 0, 1, 2, ... in the given shape."""
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)
