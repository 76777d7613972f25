"""The run folder: everything one training leaves behind, written so that a crash never costs an earlier file.

- ``model.safetensors``: the network
- ``history.csv``: one row per validation
- ``history.json``: the same, and the loss of every batch
- ``config.json``: settings, data, versions, machine, result
- ``curves.png``: loss and accuracy against training steps
- ``checkpoints``: where to go on from, if the run was to keep checkpoints or was interrupted
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.errors import FastmlpError
from fastmlp.locking import FileLock, InUseError
from fastmlp.memory import human_bytes

if TYPE_CHECKING:
    from fastmlp.history import History
    from fastmlp.network import Network

MODEL = "model.safetensors"
HISTORY_CSV = "history.csv"
HISTORY_JSON = "history.json"
CONFIG = "config.json"
CURVES = "curves.png"
CHECKPOINTS = "checkpoints"
_LOCK = ".lock"

_LONGEST_NAME = 60
_LONGEST_RECORD = 1 << 20
_RUNNING = '{"status": "running"}\n'


class RunFolderError(FastmlpError):
    """A run folder cannot be used: it holds files, cannot be written to or lacks space."""


def network_name(layers: Sequence[int]) -> str:
    """Name a network by its layers: "784-64-10"; three or more equal ones in a row become "784-64x10-10"."""
    parts = []
    for size, group in itertools.groupby(layers):
        count = len(list(group))
        parts += [f"{size}x{count}"] if count >= 3 else [str(size)] * count
    name = "-".join(parts)
    return name if len(name) <= _LONGEST_NAME else f"{layers[0]}-{len(layers) - 2}layers-{layers[-1]}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` when the block succeeds.

    Other processes see the old file or the new one, never half of one, whatever happens in between.

    Raises
    ------
    FastmlpError
        If the file cannot be written: no space, no permission. The file that was there before is unharmed.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        existing_mode = path.stat().st_mode if path.exists() else None
        if existing_mode is not None:
            temporary.chmod(existing_mode & 0o777)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        kept = "; the previous file is kept" if path.exists() else ""
        raise FastmlpError(f"{path}: {(error.strerror or str(error)).lower()}{kept}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut; raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file: a named pipe could be waited for, a device read, for ever.

    Raises
    ------
    OSError
        If it is something else, cannot be read or has more than `most` bytes.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        content = file.read() if most is None else file.read(most + 1)
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run's ``config.json`` says; nothing if it is missing or no record."""
    try:
        found = json.loads(read_regular(folder / CONFIG, _LONGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, document: object, *, indent: int | None = None) -> None:
    """Write one JSON document, replacing the file in one step; numbers that are not finite become null."""
    text = json.dumps(json_ready(document), indent=indent, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def json_ready(value: Any) -> Any:
    """Return `value` in terms of JSON.

    NumPy numbers and arrays, tuples and paths are converted; NaN and infinity become None.

    Raises
    ------
    TypeError
        If something has no counterpart in JSON.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_ready(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(entry) for entry in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy
        return json_ready(value.tolist())
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")


class RunFolder:
    """One training's files; a context manager that gives the folder back, and the claim too if the block fails.

    Parameters
    ----------
    path : Path
        An existing folder; `create` makes one, `reopen` takes one with a run in it. Both hold a lock on it.
    is_new : bool, default False
        Whether the folder was made for this run.
    """

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        self.path = path
        self._is_new = is_new
        self._claimed = False
        self._lock = FileLock(path / _LOCK)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abandon()
        self._lock.release()

    @classmethod
    def create(
        cls, path: Path | None, layers: Sequence[int], *, overwrite: bool = False, needed_bytes: int = 0
    ) -> RunFolder:
        """Claim a folder before training, so that a result is never lost for want of a place to put it.

        Parameters
        ----------
        path : Path or None
            Where; None: a new folder under ``runs`` named after the time and the network.
        layers : sequence of int
            Sizes of all layers, for the name.
        overwrite : bool, default False
            Accept a folder with files in it. Only files of the same names are replaced, each when its
            successor is complete.
        needed_bytes : int, default 0
            Space that must be free.

        Returns
        -------
        RunFolder
            In a folder without one, a ``config.json`` says ``"status": "running"`` until the run is complete.

        Raises
        ------
        RunFolderError
            If the folder holds files and `overwrite` is False, cannot be made or written to, lacks space, or
            another process works in it.
        """
        try:
            if path is None:
                folder, is_new = _fresh_folder(Path("runs"), layers), True
            else:
                folder, is_new = path, not path.exists()
                make_folder(path)
                if not overwrite and any(path.iterdir()):
                    raise FileExistsError(errno.EEXIST, "exists and is not empty", str(path))
            run = cls(folder, is_new=is_new)
            run._lock.acquire()
            try:
                run._claim(overwrite=overwrite)
            except BaseException:
                run._lock.release()
                raise
            free = shutil.disk_usage(folder).free
        except InUseError as error:
            raise RunFolderError(str(error)) from error
        except OSError as error:
            reason = "is not a folder" if isinstance(error, NotADirectoryError) else (error.strerror or str(error))
            if isinstance(error, FileExistsError) and path is not None and not path.is_dir():
                reason = "is not a folder"
            raise RunFolderError(f"{error.filename or path}: {reason.lower()}") from error
        if free < needed_bytes:
            run.abandon()
            needs = f"the run needs {human_bytes(needed_bytes)}, {human_bytes(free)} are free"
            raise RunFolderError(f"{folder}: disk full: {needs}")
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Take the folder of an earlier run to go on with it.

        Raises
        ------
        RunFolderError
            If there is no such folder, it cannot be written to, or another process works in it.
        """
        run = cls(path)
        try:
            run._lock.acquire()
        except FileNotFoundError as error:
            raise RunFolderError(f"{path}: no such run folder") from error
        except NotADirectoryError as error:
            raise RunFolderError(f"{path}: is not a folder") from error
        except OSError as error:
            raise RunFolderError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        except InUseError as error:
            raise RunFolderError(str(error)) from error
        run._remove_stale()
        return run

    def record(self) -> dict[str, Any]:
        """Return what ``config.json`` says; nothing if it is missing or no record."""
        return read_record(self.path)

    def _remove_stale(self) -> None:
        """Remove what a killed run left half written."""
        for name in (MODEL, HISTORY_CSV, HISTORY_JSON, CONFIG, CURVES):
            for stale in self.path.glob(f".*{name}.*.tmp*"):  # perhaps killed half-way to a temporary
                stale.unlink(missing_ok=True)

    def _claim(self, *, overwrite: bool) -> None:
        """Write the first file, alone among all processes unless told to overwrite."""
        self._remove_stale()
        config = self.path / CONFIG
        if overwrite and config.exists():  # the record of the run before stays until its successor is complete
            probe = self.path / f".{CONFIG}.{os.urandom(4).hex()}.tmp"
            probe.write_text(_RUNNING)
            probe.unlink()
        else:
            with config.open("x") as file:
                file.write(_RUNNING)
            self._claimed = True

    def abandon(self) -> None:
        """Take the claim back, and remove the folder if it was made for it."""
        self._lock.release()
        with contextlib.suppress(OSError):
            config = self.path / CONFIG
            if self._claimed and config.read_text() == _RUNNING:
                config.unlink()
                if self._is_new:
                    self.path.rmdir()

    def write(self, network: Network, history: History, config: dict[str, Any], title: str) -> None:
        """Write all five files, the model first and ``config.json``, which declares the run complete, last.

        Parameters
        ----------
        network : Network
            The trained network.
        history : History
            What training returned or was interrupted with.
        config : dict
            What ``config.json`` is to say; see `json_ready` for what it may hold.
        title : str
            Headline of the curves.

        Raises
        ------
        FastmlpError
            If a file cannot be written; earlier files stay as they were.
        """
        with replacing(self.path / MODEL) as temporary:
            network.save(temporary)
        with replacing(self.path / HISTORY_CSV) as temporary:
            history.to_csv(temporary)
        write_json(self.path / HISTORY_JSON, history.to_dict())  # null, not NaN, where a training diverged
        from fastmlp.plots import save_figure, training_curves

        with replacing(self.path / CURVES) as temporary:
            save_figure(training_curves(history, title), temporary, file_format="png")
        write_json(self.path / CONFIG, config, indent=2)


def _fresh_folder(parent: Path, layers: Sequence[int]) -> Path:
    """Make a folder that nobody had before, also when several runs start in the same second."""
    make_folder(parent)
    stem = f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{network_name(layers)}"
    for attempt in itertools.count(1):
        folder = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        _sync_folder(parent)
        return folder
    raise AssertionError("unreachable")
