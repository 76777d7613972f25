"""Memory: the peak of a whole process that loads MNIST's 60,000 images, trains and evaluates."""

from __future__ import annotations

from bench.implementations import chosen
from bench.processes import Worker
from bench.sections.base import Goal, Json, Options, amount, goals_table, percent, table
from bench.workload import Workload

WORKLOAD = Workload((784, 64, 10), 32, n_train=60_000, minimum_accuracy=0.95)
NAMES = (
    "fastmlp-all",
    "numpy-float32-all",
    "numpy-float64-all",
    "scikit-learn-all",
    "pytorch-all",
    "jax-all",
)
_EPOCHS = 2


def measure(options: Options) -> Json:  # noqa: ARG001 - as other sections
    """Run every implementation in a process of its own, one after the other."""
    results = {}
    for each in chosen(NAMES):
        with Worker(each) as worker:
            worker.call("build", WORKLOAD)
            worker.call("train", _EPOCHS, 0)
            accuracy = worker.call("evaluate", "test").accuracy
            results[each.name] = {
                "title": each.title,
                "peak_megabytes": worker.call("peak_memory_bytes") / 1e6,
                "accuracy": accuracy,
            }
    peak = results["fastmlp-all"]["peak_megabytes"]
    goal = Goal("60,000 images, 784-64-10: peak memory of the process", peak, 400.0, 400.0, "MB", at_most=True)
    found = [
        f"memory: {name} reached a test accuracy of {result['accuracy']:.4f} only"
        for name, result in results.items()
        if not result["accuracy"] >= WORKLOAD.minimum_accuracy
    ]
    return {"results": results, "goals": [goal.as_json()], "complaints": found}


def tables(result: Json) -> dict[str, str]:
    """Return the goal and the peaks."""
    lines = [
        [each["title"], amount(each["peak_megabytes"], "MB"), percent(each["accuracy"])]
        for each in result["results"].values()
    ]
    header = [f"784-64-10 on 60,000 images, {_EPOCHS} epochs", "peak memory of the process", "accuracy"]
    return {"memory-goals": goals_table(result["goals"]), "memory": table(header, lines)}
