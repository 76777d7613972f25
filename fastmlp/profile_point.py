"""What was measured of one network with one number of threads, and what follows from it.

The yardstick is the dense algorithm: its multiply-adds, two operations each, whether or not our kernels do
all of them. A network on mostly empty images may therefore reach more than the peak of the machine.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastmlp.runs import network_name


def training_flops(layers: Sequence[int]) -> int:
    """Operations of the dense algorithm for one training sample.

    Forward propagation, the gradient of the weights, and that of the inputs of every layer but the first; a
    multiply-add counts as two. Activations, loss and weight updates are left out.

    Parameters
    ----------
    layers : sequence of int
        Units of each layer, input and output included.
    """
    products = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(layers)]
    return 2 * (3 * sum(products) - products[0])


def prediction_flops(layers: Sequence[int]) -> int:
    """Operations of dense forward propagation for one sample; a multiply-add counts as two."""
    return 2 * sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(layers))


class Spread(NamedTuple):
    """Median, lowest and highest of several rounds; NaN where there was none."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise the values of several rounds."""
        if not values:
            return cls(math.nan, math.nan, math.nan)
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Point:
    """One network with one number of threads, measured in rounds.

    Parameters
    ----------
    layers : tuple of int
        Units of each layer, input and output included.
    threads : int
    peak_gflops : float
        Measured peak of so many threads.
    training, prediction : list of float
        Samples per second of each round.
    baseline : list of float
        Samples per second of NumPy's training in each round; shared by the points of a network.
    phases : list of dict
        Seconds per phase of a mini-batch in each round, mean over the threads.
    input_path : str
        "background-skipping" or "dense".
    """

    layers: tuple[int, ...]
    threads: int
    peak_gflops: float
    training: list[float] = field(default_factory=list)
    prediction: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)
    input_path: str = ""

    @property
    def training_gflops(self) -> float:
        """Dense-equivalent 10^9 operations a second in training."""
        return 1e-9 * training_flops(self.layers) * Spread.of(self.training).median

    @property
    def prediction_gflops(self) -> float:
        """Dense-equivalent 10^9 operations a second in prediction."""
        return 1e-9 * prediction_flops(self.layers) * Spread.of(self.prediction).median

    @property
    def speed_up(self) -> Spread:
        """How many times as fast as NumPy training is, round by round."""
        return Spread.of([ours / theirs for ours, theirs in zip(self.training, self.baseline, strict=False)])

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Seconds per phase of a mini-batch, each the median of the rounds."""
        names = self.phases[0] if self.phases else ()
        return {name: statistics.median(phases[name] for phases in self.phases) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat row of numbers and names; seconds are those of a mini-batch."""
        row: dict[str, Any] = {
            "network": network_name(self.layers),
            "hidden": self.layers[1],
            "threads": self.threads,
            "input_path": self.input_path,
            "rounds": len(self.training),
        }
        rates = {"training": self.training, "prediction": self.prediction}
        gflops = {"training": self.training_gflops, "prediction": self.prediction_gflops}
        for name, values in rates.items():
            row |= _columns(f"{name}_samples_per_second", Spread.of(values))
            row[f"{name}_gflops"] = gflops[name]
            row[f"{name}_share_of_peak"] = gflops[name] / self.peak_gflops
        row |= _columns("baseline_samples_per_second", Spread.of(self.baseline))
        row |= _columns("speed_up", self.speed_up)
        return row | {f"{name}_seconds": seconds for name, seconds in self.phase_seconds.items()}


def _columns(name: str, spread: Spread) -> dict[str, float]:
    return {name: spread.median, f"{name}_lowest": spread.lowest, f"{name}_highest": spread.highest}
