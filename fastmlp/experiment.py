"""One training from its settings to its run folder: what ``fastmlp train`` does, as a function.

This file imports nothing heavy by itself: the command line reads its defaults from here for ``--help``.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastmlp.errors import DivergedError, TrainingInterrupted
from fastmlp.memory import check_memory
from fastmlp.run_record import headline, record
from fastmlp.runs import CHECKPOINTS, RunFolder, RunFolderError
from fastmlp.system import cpu_features, versions

if TYPE_CHECKING:
    from fastmlp.checkpoint import Checkpoint, Checkpoints
    from fastmlp.datasets import Dataset
    from fastmlp.history import History
    from fastmlp.network import Evaluation, Network
    from fastmlp.training import Progress

ACTIVATIONS = ("relu", "sigmoid", "tanh", "scaled_tanh", "identity")
ACTIVATION_ALIASES = {"improved_sigmoid": "scaled_tanh"}
INITIALIZATIONS = ("he", "lecun", "glorot", "uniform")
SCHEDULES = ("constant", "linear", "cosine")
DTYPES = ("float32", "float64")

Status = Literal["finished", "stopped early", "interrupted", "diverged"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a training, besides the data themselves.

    Parameters
    ----------
    data : str, default "mnist"
        A name or path that `fastmlp.load_dataset` takes.
    n_train : int, optional
        Use the first `n_train` training samples only.
    max_bytes : int, default 4e9
        Refuse data that need more memory than this.
    layers : tuple of int, default (128,)
        Widths of the hidden layers.

    The others are those of `fastmlp.Network` and `fastmlp.train`.
    """

    data: str = "mnist"
    n_train: int | None = None
    max_bytes: int = 4 * 10**9
    layers: tuple[int, ...] = (128,)
    activation: str = "relu"
    init: str = "he"
    dtype: str = "float32"
    seed: int = 0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.1
    schedule: str = "linear"
    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    shuffle: bool = True
    drop_last: bool = False
    validations_per_epoch: int = 1
    patience: int | None = None
    restore_best: bool = True
    threads: int | None = None


DEFAULTS = Settings()


@dataclass(frozen=True)
class Outcome:
    """What a training led to.

    Parameters
    ----------
    settings : Settings
        What was asked for.
    status : str
        "finished", "stopped early", "interrupted" or "diverged".
    dataset, network, history : Dataset, Network, History
        The data, the network with what it learnt, and the record of how.
    test : Evaluation
        Loss and accuracy of the test part.
    run : Path
        The run folder.
    error : DivergedError, optional
        Why the training ended, if it diverged.
    """

    settings: Settings
    status: Status
    dataset: Dataset
    network: Network
    history: History
    test: Evaluation
    run: Path
    error: DivergedError | None = None

    def summary(self) -> dict[str, Any]:
        """Return the result in terms of JSON: what ``config.json`` and ``fastmlp train --json`` report."""
        history = self.history
        return {
            "status": self.status,
            "parameters": self.network.n_parameters,
            "test_loss": self.test.loss,
            "test_accuracy": self.test.accuracy,
            "epochs": history.epochs,
            "steps": len(history.batch_loss),
            "best_step": history.best_step,
            "samples": history.samples,
            "training_seconds": history.training_seconds,
            "compile_seconds": history.compile_seconds,
            "samples_per_second": history.samples_per_second,
            "threads": history.threads,
            "input_path": history.input_path,
            "input_density": history.input_density,
        }


