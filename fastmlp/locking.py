"""One process at a time: a lock file that the system releases if its holder dies."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import sys
from pathlib import Path

from fastmlp.errors import FastmlpError

_LONGEST_HOLDER = 80
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)


class InUseError(FastmlpError):
    """Another process, or another training of this one, works on the same files."""


class FileLock:
    """A lock file; it says who holds it and is removed when it is released.

    Parameters
    ----------
    path : Path
        The lock file. Its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, also over the file of a process that was killed.

        Raises
        ------
        InUseError
            If somebody holds it; says who and since when.
        OSError
            If the file cannot be made.
        """
        while True:
            # not through a symbolic link: the file is emptied below
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(self.path, flags, 0o666)
            try:
                _lock(descriptor)
                if _is_file(descriptor, self.path):  # not one that its last holder has just removed
                    break
            except OSError as error:
                holder = _holder(descriptor)
                os.close(descriptor)
                if error.errno in _TAKEN:
                    raise InUseError(f"{self.path.parent}: in use by {holder}") from error
                raise
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        self._descriptor = descriptor
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} since {now}".encode())

    def release(self) -> None:
        """Remove the file and give the lock back; does nothing without one."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock an open file or raise an OSError at once; where a file system knows no locks, go without."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # others may read what stands before
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise


def _is_file(descriptor: int, path: Path) -> bool:
    """Tell whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """Return what the holder wrote about itself."""
    try:
        text = os.read(descriptor, _LONGEST_HOLDER).decode("ascii", errors="replace")
    except OSError:
        text = ""
    return " ".join(text.split()) or "another process"
