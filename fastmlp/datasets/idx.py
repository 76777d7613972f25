"""IDX, the file format of MNIST and its relatives: magic number, dimensions, then the values, big-endian."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets.files import (
    MAX_DIMENSIONS,
    RawArray,
    check_expansion,
    check_memory,
    check_shape,
    data_error,
    fill,
    open_regular,
)

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# train-images-idx3-ubyte, t10k-labels.idx1-ubyte, emnist-letters-test-images-idx3-ubyte.gz, ...
_FILE_NAME = re.compile(r"(?:(.+)[-_.])?(train|t10k|test)-(images|labels)[-.]idx\d-[a-z]+(?:\.gz)?")
_MNIST_NAMES = {
    "X_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "X_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def read_idx(path: Path, *, max_bytes: int, sha256: str | None = None) -> npt.NDArray[Any]:
    """Read one IDX file, plain or gzip-compressed.

    Parameters
    ----------
    path : Path
        The file; that it is compressed is seen from its first bytes, not from its name.
    max_bytes : int
        Refuse data that need more memory than this.
    sha256 : str, optional
        Expected SHA-256 (hex) of the uncompressed file; default: not checked.

    Returns
    -------
    ndarray
        Shape and type as the file declares (1 to 4 dimensions), C-contiguous, in the machine's byte order.

    Raises
    ------
    DataFormatError
        The file cannot be opened, is damaged, or is not what its header says. Memory is taken only after
        the declared size has been found possible, and nothing beyond that size is kept.
    """
    with open_regular(path) as file:
        file_size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _read(file, path, file_size, compressed=False, max_bytes=max_bytes, sha256=sha256)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read(stream, path, file_size, compressed=True, max_bytes=max_bytes, sha256=sha256)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            # the position is how far the decoder has read: the damage is there or shortly before
            raise data_error(path, f"corrupt gzip stream at byte {file.tell()}: {error}") from error


def _read(
    stream: BufferedIOBase,
    path: Path,
    file_size: int,
    *,
    compressed: bool,
    max_bytes: int,
    sha256: str | None,
) -> npt.NDArray[Any]:
    header, dtype, shape = _read_header(stream, path)
    n_bytes = math.prod(shape) * dtype.itemsize
    if compressed:
        check_expansion(path, n_bytes, file_size)
    elif n_bytes != file_size - len(header):
        raise data_error(path, f"header declares {n_bytes} bytes, file has {file_size - len(header)}")
    check_memory(path, n_bytes, max_bytes)

    values = np.empty(math.prod(shape), dtype)
    digest = hashlib.sha256(header) if sha256 else None
    n_read = fill(stream, values, digest)
    if n_read < n_bytes:
        raise data_error(path, f"header declares {n_bytes} bytes, file has {n_read}")
    if stream.read(1):  # reading on past the last byte is also what makes gzip verify its checksum
        raise data_error(path, f"decompressed data exceeds the declared {n_bytes} bytes")
    if digest and digest.hexdigest() != sha256:
        raise data_error(
            path,
            "wrong SHA-256 checksum",
            got=digest.hexdigest(),
            expected=sha256,
            hint="The file is damaged",
        )
    return values.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_header(stream: BufferedIOBase, path: Path) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    zeros, type_code, n_dimensions = struct.unpack(">HBB", magic.ljust(4, b"\xff"))
    if zeros != 0 or type_code not in _DTYPES or not 1 <= n_dimensions <= MAX_DIMENSIONS:
        raise data_error(
            path,
            "not an IDX file",
            got=f"magic 0x{magic.hex()}",
            expected="0x0000ttdd with type tt = 08, 09, 0b, 0c, 0d or 0e and dd = 01 to 04 dimensions",
        )
    sizes = stream.read(4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        raise data_error(path, "header is cut short", got=f"{len(sizes)} bytes", expected=4 * n_dimensions)
    shape = struct.unpack(f">{n_dimensions}I", sizes)
    check_shape(path, shape)
    return magic + sizes, np.dtype(_DTYPES[type_code]), shape


def read_idx_folder(folder: Path, *, max_bytes: int, checksums: Mapping[str, str] | None = None) -> dict[str, RawArray]:
    """Read the four IDX files of a folder.

    Parameters
    ----------
    folder : Path
        Holds training and test images and labels under their usual names; see `find_idx_files`.
    max_bytes : int
        Refuse data that need more memory than this, all four files together.
    checksums : mapping of file name to SHA-256 (hex), optional
        Verify these; a file missing from the mapping is refused. Default: no verification.

    Returns
    -------
    dict
        'X_train', 'y_train', 'X_test', 'y_test'.

    Raises
    ------
    DataFormatError
        A file is missing or refused by `read_idx`.
    """
    arrays: dict[str, RawArray] = {}
    for role, path in find_idx_files(folder).items():
        values = read_idx(path, max_bytes=max_bytes, sha256=checksums[path.name] if checksums else None)
        max_bytes -= values.nbytes
        arrays[role] = RawArray(str(path), values)
    return arrays


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Find the files of a folder by their names.

    Known are the names of MNIST (``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte``), the same with a
    dot (``train-images.idx3-ubyte``), with ``test`` for ``t10k``, with a prefix (``emnist-letters-train-..``)
    and with ``.gz``. Of a plain and a compressed copy the plain one is taken, as it is read faster.

    Returns
    -------
    dict
        'X_train', 'y_train', 'X_test', 'y_test' to their paths.

    Raises
    ------
    DataFormatError
        The folder cannot be listed, misses one of the four, or holds several data sets.
    """
    try:
        files = [path for path in folder.iterdir() if not path.is_dir()]
    except OSError as error:
        raise data_error(folder, f"cannot be listed: {error.strerror}") from error
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(files, key=lambda path: (path.suffix == ".gz", path.name)):
        match = _FILE_NAME.fullmatch(path.name)
        if match:
            prefix, part, content = match.groups(default="")
            role = ("X_" if content == "images" else "y_") + ("train" if part == "train" else "test")
            found.setdefault(prefix, {}).setdefault(role, path)
    if len(found) > 1:
        raise data_error(
            folder,
            f"holds {len(found)} data sets",
            got=", ".join(sorted(found)),
            hint="Give each its own folder",
        )
    paths = next(iter(found.values()), {})
    for role, name in _MNIST_NAMES.items():
        if role not in paths:
            raise data_error(folder, f"holds no file {name}", hint="It may have a prefix and end in .gz")
    return {role: paths[role] for role in _MNIST_NAMES}
