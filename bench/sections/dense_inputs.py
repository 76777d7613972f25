"""Dense inputs: standard normal floats, where there is no background to skip."""

from __future__ import annotations

from bench.implementations import chosen
from bench.limit import dense_limit
from bench.rounds import Contender, best, compare, complaints, median_ratio
from bench.sections.base import Goal, Json, Options, amount, goals_table, percent, table, thousands
from bench.workload import Workload

WORKLOAD = Workload((784, 512, 512, 10), 128, data="normal", minimum_accuracy=0.5)


def measure(options: Options) -> Json:
    """Time fastmlp, JAX and PyTorch, and relate fastmlp to the dense limit."""
    contenders = [Contender(each.name, each, WORKLOAD) for each in chosen(("fastmlp", "jax-all", "pytorch-all"))]
    results = compare(contenders, rounds=options.rounds, seconds=options.seconds)
    limits = {key: dense_limit(WORKLOAD, peak) for key, peak in options.peaks.items()}
    ours, rival = results["fastmlp-all"], best(results, "jax")
    name = f"{WORKLOAD.name}, batch {WORKLOAD.batch_size}, standard normal inputs"
    goals = [Goal(f"{name}: of the dense limit", ours["median"] / limits["all"], 0.75, 0.85, "%")]
    if rival is not None:
        ratio = median_ratio(ours, rival)
        goals.append(Goal(f"{name}: against {rival['title']}", ratio, 1.5, 1.5))
    found = complaints(results, name)
    # above the input layer fastmlp skips units that a ReLU has switched off: sure are only that layer's two products
    skipping = WORKLOAD.multiply_adds_per_sample() / (2 * WORKLOAD.layers[0] * WORKLOAD.layers[1])
    found += [
        f"{name}: {each} is above what the machine can do, so the peak was measured on a busy one"
        for each, result in results.items()
        if result["median"] > limits["1" if each.endswith("-1") else "all"] * (skipping if "fastmlp" in each else 1)
    ]
    return {
        "name": name,
        "dense_limits": limits,
        "results": results,
        "goals": [goal.as_json() for goal in goals],
        "complaints": found,
    }


def tables(result: Json) -> dict[str, str]:
    """Return the goals and the table of implementations."""
    lines = []
    for each in result["results"].values():
        limit = result["dense_limits"]["1" if each["implementation"].endswith("-1") else "all"]
        share = amount(each["median"] / limit, "%")
        lines.append([each["title"], thousands(each["median"]), share, percent(each["accuracy"])])
    header = [result["name"], "samples/s", "of the dense limit", "accuracy"]
    return {"dense-goals": goals_table(result["goals"]), "dense": table(header, lines)}
