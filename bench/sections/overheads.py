"""What momentum and the smooth activations cost fastmlp over plain SGD with ReLU."""

from __future__ import annotations

import statistics
from dataclasses import replace

from bench.implementations import BY_NAME
from bench.rounds import Contender, compare, complaints, ratios
from bench.sections.base import Goal, Json, Options, amount, goals_table, percent, table, thousands
from bench.workload import Workload

PLAIN = Workload((784, 64, 10), 32, minimum_accuracy=0.935)
_WITH_MOMENTUM = replace(PLAIN, learning_rate=0.02, momentum=0.9)

# name -> workload, and how much more time than plain SGD with ReLU it may take
VARIANTS = {
    "momentum": (_WITH_MOMENTUM, 0.15),
    "Nesterov momentum": (replace(_WITH_MOMENTUM, nesterov=True), 0.15),
    "sigmoid": (replace(PLAIN, activation="sigmoid", minimum_accuracy=0.9), 0.20),
    "tanh": (replace(PLAIN, activation="tanh"), 0.20),
    "scaled tanh": (replace(PLAIN, activation="scaled_tanh", minimum_accuracy=0.9), 0.20),
}


def measure(options: Options) -> Json:
    """Time every variant against the plain one."""
    own = BY_NAME["fastmlp-all"]
    contenders = [Contender("plain SGD, ReLU", own, PLAIN)]
    contenders += [Contender(name, own, workload) for name, (workload, _) in VARIANTS.items()]
    results = compare(contenders, rounds=options.rounds, seconds=options.seconds)
    plain = results["plain SGD, ReLU"]
    goals = []
    for name, (_, allowed) in VARIANTS.items():
        more = statistics.median(ratios(plain, results[name])) - 1
        goals.append(Goal(f"784-64-10: extra time of {name}", more, allowed, allowed, "%", at_most=True).as_json())
    return {"results": results, "goals": goals, "complaints": complaints(results, "overheads")}


def tables(result: Json) -> dict[str, str]:
    """Return the goals, and the variants with their throughput and accuracy."""
    plain = result["results"]["plain SGD, ReLU"]
    lines = []
    for name, each in result["results"].items():
        more = statistics.median(ratios(plain, each)) - 1
        cost = "" if each is plain else amount(more, "%")
        lines.append([name, thousands(each["median"]), cost, percent(each["accuracy"])])
    header = ["784-64-10, batch 32", "samples/s", "extra time", "accuracy"]
    return {"overheads-goals": goals_table(result["goals"]), "overheads": table(header, lines)}
