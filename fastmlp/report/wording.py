"""How the report puts experiments, counts and numbers into words."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from fastmlp.report.experiments import Experiment
from fastmlp.report.training_record import TrainingRecord
from fastmlp.runs import network_name

ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "relu": "ReLU",
    "scaled_tanh": "improved sigmoid",
    "tanh": "tanh",
    "identity": "identity",
}
INITIALIZATIONS = {
    "uniform": "uniform(−1,\N{NO-BREAK SPACE}1)",
    "lecun": "improved (normal, 1/⁠√fan-in)",
    "he": "He (normal, √(2/fan-in))",
    "glorot": "Glorot (uniform)",
}


def describe_network(sizes: Sequence[int]) -> str:
    """Return "784-64×10-10"."""
    return network_name(sizes).replace("x", "×")


def describe_experiment(experiment: Experiment, sizes: Sequence[int]) -> str:
    """Say all that makes the experiment: network, activation, initialisation, learning rate, momentum."""
    momentum = f", momentum {experiment.momentum:g}" if experiment.momentum else ""
    return (
        f"{describe_network(sizes)}, {ACTIVATIONS[experiment.activation]}, initialisation "
        f"{INITIALIZATIONS[experiment.init]}, learning rate {experiment.learning_rate:g}{momentum}"
    )


def count_parameters(sizes: Sequence[int]) -> int:
    """Count the weights and biases of a network."""
    return sum(fan_in * fan_out + fan_out for fan_in, fan_out in itertools.pairwise(sizes))


def parameter_sum(sizes: Sequence[int]) -> str:
    """Write the number of parameters out: "784·64 + 64 + 64·10 + 10 = 50,890".

    Equal layers are taken together: "9·(64·64 + 64)".
    """
    terms = []
    for (fan_in, fan_out), group in itertools.groupby(itertools.pairwise(sizes)):
        count, term = len(list(group)), f"{fan_in}·{fan_out} + {fan_out}"
        terms.append(f"{count}·({term})" if count > 1 else term)
    return f"{' + '.join(terms)} = {count_parameters(sizes):,}"


def stops(records: Sequence[TrainingRecord]) -> str:
    """Say how the trainings of an experiment ended."""
    stopped = [record for record in records if record.status == "stopped early"]
    diverged = sum(record.status == "diverged" for record in records)
    of_all = f"of {plural(len(records), 'training')}"
    parts = []
    if stopped:
        epochs = statistics.fmean(record.steps / record.steps_per_epoch for record in stopped)
        mean = "" if len(stopped) == 1 else " on average"
        parts.append(f"Early stopping ended {len(stopped)} {of_all}, after {epochs:.1f} epochs{mean}.")
    if diverged:
        parts.append(f"{diverged} {of_all} diverged: the loss became infinite or NaN.")
    if not parts:
        parts.append(f"Early stopping did not occur in {plural(records[0].epochs, 'epoch')}.")
    return " ".join(parts)


def steps_in_words(records: Sequence[TrainingRecord]) -> str:
    """Return the mean number of steps to 95 % validation accuracy, and how many seeds reached it if not all."""
    steps = [record.steps_to_target for record in records if record.steps_to_target is not None]
    if not steps:
        return "never"
    mean = f"{sum(steps) / len(steps):,.0f}"
    return mean if len(steps) == len(records) else f"{mean} ({len(steps)} of {len(records)} seeds)"


def spread(values: Sequence[float], decimals: int) -> str:
    """Return mean and standard deviation over the seeds, "0.1234 ± 0.0012"; the mean alone for one seed."""
    if any(not math.isfinite(value) for value in values):
        return "–"
    mean = f"{statistics.fmean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{decimals}f}"


def interval_in_words(interval: tuple[float, float, float] | None, unit: str) -> str:
    """Return an effect with its interval: "+0.27 (95 % interval +0.26 to +0.28)"."""
    if interval is None:
        return "no interval"
    mean, low, high = (f"{'+' if value > 0 else ''}{number(value)}".replace("-", "−") for value in interval)
    return f"{mean}{f' {unit}' if unit else ''} (95 % interval {low} to {high})"


def number(value: float) -> str:
    """Return a number with three significant digits and at most six decimals: "0.0123", "-1.50", "12.3"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}")  # 9.999 becomes 10.0, whose decimals are other ones
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{min(decimals, 6)}f}"


def scientific(value: float) -> str:
    """Return "2.5·10⁻⁸"."""
    if not math.isfinite(value):
        return "not a number"
    digits, _, power = f"{value:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}·10{raised}"


def plural(count: int, one: str) -> str:
    """Return "1 seed", "5 seeds"."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def typographic(text: str) -> str:
    """Return a text of the command line with real minus signs and no line break within an interval."""
    return text.replace("(-1, 1)", "(−1,\N{NO-BREAK SPACE}1)")


def together(text: str) -> str:
    """Return a text that stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")
