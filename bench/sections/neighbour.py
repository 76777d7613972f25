"""A busy neighbour: how much throughput is kept while another process computes on the same two cores."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from bench.implementations import chosen
from bench.processes import Worker
from bench.rounds import alone, train
from bench.sections.base import Goal, Json, Options, goals_table, percent, table, thousands
from bench.workload import Workload

WORKLOAD = Workload((784, 64, 10), 32)
NAMES = ("fastmlp-all", "jax-all", "pytorch-all")
_SECONDS = 0.5  # long enough for the scheduler to move processes about several times

# It ends with this process, however that ends.
_BUSY = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


def measure(options: Options) -> Json:
    """Alternate quiet and disturbed measurements of each implementation."""
    with _two_cores() as cores, contextlib.ExitStack() as stack:
        workers = {each.name: stack.enter_context(Worker(each)) for each in chosen(NAMES)}
        results: Json = {}
        epochs = {}
        for name, worker in workers.items():
            worker.call("build", WORKLOAD)
            worker.call("check", 0)
            epochs[name] = max(1, math.ceil(_SECONDS / train(worker, 1, 0)))
            results[name] = {"title": worker.implementation.title, "quiet": [], "disturbed": []}
        for seed in range(options.rounds):
            for name, worker in workers.items():
                _round(list(workers.values()), worker, epochs[name], seed, results[name])
    for result in results.values():
        shares = [b / a for a, b in zip(result["quiet"], result["disturbed"], strict=True)]
        result["kept"] = statistics.median(shares)
    kept = results["fastmlp-all"]["kept"]
    goal = Goal("784-64-10: throughput kept beside a busy process", kept, 0.35, 0.35, "%")
    return {"cores": cores, "results": results, "goals": [goal.as_json()], "complaints": []}


def _round(group: Sequence[Worker], worker: Worker, epochs: int, seed: int, result: Json) -> None:
    samples = epochs * WORKLOAD.samples_per_epoch
    result["quiet"].append(samples / alone(group, worker, train, epochs, seed)[0])
    with _busy_process():
        result["disturbed"].append(samples / train(worker, epochs, seed))


@contextlib.contextmanager
def _busy_process() -> Iterator[None]:
    """Keep one CPU busy with another process, wherever the scheduler puts it."""
    command = [sys.executable, "-c", _BUSY]
    neighbour = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()  # it is running
        yield
    finally:
        neighbour.kill()
        neighbour.communicate()


@contextlib.contextmanager
def _two_cores() -> Iterator[int]:
    """Confine this process and its children to two CPUs, where the system can do that."""
    if not hasattr(os, "sched_getaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield min(2, len(before))
    finally:
        os.sched_setaffinity(0, before)


def tables(result: Json) -> dict[str, str]:
    """Return the goal and the table of implementations."""
    lines = [
        [
            each["title"],
            thousands(statistics.median(each["quiet"])),
            thousands(statistics.median(each["disturbed"])),
            percent(each["kept"], 0),
        ]
        for each in result["results"].values()
    ]
    header = ["784-64-10, batch 32", "quiet, samples/s", "beside a busy process", "kept"]
    return {"neighbour-goals": goals_table(result["goals"]), "neighbour": table(header, lines)}
