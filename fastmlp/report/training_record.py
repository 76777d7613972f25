"""What one training of an experiment left behind, and the measures that the report takes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastmlp.history import History

AVERAGED_STEPS = 10
TARGET_ACCURACY = 0.95
EARLY_EPOCHS = 5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingRecord:
    """One training: an experiment with one seed.

    Parameters
    ----------
    experiment : str
        Its name.
    seed : int
        Of the initial weights and the order of the samples.
    status : str
        "finished", "stopped early" or "diverged".
    epochs, steps, steps_per_epoch : int
        Epochs completed, steps done, and steps of an epoch.
    n_parameters : int
        Weights and biases of the network.
    loss_mean, loss_deviation : float64 (ceil(steps / 10),)
        Mean and standard deviation of the training loss over each 10 steps.
    step : int64 (validations,)
        Steps done at each validation.
    validation_loss, validation_accuracy, training_accuracy : float64 (validations,)
        What the validations measured, fractions.
    training_seconds, seconds : float
        Seconds of the steps alone, and with the validations; neither has the compiling in it.
    threads : int
        Threads that the training was allowed.
    """

    experiment: str
    seed: int
    status: Literal["finished", "stopped early", "diverged"]
    epochs: int
    steps: int
    steps_per_epoch: int
    n_parameters: int
    loss_mean: Array
    loss_deviation: Array
    step: NDArray[np.int64]
    validation_loss: Array
    validation_accuracy: Array
    training_accuracy: Array
    training_seconds: float
    seconds: float
    threads: int

    @classmethod
    def of(
        cls,
        experiment: str,
        seed: int,
        n_parameters: int,
        history: History,
        *,
        diverged: bool,
        seconds: float,
    ) -> TrainingRecord:
        """Make the record of a training from its history."""
        mean, deviation = averages(history.batch_loss)
        return cls(
            experiment=experiment,
            seed=seed,
            status="diverged" if diverged else "stopped early" if history.stopped_early else "finished",
            epochs=history.epochs,
            steps=len(history.batch_loss),
            steps_per_epoch=history.steps_per_epoch,
            n_parameters=n_parameters,
            loss_mean=mean,
            loss_deviation=deviation,
            step=history.step,
            validation_loss=history.validation_loss,
            validation_accuracy=history.validation_accuracy,
            training_accuracy=history.training_accuracy,
            training_seconds=history.training_seconds,
            seconds=seconds,
            threads=history.threads,
        )

    @property
    def best(self) -> int | None:
        """Number of the validation with the lowest loss; None if there was no validation with a finite one."""
        finite = np.isfinite(self.validation_loss)
        return int(np.where(finite, self.validation_loss, np.inf).argmin()) if finite.any() else None

    @property
    def best_validation_loss(self) -> float:
        """The lowest; NaN if there is none."""
        return float("nan") if self.best is None else float(self.validation_loss[self.best])

    @property
    def best_validation_accuracy(self) -> float:
        """The highest; NaN if there is none."""
        return float(self.validation_accuracy.max()) if len(self.validation_accuracy) else float("nan")

    @property
    def final_training_accuracy(self) -> float:
        """Of the last validation; NaN if there is none."""
        return float(self.training_accuracy[-1]) if len(self.training_accuracy) else float("nan")

    @property
    def steps_to_target(self) -> int | None:
        """Steps done at the first validation with an accuracy of 95 %; None if there was none."""
        reached = np.flatnonzero(self.validation_accuracy >= TARGET_ACCURACY)
        return int(self.step[reached[0]]) if len(reached) else None

    @property
    def early_loss(self) -> float:
        """Mean validation loss of the first five epochs: the area under the curve divided by its width.

        NaN for a training of fewer.
        """
        if self.steps < EARLY_EPOCHS * self.steps_per_epoch:
            return float("nan")
        early = self.validation_loss[self.step <= EARLY_EPOCHS * self.steps_per_epoch]
        return float(early.mean()) if len(early) else float("nan")

    @property
    def gap_growth(self) -> float:
        """How much larger training minus validation accuracy is in the last epoch than in the first; a fraction.

        Each is the mean over the validations of that epoch; NaN for a training of one epoch.
        """
        gap = self.training_accuracy - self.validation_accuracy
        first = gap[self.step <= self.steps_per_epoch]
        last = gap[self.step > self.steps - self.steps_per_epoch]
        if self.steps < 2 * self.steps_per_epoch or not len(first) or not len(last):
            return float("nan")
        return float(last.mean() - first.mean())

    def to_dict(self) -> dict[str, Any]:
        """All of it in terms of JSON but for NumPy arrays."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> TrainingRecord:
        """The record that `to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If that is not what the document is.
        """
        arrays = {name: np.array(document[name], np.float64) for name in _ARRAYS}
        record = cls(**{**document, **arrays, "step": np.array(document["step"], np.int64)})
        lengths = {len(getattr(record, name)) for name in ("step", *_ARRAYS[2:])}
        if len(lengths) != 1 or len(record.loss_mean) != len(record.loss_deviation):
            raise ValueError("arrays of different lengths")
        return record


_ARRAYS = ("loss_mean", "loss_deviation", "validation_loss", "validation_accuracy", "training_accuracy")


def averages(batch_loss: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the loss over runs of 10 steps; a shorter run at the end counts as well."""
    starts = np.arange(0, len(batch_loss), AVERAGED_STEPS)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    counts = np.minimum(starts + AVERAGED_STEPS, len(batch_loss)) - starts
    with np.errstate(over="ignore", invalid="ignore"):  # the last loss of a diverged training is not finite
        mean = np.add.reduceat(batch_loss, starts) / counts
        squares = np.square(batch_loss - np.repeat(mean, counts))
        return mean, np.sqrt(np.add.reduceat(squares, starts) / counts)
