"""The one decorator for kernels, and the cache of their machine code.

Numba's stock cache looks only at the file that defines a function, freezes globals and flags, can load the wrong
code after a race or a crash, and is pickle. Ours is a private folder whose name is a hash of everything that shapes
the code: all kernel sources, the versions of Python, NumPy, Numba and llvmlite, the CPU and its features, and every
``NUMBA_*`` variable. Inside it a lock file serialises compiling, and a list of checksums is verified before anything
is loaded. Where no folder of our own can be had, kernels are compiled in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import platformdirs
from numba.core.caching import NullCache

from fastmlp.kernels.building_block import BuildingBlock
from fastmlp.kernels.matrix_unit import MATRIX_UNIT

CHECKSUMS = "checksums.json"
_KEEP_SECONDS = 30 * 24 * 3600
_HASH = re.compile("[0-9a-f]{32}")

# No fast-math: the multiply-adds are explicit, and NaN must stay NaN so that a diverged loss shows.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False, "_nrt": False}


# One thread at a time compiles. Forking waits for it, since a child would find the lock taken for ever, as it would
# Numba's own.
_compiling = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=_compiling.release
    )


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a building block, inlined into the kernels that call it and cached with them."""
    return BuildingBlock(function, _OPTIONS | {"forceinline": True})


def phase(function: Callable[..., Any]) -> Any:
    """Compile a larger building block as a function of its own, cached with the kernels that call it."""
    return BuildingBlock(function, _OPTIONS)


def phase_of_matrix_unit(function: Callable[..., Any]) -> Any:
    """As ``phase``, but where there is no such unit, and nobody calls it, nothing is compiled."""
    return phase(function if MATRIX_UNIT else _nothing)


def _nothing(*arguments: Any) -> None:
    pass


class EntryKernel:
    """A kernel that Python calls: compiled or loaded from the cache when a signature is asked for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.python = function
        self._dispatcher: Any = None
        self._prepared: dict[Any, Callable[..., Any]] = {}

    def prepare(self, *arguments: object) -> tuple[Callable[..., Any], float]:
        """Machine code for arguments of these types.

        Returns
        -------
        callable
            To be called with such arguments.
        float
            Seconds spent compiling or loading.
        """
        started = time.perf_counter()
        kind = _kind(arguments)
        if kind not in self._prepared:
            with _compiling:
                self._prepare(kind, arguments)
        return self._prepared[kind], time.perf_counter() - started

    def _prepare(self, kind: Any, arguments: tuple[object, ...]) -> None:
        signature = tuple(numba.typeof(argument) for argument in arguments)
        if self._dispatcher is None:
            self._dispatcher = _dispatcher(self.python)
        if signature not in self._dispatcher.overloads:
            _compile(self._dispatcher, signature)
        # the compiled function itself: the dispatcher would look at the types of all arguments again, which takes
        # longer than a hundred mini-batches and holds up the other threads of the team
        self._prepared[kind] = self._dispatcher.overloads[signature].entry_point


def _kind(argument: object) -> Any:
    """What decides on Numba's type of an argument; Numba's own look takes half a millisecond for our records."""
    if isinstance(argument, tuple):
        return type(argument), tuple(map(_kind, argument))
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        return argument.dtype, argument.ndim, flags.c_contiguous, flags.f_contiguous, flags.writeable, flags.aligned
    return type(argument)


def entry_kernel(function: Callable[..., Any]) -> EntryKernel:
    """Mark a kernel that Python calls."""
    return EntryKernel(function)


def _dispatcher(function: Callable[..., Any]) -> Any:
    folder, _ = cache_folder()
    if folder is None:
        return numba.njit(**_OPTIONS)(function)
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


def _compile(dispatcher: Any, signature: tuple[Any, ...]) -> None:
    folder, _ = cache_folder()
    if folder is None:
        dispatcher.compile(signature)
        return
    # what another process has cleared meanwhile is made anew; on a full disk the code is good for this process only,
    # and what was written of it fits no checksum
    with contextlib.suppress(OSError):
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, exist_ok=True)
        with _locked(folder):
            if _checksums(folder) != _recorded(folder):
                _empty(folder)
            dispatcher.compile(signature)
            _record(folder)
    if signature not in dispatcher.overloads:
        dispatcher._cache = NullCache()
        dispatcher.compile(signature)


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of machine code below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nb?"))
    }


def _recorded(folder: Path) -> dict[str, str]:
    try:
        recorded = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _record(folder: Path) -> None:
    checksums = _checksums(folder)
    if checksums != _recorded(folder):
        temporary = folder / f"{CHECKSUMS}.{os.getpid()}"
        try:
            temporary.write_text(json.dumps(checksums), encoding="utf-8")
            temporary.replace(folder / CHECKSUMS)
        finally:
            temporary.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it if the process dies."""
    with (folder / "lock").open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


