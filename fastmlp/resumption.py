"""Going on with a run that was interrupted or killed: what ``fastmlp train --resume`` does, as a function.

This file imports nothing heavy by itself: the command line imports it for ``--help``.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.errors import CheckpointError, FastmlpError
from fastmlp.experiment import Outcome, Settings, checkpoint_note, train_in
from fastmlp.memory import check_memory
from fastmlp.runs import CHECKPOINTS, RunFolder

if TYPE_CHECKING:
    from fastmlp.checkpoint import Origin
    from fastmlp.training import Progress

# What may be otherwise than before without any effect on the result. The data may have moved: their content is checked.
FREE = ("data", "max_bytes", "threads")

_KINDS: dict[object, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float,),
    "bool": (bool,),
    "tuple[int, ...]": (list,),
}

_MOST = {"threads": 4096}


class RunFinishedError(FastmlpError):
    """There is nothing left to do in a run.

    Parameters
    ----------
    run : Path
        The run folder.
    record : dict
        What its ``config.json`` says.
    """

    def __init__(self, run: Path, record: dict[str, Any]) -> None:
        super().__init__(f"{run}: the run is complete ({record['status']}); there is nothing to go on with")
        self.run = run
        self.record = record


def resume_training(
    path: Path,
    changes: Mapping[str, Any],
    *,
    checkpoint_every: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Outcome:
    """Go on with a run from its last checkpoint; network and history end as if there had been no break.

    Parameters
    ----------
    path : Path
        The run folder.
    changes : mapping
        Settings by name that were asked for. They must be those of the run, except for `FREE` ones and, with a
        constant learning rate, more epochs.
    checkpoint_every : int, optional
        Epochs between two checkpoints. Default: as before.
    progress, tell : callable, optional
        As for `fastmlp.experiment.run_training`.

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        If a setting is not that of the run; begins with the name of the setting.
    RunFinishedError
        If there is nothing left to do.
    CheckpointError
        If there is no checkpoint that can be read, or the data have changed.
    RunFolderError
        If there is no such run, or another process works on it.
    FastmlpError
        If the training diverged, or as for `fastmlp.experiment.run_training`.
    """
    from fastmlp.checkpoint import Checkpoints
    from fastmlp.datasets import load_dataset

    with RunFolder.reopen(path) as run:
        checkpoints = Checkpoints(path / CHECKPOINTS)
        if not checkpoints.files():
            raise _nothing_to_go_on_from(run, changes)
        checkpoint = checkpoints.load()
        note = checkpoint.note
        before, started, every = _read_note(note, checkpoint.origin)
        settings = _continued(before, changes)
        _check_unfinished(run, note, more=settings.epochs > before.epochs)
        dataset = load_dataset(settings.data, n_train=settings.n_train, max_bytes=settings.max_bytes)
        check_memory(settings, checkpoint.origin.layers, len(dataset.X_train))
        checkpoints.every = every if checkpoint_every is None else checkpoint_every
        checkpoints.note = checkpoint_note(settings, started, checkpoints.every)
        if tell is not None:
            tell(f"going on after epoch {checkpoint.state.epoch} of {settings.epochs}")
            if differing := _differing(note.get("made_with"), checkpoints.note["made_with"]):
                tell(f"note: {differing} not as at the checkpoint; results may differ in the last digits")
        return train_in(run, settings, dataset, checkpoints, checkpoint, started, progress)


def _nothing_to_go_on_from(run: RunFolder, changes: Mapping[str, Any]) -> FastmlpError:
    """Return the error for a run without checkpoints."""
    record = run.record()
    if record.get("status") in ("finished", "stopped early"):
        settings = record.get("settings")
        if "epochs" not in changes or (isinstance(settings, dict) and settings.get("epochs") == changes["epochs"]):
            return RunFinishedError(run.path, record)
    return CheckpointError(
        f"{run.path}: there is no checkpoint to go on from; runs keep them with --checkpoint-every, "
        "and when they are interrupted"
    )


def _check_unfinished(run: RunFolder, note: dict[str, Any], *, more: bool) -> None:
    """Refuse to go on if the folder holds the result of the very run that the checkpoint is of."""
    record = run.record()
    settings = record.get("settings")
    if not isinstance(settings, dict) or record.get("started") != note["started"]:
        return
    if any(settings.get(name) != value for name, value in note["settings"].items() if name not in FREE):
        return
    status = record.get("status")
    if status == "stopped early" or (status == "finished" and not more):
        raise RunFinishedError(run.path, record)
    if status == "diverged":
        raise FastmlpError(f"{run.path}: the training diverged and would do so again; begin a new run")


def _read_note(note: dict[str, Any], origin: Origin) -> tuple[Settings, datetime.datetime, int | None]:
    """Return the settings of a run, when it began and how often it keeps a checkpoint.

    Most settings need no more than a look at their kinds here: training compares them with those of the checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint does not say so: it is not one of ``fastmlp train``, or hostile.
    """
    settings, every = note.get("settings"), note.get("checkpoint_every")
    fields = {field.name: _KINDS[field.type] for field in dataclasses.fields(Settings)}
    if not isinstance(settings, dict) or settings.keys() != fields.keys():
        raise CheckpointError("the checkpoint does not say the settings of a run; was it written by 'fastmlp train'?")
    for name, kinds in fields.items():
        if type(settings[name]) not in kinds:
            raise _impossible(name, settings[name])
    if tuple(settings["layers"]) != origin.layers[1:-1]:
        raise _impossible("layers", settings["layers"])
    counts = {name: settings[name] for name in ("n_train", "max_bytes", "threads")}
    for name, value in {**counts, "checkpoint_every": every}.items():
        if value is not None and (type(value) is not int or not 1 <= value <= _MOST.get(name, value)):
            raise _impossible(name, value)
    try:
        started = datetime.datetime.fromisoformat(str(note.get("started")))
    except ValueError as error:
        raise CheckpointError("the checkpoint does not say when the run began") from error
    return Settings(**{**settings, "layers": tuple(settings["layers"])}), started, every


def _impossible(name: str, value: object) -> CheckpointError:
    return CheckpointError(f"the checkpoint says {name} {str(value)[:40]!r}, which cannot be")


def _continued(before: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings with what may change changed; raises ValueError for the rest."""
    for name, value in changes.items():
        old = getattr(before, name)
        if value == old or name in FREE:
            continue
        got = f"(got {_text(value)})"
        if name != "epochs":
            raise ValueError(f"{name} must stay {_text(old)}, as the run began {got}")
        if before.schedule != "constant":
            raise ValueError(f"epochs must stay {old}: the {before.schedule} schedule is spread over all of them {got}")
        if value < old:
            raise ValueError(f"epochs must be at least the {old} of the run {got}")
    return dataclasses.replace(before, **changes)


def _text(value: object) -> str:
    return repr(",".join(map(str, value))) if isinstance(value, tuple) else repr(value)


def _differing(before: object, now: Mapping[str, Any]) -> str:
    """Return the names of what a checkpoint was made with that is not so now."""
    then = before if isinstance(before, dict) else {}
    names = [name for name in ("CPU features", "fastmlp", "numpy", "numba", "llvmlite") if then.get(name) != now[name]]
    return " and ".join(names) + (" is" if len(names) == 1 else " are") if names else ""
