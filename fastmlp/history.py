"""What a training recorded about itself."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _empty() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass
class History:
    """The course of a training.

    Attributes
    ----------
    batch_loss : ndarray of float64, shape (steps,)
        Loss of every mini-batch before its step: mean cross-entropy plus l2 / 2 times the sum of squared weights.
    step : ndarray of int64, shape (validations,)
        Steps done at each validation.
    validation_loss, validation_accuracy : ndarray of float64, shape (validations,)
        Mean cross-entropy and share of correct predictions on the validation set.
    training_accuracy : ndarray of float64, shape (validations,)
        Share of correct predictions on the whole training set.
    elapsed_seconds : ndarray of float64, shape (validations,)
        Seconds of training up to each validation; neither compiling nor validating is counted.
    compile_seconds, training_seconds : float
        Seconds spent compiling or loading kernels, and training.
    samples : int
        Samples trained on, counted once per epoch.
    epochs : int
        Epochs completed.
    steps_per_epoch : int
        Mini-batches of an epoch.
    best_step : int or None
        Steps done at the validation with the lowest loss; the weights are those if ``restored``.
    restored : bool
        Whether the network was set back to the best validation.
    stopped_early, interrupted : bool
        Whether patience ran out, and whether somebody stopped the training.
    threads : int
        Threads that were allowed.
    input_path : str
        "background-skipping" or "dense".
    input_density : float
        Share of the input values that differ from zero.
    phases : dict of str to float
        Seconds per phase of a mini-batch (gather, forward, loss, backward, waiting), mean over the threads.
    """

    batch_loss: NDArray[np.float64] = field(default_factory=_empty)
    step: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    validation_loss: NDArray[np.float64] = field(default_factory=_empty)
    validation_accuracy: NDArray[np.float64] = field(default_factory=_empty)
    training_accuracy: NDArray[np.float64] = field(default_factory=_empty)
    elapsed_seconds: NDArray[np.float64] = field(default_factory=_empty)
    compile_seconds: float = 0.0
    training_seconds: float = 0.0
    samples: int = 0
    epochs: int = 0
    steps_per_epoch: int = 0
    best_step: int | None = None
    restored: bool = False
    stopped_early: bool = False
    interrupted: bool = False
    threads: int = 1
    input_path: str = "dense"
    input_density: float = 1.0
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def samples_per_second(self) -> float:
        """Samples trained on per second of training; 0 if there was no training."""
        return self.samples / self.training_seconds if self.training_seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain numbers, strings and lists."""
        record = {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in dataclasses.asdict(self).items()
        }
        return {**record, "samples_per_second": self.samples_per_second}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a JSON file."""
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as open() takes what PathLike does
            json.dump(self.to_dict(), file, allow_nan=True)
            file.write("\n")

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one row per validation; ``training_loss`` is the mean over the batches since the one before."""
        names = [
            "step",
            "epoch",
            "training_loss",
            "validation_loss",
            "validation_accuracy",
            "training_accuracy",
        ]
        with open(path, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - as above
            writer = csv.writer(file)
            writer.writerow([*names, "elapsed_seconds"])
            before = 0
            for i, step in enumerate(self.step.tolist()):
                writer.writerow(
                    [
                        step,
                        step / self.steps_per_epoch,
                        float(np.mean(self.batch_loss[before:step])) if step > before else "",
                        self.validation_loss[i],
                        self.validation_accuracy[i],
                        self.training_accuracy[i],
                        self.elapsed_seconds[i],
                    ]
                )
                before = step
