"""Timing in alternating rounds: A B C A B C ..., one at a time while all others are idle."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.implementations import Implementation
from bench.processes import Worker, total_cpu_seconds, wait_until_idle
from bench.workload import Workload

Measurement = Callable[[Worker, int, int], float]  # worker, repetitions, seed -> seconds
Result = dict[str, Any]

_CHECK_SEED = 1


@dataclass(frozen=True)
class Contender:
    """An implementation at work on a workload, under a name of its own."""

    name: str
    implementation: Implementation
    workload: Workload


def train(worker: Worker, repetitions: int, seed: int) -> float:
    """Return the seconds of `repetitions` epochs of training from the initial weights."""
    return float(worker.call("train", repetitions, seed))


def evaluate(worker: Worker, repetitions: int, seed: int) -> float:  # noqa: ARG001 - as `train`
    """Return the seconds of `repetitions` evaluations of the training part."""
    return math.fsum(worker.call("evaluate", "train").seconds for _ in range(repetitions))


def compare(
    contenders: Sequence[Contender], *, rounds: int, seconds: float, measure: Measurement = train
) -> dict[str, Result]:
    """Time contenders against each other.

    Parameters
    ----------
    contenders : sequence of Contender
        Each gets a process of its own, which is fresh and stays alive until all are done.
    rounds : int
        How often each is measured.
    seconds : float
        A measurement repeats its epoch until it takes about this long (at least one epoch).
    measure : callable
        `train` or `evaluate`.

    Returns
    -------
    dict
        By contender's name: samples per second of all rounds and their median, test accuracy and loss after
        the checked epochs, compile seconds, threads, dtype, libraries, and which share of one CPU all the
        others used meanwhile.
    """
    with contextlib.ExitStack() as stack:
        group = {each.name: stack.enter_context(Worker(each.implementation)) for each in contenders}
        for worker in group.values():
            worker.call("ready")
        results = {each.name: _set_up(group[each.name], each) for each in contenders}
        repetitions = {}
        for each in contenders:
            if measure is evaluate:
                measure(group[each.name], 1, 0)  # the check has warmed up training; this may still compile
            repetitions[each.name] = max(1, math.ceil(seconds / measure(group[each.name], 1, 0)))
        for seed in range(rounds):
            for each in contenders:
                took, busy = alone(list(group.values()), group[each.name], measure, repetitions[each.name], seed)
                samples = each.workload.n_train if measure is evaluate else each.workload.samples_per_epoch
                results[each.name]["samples_per_second"].append(repetitions[each.name] * samples / took)
                results[each.name]["others_busy"].append(busy)
    for result in results.values():
        result["median"] = statistics.median(result["samples_per_second"])
    return results


def alone(
    group: Sequence[Worker], worker: Worker, measure: Measurement, repetitions: int, seed: int
) -> tuple[float, float | None]:
    """Measure one of a group when all are idle; return its seconds and how busy the others were."""
    others = [each for each in group if each is not worker]
    wait_until_idle(group)
    before = total_cpu_seconds(others)
    start = time.perf_counter()
    seconds = measure(worker, repetitions, seed)
    elapsed = time.perf_counter() - start
    after = total_cpu_seconds(others)
    return seconds, None if before is None or after is None else (after - before) / elapsed


def ratios(of: Result, to: Result) -> list[float]:
    """Return the ratio of two contenders' throughput in each round."""
    return [a / b for a, b in zip(of["samples_per_second"], to["samples_per_second"], strict=True)]


def median_ratio(of: Result, to: Result) -> float:
    """Return the median over the rounds of the ratio of two contenders' throughput."""
    return statistics.median(ratios(of, to))


def best(results: dict[str, Result], family: str) -> Result | None:
    """Return the fastest member of a family ("jax": "jax-1" or "jax-all"), or None if it has none here."""
    members = [result for name, result in results.items() if name.rsplit("-", 1)[0] == family]
    return max(members, key=lambda result: float(result["median"]), default=None)


def _set_up(worker: Worker, contender: Contender) -> Result:
    """Build, compile, train the checked epochs (the warm-up) and note what came out."""
    compile_seconds = worker.call("build", contender.workload)
    checked = worker.call("check", _CHECK_SEED)
    result: Result = {
        "implementation": contender.implementation.name,
        "title": contender.implementation.title,
        "threads": contender.implementation.threads,
        "dtype": contender.implementation.dtype,
        "libraries": worker.call("libraries"),
        "compile_seconds": compile_seconds,
        "accuracy": checked.accuracy,
        "loss": checked.loss,
        "minimum_accuracy": contender.workload.minimum_accuracy,
        "samples_per_second": [],
        "others_busy": [],
    }
    path = worker.call("input_path")
    return {**result, "input_path": path} if path else result


def complaints(results: dict[str, Result], where: str) -> list[str]:
    """Return what makes a comparison worthless: a missed accuracy target, or others that were not idle."""
    found = []
    for name, result in results.items():
        if not result["accuracy"] >= result["minimum_accuracy"]:  # a NaN must not pass
            found.append(
                f"{where}: {name} reached a test accuracy of {result['accuracy']:.4f}, "
                f"below its target of {result['minimum_accuracy']:.4f}"
            )
        busy = [share for share in result["others_busy"] if share is not None]
        if busy and statistics.median(busy) > 0.05:
            found.append(f"{where}: while {name} was timed, the others used {statistics.median(busy):.0%} of a CPU")
    return found
