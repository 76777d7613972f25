"""Checkpoints: all that a training needs to go on as if nothing had happened, in files that survive a crash.

A checkpoint is taken between two epochs. It is a safetensors file with flat arrays: ``parameters``, with momentum
``velocities``, with best weights to keep ``best``, the ``losses`` of all mini-batches and the ``validations``. The
metadata hold the SHA-256 of all of it and a description in JSON. The order of the samples needs no state of its own:
it follows from the seed and the number of the epoch. Like a model file, a checkpoint runs no code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import __version__, checks
from fastmlp.errors import CheckpointError, ModelFormatError
from fastmlp.initialization import INITIALIZATIONS
from fastmlp.locking import FileLock
from fastmlp.memory import count_parameters
from fastmlp.model_file import one_line, read_content, write_atomically
from fastmlp.recipe import Recipe, checked_recipe
from fastmlp.runs import make_folder

if TYPE_CHECKING:
    from fastmlp.network import Network

# 1: orders of the samples were those of NumPy's own permutation.
FORMAT = 2
KEPT = 2

# What Python makes of JSON can take thirty times its bytes, so only as much is parsed as a thousand layers need.
MAX_HEADER = 1 << 16

_NAME = re.compile(r"checkpoint-([0-9]{1,9})\.safetensors")
_VALIDATION_COLUMNS = 5  # step, loss, accuracy, training accuracy, elapsed seconds
_DESCRIPTION = {"format", "version", "origin", "epoch", "training_seconds", "note"}


@dataclass(frozen=True)
class Origin:
    """What a training is made of: only the same training can go on from a checkpoint.

    Attributes
    ----------
    layers, activation, init, dtype, seed
        Of the network.
    samples : int
        Number of training samples.
    recipe : Recipe
        The options of training.
    validated : bool
        Whether there are validation samples.
    data : str
        Fingerprint of the data and of the statistics to standardise them.
    """

    layers: tuple[int, ...]
    activation: str
    init: str
    dtype: str
    seed: int
    samples: int
    recipe: Recipe
    validated: bool
    data: str

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch."""
        return self.recipe.steps_per_epoch(self.samples)

    def check_continues(self, before: Origin) -> None:
        """Refuse to go on from a checkpoint of another training.

        More epochs are allowed if the learning rate is constant: each step is then what it would have been.

        Raises
        ------
        CheckpointError
            Names the first difference.
        """
        ours, others = ({**dataclasses.asdict(each), **dataclasses.asdict(each.recipe)} for each in (self, before))
        if ours["epochs"] > others["epochs"] and ours["schedule"] == "constant":
            ours["epochs"] = others["epochs"]
        if self.validated != before.validated:
            raise CheckpointError(f"the checkpoint is of a training with{'' if before.validated else 'out'} validation")
        for name in ("layers", "activation", "init", "dtype", *others["recipe"], "seed", "samples"):
            if ours[name] != others[name]:
                hint = "; there can only be more of them, and if the schedule is constant" if name == "epochs" else ""
                raise CheckpointError(f"the checkpoint has {name} {others[name]}, this training {ours[name]}{hint}")
        if self.data != before.data:
            raise CheckpointError("the data are not those that the checkpoint was trained on")


@dataclass(frozen=True)
class State:
    """Where a training stands between two epochs.

    Attributes
    ----------
    epoch : int
        Epochs done.
    training_seconds : float
        Seconds of training so far.
    parameters : ndarray
        All weights and biases, one after the other, see ``flatten``.
    velocities, best : ndarray or None
        The same of the optimiser and of the best validation, if there are any.
    losses : ndarray of float64, shape (steps,)
        Loss of every mini-batch.
    validations : ndarray of float64, shape (validations, 5)
        Step, loss, accuracy, training accuracy and elapsed seconds.
    """

    epoch: int
    training_seconds: float
    parameters: NDArray[Any]
    velocities: NDArray[Any] | None
    best: NDArray[Any] | None
    losses: NDArray[np.float64]
    validations: NDArray[np.float64]


