"""Growth: throughput against width, depth, batch size and size of the set. No cliff is allowed to hide."""

from __future__ import annotations

import contextlib
import math
import statistics
from dataclasses import replace

from bench.implementations import chosen
from bench.limit import dense_limit
from bench.processes import Worker
from bench.rounds import alone, train
from bench.sections.base import Json, Options, table, thousands
from bench.workload import Workload

BASE = Workload((784, 64, 10), 32)
WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
DEPTHS = (1, 2, 3, 5, 8, 12, 16, 20)
BATCHES = tuple(2**k for k in range(13))
SIZES = (1_000, 3_000, 10_000, 30_000, 60_000, 100_000, 300_000, 1_000_000)
_FEW = (0, 3, 6)  # which points of each series --quick measures

_ROUNDS = 3
_PEERS = ("jax-all", "pytorch-all")  # for the picture of throughput against width


def series() -> dict[str, dict[int, Workload]]:
    """Return the points of every series, by the number that grows."""
    return {
        "width": {n: replace(BASE, layers=(784, n, 10)) for n in WIDTHS},
        # at the rate of 0.1 of the others, twenty layers of the NumPy twin diverge as well
        "depth": {n: replace(BASE, layers=(784, *[64] * n, 10), learning_rate=0.02) for n in DEPTHS},
        "batch size": {n: replace(BASE, batch_size=n) for n in BATCHES},
        "samples": {n: replace(BASE, n_train=n) for n in SIZES},
    }


def measure(options: Options) -> Json:
    """Time fastmlp on all series, and the peers on the widths."""
    rounds = min(options.rounds, 1 if options.quick else _ROUNDS)
    found: Json = {}
    for name, points in series().items():
        names = ("fastmlp", *_PEERS) if name == "width" else ("fastmlp-all",)
        kept = [list(points)[i] for i in _FEW] if options.quick else list(points)
        found[name] = _series({n: points[n] for n in kept}, names, rounds, options)
    return {"series": found, "goals": [], "complaints": []}


def _series(points: dict[int, Workload], names: tuple[str, ...], rounds: int, options: Options) -> list[Json]:
    implementations = chosen(names)
    measured = []
    with contextlib.ExitStack() as stack:
        workers = {each.name: stack.enter_context(Worker(each)) for each in implementations}
        for n, workload in points.items():
            rates: dict[str, list[float]] = {name: [] for name in workers}
            epochs = {}
            for name, worker in workers.items():
                worker.call("build", workload)
                epochs[name] = max(1, math.ceil(options.seconds / train(worker, 1, 0)))
            for seed in range(rounds):
                for name, worker in workers.items():
                    seconds, _ = alone(list(workers.values()), worker, train, epochs[name], seed)
                    rates[name].append(epochs[name] * workload.samples_per_epoch / seconds)
            limits = {key: dense_limit(workload, peak) for key, peak in options.peaks.items()}
            measured.append(
                {
                    "n": n,
                    "median": {name: statistics.median(values) for name, values in rates.items()},
                    "samples_per_second": rates,
                    "epochs": epochs,
                    "accuracy": {name: worker.call("evaluate", "test").accuracy for name, worker in workers.items()},
                    "dense_limits": limits,
                }
            )
    return measured


def tables(result: Json) -> dict[str, str]:
    """Return a table per series."""
    made = {}
    for name, points in result["series"].items():
        lines = [
            [
                f"{point['n']:,}",
                thousands(point["median"]["fastmlp-all"]),
                thousands(point["dense_limits"]["all"]),
            ]
            for point in points
        ]
        made["growth-" + name.replace(" ", "-")] = table([name, "fastmlp, samples/s", "dense limit"], lines)
    return made