_folder: tuple[Path | None, str] | None = None


def cache_folder() -> tuple[Path | None, str]:
    """The folder of this version's machine code on this CPU, and, where there is none, the reason.

    ``FASTMLP_CACHE_DIR`` names another root than the user's cache directory; ``FASTMLP_CACHE_DIR=off`` means none.
    """
    global _folder
    if _folder is None:
        _folder = _find_folder()
    return _folder


def cache_root() -> Path:
    """The folder that holds one folder per version and CPU."""
    return Path(os.environ.get("FASTMLP_CACHE_DIR") or platformdirs.user_cache_path("fastmlp"))


def _find_folder() -> tuple[Path | None, str]:
    if os.environ.get("FASTMLP_CACHE_DIR") == "off":
        return None, "switched off by FASTMLP_CACHE_DIR=off"
    root = cache_root()
    folder = root / _key()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in (root, folder):
            if reason := _unsafe(path):
                return None, reason
        os.utime(folder)
        with (folder / "lock").open("a+b"):
            pass
    except OSError as error:
        return None, f"cannot write to {folder}: {error.strerror}"
    _prune(root)
    return folder, ""


def _unsafe(folder: Path) -> str:
    """Why machine code in a folder could be somebody else's; empty if it could not."""
    if not hasattr(os, "getuid"):
        return ""
    status = folder.stat()
    if status.st_uid != os.getuid():
        return f"{folder} belongs to another user"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return f"{folder} is writable by others (chmod go-w it)"
    return ""


def _prune(root: Path) -> None:
    """Remove folders of versions that nobody has used for 30 days."""
    for folder in _version_folders(root):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _KEEP_SECONDS:
                shutil.rmtree(folder)


def _version_folders(root: Path) -> list[Path]:
    """The folders below the root that are ours: named by a hash and holding a lock file."""
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if _HASH.fullmatch(path.name) and (path / "lock").is_file()]


# joblib sets it in its workers, which would compile anew; no kernel uses Numba's threads
_NO_PART_IN_CODE = ("NUMBA_NUM_THREADS",)


def _key() -> str:
    """Hash of everything that shapes the machine code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    settings = {
        name: value for name, value in os.environ.items() if name.startswith("NUMBA_") and name not in _NO_PART_IN_CODE
    }
    versions = [sys.version, np.__version__, numba.__version__, llvmlite.__version__]
    cpu = [
        llvmlite.binding.get_process_triple(),
        llvmlite.binding.get_host_cpu_name(),
        llvmlite.binding.get_host_cpu_features().flatten(),
        MATRIX_UNIT,  # the system may deny it
    ]
    digest.update(json.dumps([sorted(settings.items()), versions, cpu]).encode())
    return digest.hexdigest()[:32]


def clear_cache() -> int:
    """Delete all cached machine code, of every version; returns the number of bytes freed."""
    global _folder
    _folder = None
    freed = 0
    for folder in _version_folders(cache_root()):
        freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return freed
