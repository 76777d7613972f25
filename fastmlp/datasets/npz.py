"""NumPy's .npy and .npz files, read without pickle and without trusting a size they declare."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from fastmlp.datasets.files import (
    RawArray,
    check_expansion,
    check_memory,
    check_shape,
    data_error,
    fill,
    open_regular,
)
from fastmlp.errors import DataFormatError

_MAX_HEADER = 10_000  # bytes; as np.load
_LENGTH_FIELD = {(1, 0): 2, (2, 0): 4}  # bytes, by format version
_READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_REFUSED_KINDS = {
    "O": "object arrays are not allowed",
    "V": "structured data not supported",
    "c": "complex data not supported",
}

# What zipfile raises on damaged archives, found by fuzzing; its documentation names only the first
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def read_npz(path: Path, choices: Sequence[tuple[str, ...]], *, max_bytes: int) -> dict[str, RawArray]:
    """Read all arrays of an .npz file.

    Parameters
    ----------
    path : Path
        A file as written by ``np.savez`` or ``np.savez_compressed``.
    choices : sequence of tuples of str
        The sets of array names that are accepted; the file must hold exactly one of these sets.
    max_bytes : int
        Refuse data that need more memory than this, all arrays together.

    Returns
    -------
    dict
        Array name to array: numeric, 1 to 4 dimensions, C-contiguous, in the machine's byte order.

    Raises
    ------
    DataFormatError
        The file cannot be opened, is damaged or hostile, or holds other arrays. Sizes are checked before
        memory is taken; nothing is ever unpickled.
    """
    with open_regular(path) as file:
        file_size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, path, choices)
                check_memory(path, sum(member.file_size for member in members.values()), max_bytes)
                arrays = {}
                for name, member in members.items():
                    origin = f"{path}, array '{name}'"
                    check_expansion(origin, member.file_size, min(member.compress_size, file_size))
                    with archive.open(member) as stream:
                        values = _read_array(cast(io.BufferedIOBase, stream), origin, member.file_size)
                    arrays[name] = RawArray(origin, values)
                return arrays
        except DataFormatError:
            raise
        except _ZIP_ERRORS as error:
            raise data_error(path, f"not a readable .npz (zip) archive: {error}") from error


def _members(archive: zipfile.ZipFile, path: Path, choices: Sequence[tuple[str, ...]]) -> dict[str, zipfile.ZipInfo]:
    names = sorted(member.filename.removesuffix(".npy") for member in archive.infolist())
    if names not in [sorted(choice) for choice in choices]:
        expected = ", or ".join(_enumerate(choice) for choice in choices)
        found = _enumerate(names) if len(names) <= 10 else f"{len(names)} others"
        raise data_error(path, f"expected arrays {expected}, found {found}")
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise data_error(path, f"unknown zip compression {member.compress_type}", expected="stored or deflate")
    return {member.filename.removesuffix(".npy"): member for member in archive.infolist()}


def _enumerate(names: Sequence[str]) -> str:
    *others, last = [f"'{name}'" for name in names] or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def read_npy(path: Path, *, max_bytes: int) -> RawArray:
    """Read an .npy file under the same rules as `read_npz`.

    Parameters
    ----------
    path : Path
        A file as written by ``np.save``.
    max_bytes : int
        Refuse data that need more memory than this.

    Returns
    -------
    RawArray
        Numeric, 1 to 4 dimensions, C-contiguous, in the machine's byte order.

    Raises
    ------
    DataFormatError
        The file cannot be opened, is damaged or hostile.
    """
    with open_regular(path) as file:
        file_size = os.fstat(file.fileno()).st_size
        check_memory(path, file_size, max_bytes)
        return RawArray(str(path), _read_array(file, str(path), file_size))


def _read_array(stream: io.BufferedIOBase, origin: str, size: int) -> npt.NDArray[Any]:
    """Read one array in .npy format from a stream that holds `size` bytes."""
    header_bytes, shape, fortran_order, dtype = _read_header(stream, origin)
    if dtype.kind not in "biuf":
        wrong = _REFUSED_KINDS.get(dtype.kind, "data type not supported")
        raise data_error(origin, wrong, got=dtype, expected="integers or floats")
    check_shape(origin, shape)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != size - header_bytes:
        raise data_error(origin, f"shape {shape} needs {n_bytes} bytes, file has {size - header_bytes}")

    values = np.empty(math.prod(shape), dtype)
    n_read = fill(stream, values)
    if n_read < n_bytes:
        raise data_error(origin, f"shape {shape} needs {n_bytes} bytes, file has {n_read}")
    stream.read(1)  # past the last byte: this makes zipfile verify its checksum
    values = values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)
    return np.ascontiguousarray(values, dtype.newbyteorder("="))


def _read_header(stream: io.BufferedIOBase, origin: str) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header; return its length in bytes, the shape, whether in Fortran order, and the type."""
    try:
        version = npy_format.read_magic(stream)
        if version not in _READ_HEADER:
            raise ValueError(f"format version {version}")
        length_field = stream.read(_LENGTH_FIELD[version])
        length = int.from_bytes(length_field, "little")
        # NumPy reads the whole header before it looks at its length: a zip bomb could hide there
        if length > _MAX_HEADER:
            raise ValueError(f"header of {length} bytes")
        text = io.BytesIO(length_field + stream.read(length))
        shape, fortran_order, dtype = _READ_HEADER[version](text)
    except (zipfile.BadZipFile, zlib.error):
        raise  # the archive is damaged, not this header
    except Exception as error:  # the header is parsed as Python text: damage can raise nearly anything
        raise data_error(origin, f"not an .npy header: {error}") from error
    return npy_format.MAGIC_LEN + len(length_field) + length, shape, fortran_order, dtype
