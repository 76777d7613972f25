"""What all readers share: opening a file, reading a bounded number of bytes, saying clearly what is wrong."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataFormatError, OutOfMemoryError
from fastmlp.memory import check_available

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_DIMENSIONS = 4
_DEFLATE_MAX_RATIO = 1032  # the best code of deflate is 2 bits for 258 bytes
_PIECE = 2**18  # bytes read at a time: small enough that a checksum finds them still in the CPU's cache
_MOST_CHARACTERS = 400  # of each part of an error that may quote a file


class RawArray(NamedTuple):
    """An array as it was in a file, with the words that name it in error messages."""

    origin: str
    values: npt.NDArray[Any]


def data_error(
    where: str | Path, wrong: str, *, got: object = None, expected: object = None, hint: str = ""
) -> DataFormatError:
    """Compose the one line ``<file>: <what is wrong> (got X, expected Y). <hint>``.

    Characters that could disturb a terminal (line ends, escape sequences in file names) are shown as escapes. Each part
    may quote the file, a name of 65,000 characters for example, and is cut off where it gets long.
    """
    given = (("got", got), ("expected", expected))
    found = [f"{word} {_shorten(_printable(value))}" for word, value in given if value is not None]
    line = f"{_printable(where)}: {_shorten(_printable(wrong))}" + (f" ({', '.join(found)})" if found else "")
    return DataFormatError(line + (f". {_printable(hint)}" if hint else ""))


def _printable(text: object) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, but only a regular one: opening a named pipe would wait for ever."""
    try:
        status = path.stat()
        file = path.open("rb") if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise data_error(path, "no such file") from None
    except PermissionError:
        raise data_error(path, "permission denied") from None
    except (OSError, ValueError) as error:
        raise data_error(path, f"cannot be opened: {error}") from error
    if file is None:
        raise data_error(path, "is a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size == 0:
        file.close()
        raise data_error(path, "file is empty")
    return file


def check_shape(origin: str | Path, shape: Sequence[int]) -> None:
    """Refuse a declared shape that no data set has; `shape` holds Python ints, so nothing overflows."""
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise data_error(origin, "wrong number of dimensions", got=len(shape), expected="1 to 4")
    if min(shape) < 0:
        raise data_error(origin, "negative size in the header", got=f"shape {tuple(shape)}")
    if shape[0] == 0:
        raise data_error(origin, "no samples", got=f"shape {tuple(shape)}")
    if math.prod(shape) == 0:
        raise data_error(origin, "no features", got=f"shape {tuple(shape)}")


def check_memory(origin: str | Path, n_bytes: int, max_bytes: int) -> None:
    """Refuse data that need more than what is left of the caller's limit, or than the process may still take."""
    if n_bytes > max_bytes:
        raise data_error(
            origin,
            "data too large",
            got=f"{n_bytes} bytes",
            expected=f"at most {max_bytes}",
            hint="Raise max_bytes if you trust the file",
        )
    check_room(origin, n_bytes)


def check_room(origin: str | Path, n_bytes: int) -> None:
    """Refuse data that need more memory than this process may still take, by whatever limit."""
    try:
        check_available(n_bytes, "the data", "of memory", "Use fewer samples")
    except OutOfMemoryError as error:
        raise data_error(origin, str(error)) from error


def check_expansion(origin: str | Path, n_bytes: int, n_compressed: int) -> None:
    """Refuse a declared size that the compressed bytes cannot hold, whatever they are."""
    if n_bytes > _DEFLATE_MAX_RATIO * n_compressed:
        raise data_error(origin, f"header declares {n_bytes} bytes, file has {n_compressed} compressed ones")


def fill(stream: BufferedIOBase, values: npt.NDArray[Any], digest: _Hash | None = None) -> int:
    """Read bytes into a 1-d contiguous array until it is full or the stream ends; return how many came."""
    target = values.view(np.uint8).data
    n_read = 0
    while n_read < len(target):
        count = stream.readinto(target[n_read : n_read + _PIECE])
        if count == 0:
            break
        if digest is not None:
            digest.update(target[n_read : n_read + count])
        n_read += count
    return n_read