def run_training(
    settings: Settings,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Outcome:
    """Load the data, train, evaluate on the test part and write the run folder.

    Everything that can be known beforehand is checked beforehand: data, memory, the output folder.

    Parameters
    ----------
    settings : Settings
        What to train.
    output : Path, optional
        Run folder; default: a fresh one under ``runs``.
    overwrite : bool, default False
        Accept an output folder that holds files.
    checkpoint_every : int, optional
        Epochs between two checkpoints. Default: only one, if the training is interrupted.
    progress : callable, optional
        Passed on to `fastmlp.train`.
    tell : callable, optional
        Called with one line for each thing about the settings that may not be what was meant.

    Returns
    -------
    Outcome
        Also if training was interrupted or diverged after it had begun: `Outcome.status` tells.

    Raises
    ------
    DataFormatError
        If the data cannot be read.
    FastmlpError
        If the memory would not suffice, or a result file cannot be written.
    RunFolderError
        If the run folder holds files and `overwrite` is False, cannot be made or written to, or lacks space.
    KeyboardInterrupt
        If training was interrupted before its first step; nothing is written then.
    """
    from fastmlp.checkpoint import KEPT, Checkpoints
    from fastmlp.datasets import load_dataset

    started = datetime.datetime.now(datetime.timezone.utc)
    dataset = load_dataset(settings.data, n_train=settings.n_train, max_bytes=settings.max_bytes)
    layers = (dataset.X_train.shape[1], *settings.layers, dataset.n_classes)
    needed = check_memory(settings, layers, len(dataset.X_train))
    if tell is not None:
        for doubt in doubts(settings, dataset):
            tell(doubt)
    if output is not None and output.resolve() == Path(settings.data).resolve():
        raise RunFolderError(f"{output}: is the folder of the data")
    if checkpoint_every is not None:
        needed += (KEPT + 1) * 3 * needed  # each with parameters, velocities and the best parameters
    with RunFolder.create(output, layers, overwrite=overwrite, needed_bytes=needed) as run:
        checkpoints = Checkpoints(
            run.path / CHECKPOINTS,
            checkpoint_every,
            overwrite=overwrite,
            note=checkpoint_note(settings, started, checkpoint_every),
        )
        return train_in(run, settings, dataset, checkpoints, None, started, progress)


def checkpoint_note(settings: Settings, started: datetime.datetime, every: int | None) -> dict[str, Any]:
    """Return what `fastmlp.resumption` wants to find in a checkpoint beside the state of the training."""
    return {
        "settings": dataclasses.asdict(settings),
        "started": started.isoformat(timespec="seconds"),
        "checkpoint_every": every,
        "made_with": {"CPU features": list(cpu_features()), **versions()},
    }


def train_in(
    run: RunFolder,
    settings: Settings,
    dataset: Dataset,
    checkpoints: Checkpoints,
    resume: Checkpoint | None,
    started: datetime.datetime,
    progress: Callable[[Progress], None] | None,
) -> Outcome:
    """Train from the beginning or from a checkpoint, and write the results into a run folder."""
    outcome = _train(settings, dataset, run.path, progress, checkpoints, resume)
    checkpoints.prune()  # those of an earlier run, whose results are replaced now
    run.write(outcome.network, outcome.history, record(outcome, started), headline(outcome))
    return outcome


def _train(
    settings: Settings,
    dataset: Dataset,
    run: Path,
    progress: Callable[[Progress], None] | None,
    checkpoints: Checkpoints,
    resume: Checkpoint | None,
) -> Outcome:
    """Train a new network, as far as it goes, and evaluate it."""
    from fastmlp.network import Network
    from fastmlp.training import train

    names = ("activation", "init", "dtype", "seed")
    layers = (dataset.X_train.shape[1], *settings.layers, dataset.n_classes)
    network = Network(layers, mean=dataset.mean, std=dataset.std, **{name: getattr(settings, name) for name in names})
    status: Status
    error: DivergedError | None = None
    try:
        history = train(
            network,
            dataset.X_train,
            dataset.y_train,
            validation=(dataset.X_test, dataset.y_test),
            progress=progress,
            checkpoints=checkpoints,
            resume=resume,
            **_training_keywords(settings),
        )
        status = "stopped early" if history.stopped_early else "finished"
    except TrainingInterrupted as interruption:
        history, status = interruption.history, "interrupted"
        if not len(history.batch_loss):
            raise KeyboardInterrupt from None
    except DivergedError as divergence:
        history, status, error = divergence.history, "diverged", divergence
    test = network.evaluate(dataset.X_test, dataset.y_test, threads=settings.threads)
    return Outcome(settings, status, dataset, network, history, test, run, error)


def doubts(settings: Settings, dataset: Dataset) -> list[str]:
    """Return what may not be meant as it was said, a line each."""
    found = []
    if len(settings.layers) >= 2 and (settings.layers[0], settings.layers[-1]) == (
        dataset.X_train.shape[1],
        dataset.n_classes,
    ):
        hidden = ",".join(map(str, settings.layers[1:-1]))
        found.append(
            "note: layers are the hidden ones only; input and output are added from the data. "
            f"Did you mean --layers {hidden or 'none'}?"
        )
    if settings.batch_size > len(dataset.X_train):
        found.append(
            f"note: batches of {settings.batch_size:,} are larger than the training part "
            f"({len(dataset.X_train):,} samples): each epoch is one batch"
        )
    return found


def _training_keywords(settings: Settings) -> dict[str, Any]:
    """Return the settings that `fastmlp.train` takes."""
    elsewhere = ("data", "n_train", "max_bytes", "layers", "activation", "init", "dtype")
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in elsewhere}
