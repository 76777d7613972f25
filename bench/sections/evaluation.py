"""Evaluation: loss and accuracy over a whole set, forward only."""

from __future__ import annotations

from bench.implementations import chosen
from bench.rounds import Contender, compare, complaints, evaluate, median_ratio
from bench.sections.base import Goal, Json, Options, amount, goals_table, table, thousands
from bench.workload import Workload

WORKLOAD = Workload((784, 64, 10), 32, minimum_accuracy=0.935)
NAMES = ("fastmlp", "jax", "pytorch", "scikit-learn", "numpy-float32")


def measure(options: Options) -> Json:
    """Time the evaluation of the 20,000 training images; the goal is set against the best peer."""
    contenders = [Contender(each.name, each, WORKLOAD) for each in chosen(NAMES)]
    results = compare(contenders, rounds=options.rounds, seconds=options.seconds, measure=evaluate)
    peers = [result for name, result in results.items() if not name.startswith("fastmlp")]
    rival = max(peers, key=lambda result: float(result["median"]))
    ratio = median_ratio(results["fastmlp-all"], rival)
    goal = Goal(f"784-64-10: evaluation, against the best peer ({rival['title']})", ratio, 3.0, 3.0)
    return {"results": results, "goals": [goal.as_json()], "complaints": complaints(results, "evaluation")}


def tables(result: Json) -> dict[str, str]:
    """Return the goal and the table of implementations."""
    ours = result["results"]["fastmlp-all"]
    lines = [
        [each["title"], thousands(each["median"]), amount(median_ratio(ours, each), "x")]
        for each in sorted(result["results"].values(), key=lambda each: -each["median"])
    ]
    header = ["784-64-10, loss and accuracy over 20,000 images", "samples/s", "fastmlp is"]
    return {"evaluation-goals": goals_table(result["goals"]), "evaluation": table(header, lines)}