@dataclass(frozen=True)
class Checkpoint:
    """A training between two epochs: what it is, where it stands, and what its caller wants to know again.

    Attributes
    ----------
    origin : Origin
    state : State
    note : dict
        JSON of the caller, see ``Checkpoints``.
    """

    origin: Origin
    state: State
    note: dict[str, Any] = field(default_factory=dict)


def flatten(weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Weights and biases one after the other, layer by layer."""
    return np.concatenate([array.ravel() for pair in zip(weights, biases, strict=True) for array in pair])


def unflatten(flat: NDArray[Any], layers: Sequence[int]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """The reverse of ``flatten``, as views."""
    weights, biases, start = [], [], 0
    for fan_in, fan_out in itertools.pairwise(layers):
        end = start + fan_in * fan_out
        weights.append(flat[start:end].reshape(fan_in, fan_out))
        biases.append(flat[end : end + fan_out])
        start = end + fan_out
    return weights, biases


def origin_of(
    network: Network,
    X: NDArray[Any],
    y: NDArray[Any],
    recipe: Recipe,
    validation: tuple[NDArray[Any], NDArray[Any]] | None,
) -> Origin:
    """What a training with these arguments is made of."""
    digest = hashlib.sha256()
    for array in (X, y, *(validation or ()), network.mean, network.std):
        digest.update(f"{array.shape} {array.dtype.str};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return Origin(
        network.layers, network.activation, network.init, network.dtype.name, network.seed,
        len(X), recipe, validation is not None, digest.hexdigest(),
    )  # fmt: skip


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the content of a checkpoint file.

    Raises
    ------
    CheckpointError
        If the description is longer than a reader would accept.
    """
    from safetensors.numpy import save

    state = checkpoint.state
    description = {
        "format": FORMAT,
        "version": __version__,
        "origin": dataclasses.asdict(checkpoint.origin),
        "epoch": state.epoch,
        "training_seconds": state.training_seconds,
        "note": checkpoint.note,
    }
    text = json.dumps(description)
    tensors = {"parameters": state.parameters, "losses": state.losses, "validations": state.validations}
    tensors |= {name: array for name in ("velocities", "best") if (array := getattr(state, name)) is not None}
    content = save(tensors, {"fastmlp_checkpoint": f"{_checksum(text, tensors)} {text}"})
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise CheckpointError(f"the description of the checkpoint is longer than {MAX_HEADER} bytes")
    return content


def decode(content: bytes) -> Checkpoint:
    """Read the content of a checkpoint file, which may be anything.

    Takes at most as much memory again as the content, and that of a short header.

    Raises
    ------
    CheckpointError
        Whatever is wrong with it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"not a checkpoint: its header has {length} bytes, at most {MAX_HEADER} are read")
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        entry = metadata.get("fastmlp_checkpoint") if isinstance(metadata, dict) else None
        if not isinstance(entry, str):
            raise CheckpointError("not a checkpoint of fastmlp: the metadata entry 'fastmlp_checkpoint' is missing")
        checksum, _, text = entry.partition(" ")
        tensors = load(content)
        if checksum != _checksum(text, tensors):
            raise CheckpointError("the checkpoint is damaged (checksum)")
        return _checkpoint(json.loads(text), tensors)
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"not a valid checkpoint: {one_line(error)}") from error


def _checksum(text: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) of the description and of names, types, shapes and bytes of all arrays."""
    digest = hashlib.sha256(text.encode("utf-8", errors="replace"))
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f";{name!a} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checkpoint(description: Any, tensors: dict[str, NDArray[Any]]) -> Checkpoint:
    """A checkpoint from a description and arrays that nobody has checked yet."""
    if not isinstance(description, dict) or not isinstance(description.get("origin"), dict):
        raise CheckpointError("the description is not a JSON object with an origin")
    version = description.get("format")
    if isinstance(version, bool) or version not in (1, FORMAT):
        raise CheckpointError(
            f"the checkpoint was written in format {version!r}, this version reads 1 and {FORMAT}; upgrade fastmlp"
        )
    if description.keys() != _DESCRIPTION or not isinstance(description["note"], dict):
        raise CheckpointError(f"the description must have the entries {', '.join(sorted(_DESCRIPTION))}")
    origin = _origin(description["origin"])
    if version == 1 and origin.recipe.shuffle:
        raise CheckpointError(
            "the checkpoint was written in format 1, with orders of the samples that this version does not draw; "
            "train anew, or go on with the fastmlp that wrote it"
        )
    epoch = checks.check_whole_number("epoch", description["epoch"], 0, origin.recipe.epochs)
    seconds = checks.check_number("training_seconds", description["training_seconds"])
    _check_tensors(origin, epoch, tensors)
    state = State(
        epoch, seconds, tensors["parameters"], tensors.get("velocities"), tensors.get("best"),
        tensors["losses"], tensors["validations"],
    )  # fmt: skip
    return Checkpoint(origin, state, description["note"])


def _origin(description: dict[str, Any]) -> Origin:
    from fastmlp.network import ACTIVATIONS, MAX_SEED

    samples = checks.check_whole_number("samples", description["samples"], 1, checks.MAX_SAMPLES)
    if not isinstance(description["recipe"], dict) or not isinstance(description["layers"], list):
        raise CheckpointError("the origin must have a recipe and layers")
    origin = Origin(
        layers=checks.check_layers(description["layers"]),
        activation=checks.check_choice("activation", description["activation"], ACTIVATIONS),
        init=checks.check_choice("init", description["init"], INITIALIZATIONS),
        dtype=checks.check_choice("dtype", description["dtype"], ("float32", "float64")),
        seed=checks.check_whole_number("seed", description["seed"], 0, MAX_SEED),
        samples=samples,
        recipe=checked_recipe(samples, **description["recipe"]),
        validated=description["validated"] is True,
        data=str(description["data"]),
    )
    # what the checks have changed was not written by us
    if json.dumps(dataclasses.asdict(origin), sort_keys=True) != json.dumps(description, sort_keys=True):
        raise CheckpointError("the origin holds values that no training has")
    return origin


def _check_tensors(origin: Origin, epoch: int, tensors: dict[str, NDArray[Any]]) -> None:
    """Check names, shapes, types and values of the arrays."""
    dtype, count = np.dtype(origin.dtype), count_parameters(origin.layers)
    per_epoch, validations = origin.steps_per_epoch, origin.recipe.validations_per_epoch
    rows = epoch * validations if origin.validated else 0
    expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "parameters": ((count,), dtype),
        "losses": ((epoch * per_epoch,), np.dtype(np.float64)),
        "validations": ((rows, _VALIDATION_COLUMNS), np.dtype(np.float64)),
    }
    if origin.recipe.momentum > 0:
        expected["velocities"] = (count,), dtype
    if origin.recipe.keeps_best and epoch:
        expected["best"] = (count,), dtype
    if tensors.keys() != expected.keys():
        raise CheckpointError(f"the arrays are {_names(tensors)}, expected {_names(expected)}")
    for name, (shape, kind) in expected.items():
        array = tensors[name]
        if array.shape != shape or array.dtype != kind:
            raise CheckpointError(f"array {name!r} is {array.dtype} {array.shape}, expected {kind} {shape}")
        if name != "validations" and not np.isfinite(array).all():
            raise CheckpointError(f"array {name!r} contains NaN or infinity")
    numbers = np.arange(rows)
    steps = numbers // validations * per_epoch + (numbers % validations + 1) * per_epoch // validations
    if not np.array_equal(tensors["validations"][:, 0], steps):
        raise CheckpointError("the validations are not at the steps at which they are made")


