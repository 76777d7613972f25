"""Trainings with several seeds as one curve: a mean with a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmlp.report.training_record import AVERAGED_STEPS, TrainingRecord

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A mean over seeds with a band, against training steps.

    Parameters
    ----------
    step : float64 (points,)
        Training steps.
    mean, low, high : float64 (points,)
        The mean over the seeds that are still training, and the band.
    complete : int
        Points that all seeds contribute to; the others come from those that were not stopped yet.
    """

    step: Array
    mean: Array
    low: Array
    high: Array
    complete: int


def validation_curve(records: Sequence[TrainingRecord], quantity: str) -> Curve:
    """Mean over the seeds of something that validations measure, in a band from the lowest to the highest seed.

    Parameters
    ----------
    records : sequence of TrainingRecord
        Trainings of one experiment; not empty.
    quantity : str
        "validation_loss", "validation_accuracy" or "training_accuracy".
    """
    values = _padded([getattr(record, quantity) for record in records])
    longest = max(records, key=lambda record: len(record.step))
    complete = min(len(record.step) for record in records)
    low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    return Curve(longest.step.astype(np.float64), _mean(values), low, high, complete)


def training_loss_curve(records: Sequence[TrainingRecord]) -> Curve:
    """The training loss averaged over 10 steps and the seeds, in a band of one standard deviation of the batch losses.

    The deviation is that of all batch losses of the 10 steps of all seeds.
    """
    means = _padded([record.loss_mean for record in records])
    squares = _padded([np.square(record.loss_mean) + np.square(record.loss_deviation) for record in records])
    with np.errstate(invalid="ignore"):  # infinite losses of a diverged training
        mean = _mean(means)
        deviation = np.sqrt(np.maximum(_mean(squares) - np.square(mean), 0.0))
    starts = np.arange(means.shape[1]) * AVERAGED_STEPS
    ends = np.minimum(starts + AVERAGED_STEPS, max(record.steps for record in records))
    complete = min(len(record.loss_mean) for record in records)
    return Curve((starts + 1 + ends) / 2.0, mean, np.maximum(mean - deviation, 0.0), mean + deviation, complete)


def _mean(table: Array) -> Array:
    """Mean of each column over what is known; NaN where nothing is."""
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _padded(rows: Sequence[Array]) -> Array:
    """Rows of different lengths below each other, filled up with NaN."""
    table = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