def _names(arrays: Mapping[str, Any]) -> str:
    return ", ".join(sorted(ascii(name)[:40] for name in itertools.islice(arrays, 10)))


class Checkpoints:
    """The folder in which a training keeps its last two checkpoints.

    Parameters
    ----------
    folder : str or path
        Made when it is needed. Belongs to one training at a time, which holds a lock in it.
    every : int or None, default 1
        Epochs between two checkpoints; there is also one before the first epoch and one after the last. None: only
        one, of the last complete epoch, when the training is interrupted.
    overwrite : bool, default False
        Whether a training from the beginning may replace the checkpoints of another one. They go when the first of
        its own is on the disk.
    note : dict, optional
        What the caller wants to know again, in terms of JSON; kept with every checkpoint.

    Examples
    --------
    >>> import fastmlp
    >>> checkpoints = fastmlp.Checkpoints("digits")
    >>> fastmlp.train(network, X, y, epochs=10, checkpoints=checkpoints)  # doctest: +SKIP
    >>> fastmlp.train(  # doctest: +SKIP
    ...     network, X, y, epochs=10, checkpoints=checkpoints, resume=checkpoints.load()
    ... )
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = 1,
        *,
        overwrite: bool = False,
        note: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.every = None if every is None else checks.check_whole_number("every", every, 1)
        self.overwrite = overwrite
        self.note = note or {}
        self._own: list[Path] = []
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> Checkpoints:
        """Make the folder, keep others out of it and remove what a killed process left half written.

        Raises
        ------
        InUseError
            If another training works in the folder.
        CheckpointError
            If the folder cannot be made.
        """
        try:
            make_folder(self.folder)
            self._lock.acquire()
        except OSError as error:
            raise CheckpointError(f"{self.folder}: {(error.strerror or str(error)).lower()}") from error
        try:
            for stale in self.folder.glob(".checkpoint-*"):
                with contextlib.suppress(OSError):
                    stale.unlink()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # if it is empty

    def files(self) -> list[Path]:
        """The checkpoint files from the oldest to the newest, whole or not."""
        try:
            found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(found, key=_number)

    def load(self) -> Checkpoint:
        """Read the newest checkpoint that is whole; warns if that is not the newest file.

        Raises
        ------
        CheckpointError
            If there is none.
        """
        files = self.files()
        damages = []
        for i in reversed(range(len(files))):
            try:
                checkpoint = read_checkpoint(files[i])
            except CheckpointError as error:
                damages.append(str(error))
                continue
            for damage in damages:
                warnings.warn(f"{damage}; going on from {files[i].name}", stacklevel=2)
            self._own = files[: i + 1]
            return checkpoint
        raise CheckpointError(damages[0] if damages else f"{self.folder}: there is no checkpoint")

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and, when it is on the disk, remove all but the last two of this training.

        Raises
        ------
        CheckpointError
            If it cannot be written. Those before are unharmed.
        """
        files = self.files()
        path = self.folder / f"checkpoint-{_number(files[-1]) + 1 if files else 1}.safetensors"
        try:
            write_atomically(path, encode(checkpoint))
        except OSError as error:
            kept = "; the checkpoint before it is kept" if self._own else ""
            raise CheckpointError(f"{path}: {(error.strerror or str(error)).lower()}{kept}") from error
        self._own.append(path)
        self.prune()
        return path

    def prune(self) -> None:
        """Remove all checkpoints but the last two of this training."""
        for path in set(self.files()) - set(self._own[-KEPT:]):
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # if it is empty

    def check_free(self) -> None:
        """Refuse to write where another training left its checkpoints: one that was not gone on from with ``load``.

        Raises
        ------
        CheckpointError
        """
        if not self.overwrite and not self._own and self.files():
            raise CheckpointError(
                f"{self.folder}: holds the checkpoints of another training. Go on from them with "
                "resume=checkpoints.load(), or replace them with Checkpoints(..., overwrite=True)"
            )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint file; every way in which it can be wrong is a ``CheckpointError``."""
    try:
        return decode(read_content(path, "a checkpoint"))
    except ModelFormatError as error:
        raise CheckpointError(str(error)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])
