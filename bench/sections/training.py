"""Training throughput: networks against JAX, and the first of them against everybody."""

from __future__ import annotations

from dataclasses import dataclass

from bench.implementations import chosen
from bench.limit import dense_limit
from bench.rounds import Contender, Result, best, compare, complaints, median_ratio
from bench.sections.base import Goal, Json, Options, amount, goals_table, percent, table, thousands
from bench.workload import Workload

EVERYBODY = (
    "fastmlp",
    "jax",
    "pytorch",
    "pytorch-compiled",
    "scikit-learn",
    "numpy-float32",
    "numpy-float64",
    "numba-textbook",
)
NARROW = ("fastmlp", "jax", "pytorch", "numpy-float64-all")
WIDE = ("fastmlp", "jax-all", "pytorch-all", "numpy-float64-all")  # one thread of a peer has no chance here


@dataclass(frozen=True)
class Row:
    """A workload, who is timed on it, and how many times JAX's throughput is asked for (must, aim), if it is."""

    workload: Workload
    asked: tuple[float, float] | None
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """Network and batch size."""
        return f"{self.workload.name}, batch {self.workload.batch_size}"


def _row(
    hidden: tuple[int, ...],
    batch: int,
    asked: tuple[float, float] | None,
    minimum_accuracy: float,
    learning_rate: float = 0.1,
) -> Row:
    workload = Workload((784, *hidden, 10), batch, learning_rate, minimum_accuracy=minimum_accuracy)
    names = EVERYBODY if (hidden, batch) == ((64,), 32) else WIDE if max(hidden) >= 512 else NARROW
    return Row(workload, asked, names)


# Accuracy targets: one to two points below what float64 reaches in the two checked epochs over three seeds.
ROWS = (
    _row((64,), 32, (5.0, 8.0), 0.935),
    _row((64, 64), 32, (4.5, 8.0), 0.93),
    _row((64,) * 10, 32, (3.5, 6.0), 0.88),
    _row((128,), 4, None, 0.935, learning_rate=0.01),
    _row((128,), 32, (5.0, 8.0), 0.94),
    _row((512,), 32, (5.0, 7.0), 0.945),
    _row((1024,), 32, (5.0, 7.0), 0.945),
    _row((512, 512), 32, (2.5, 4.0), 0.945),
    _row((512, 512), 128, (2.5, 4.0), 0.93),
    _row((1024, 1024), 512, (1.3, 1.6), 0.92),
    _row((64,), 512, (3.0, 5.0), 0.89),
)

# At 784-64-10, batch 32: family -> must, aim
AGAINST_OTHERS = {"numpy-float64": (12.0, 18.0), "pytorch": (14.0, 20.0), "scikit-learn": (18.0, 25.0)}
OF_DENSE_LIMIT = (1.3, 2.0)


def measure(options: Options) -> Json:
    """Time all rows (two of them if quick)."""
    rows, goals, found = [], [], []
    for row in (ROWS[0], ROWS[8]) if options.quick else ROWS:
        contenders = [
            Contender(each.name, each, row.workload) for each in chosen(row.names, with_optional=options.with_optional)
        ]
        results = compare(contenders, rounds=options.rounds, seconds=options.seconds)
        limits = {key: dense_limit(row.workload, peak) for key, peak in options.peaks.items()}
        rows.append({"name": row.name, "dense_limits": limits, "results": results})
        goals += [goal.as_json() for goal in _goals(row, results, limits)]
        found += complaints(results, row.name)
    return {"rows": rows, "goals": goals, "complaints": found}


def _goals(row: Row, results: dict[str, Result], limits: dict[str, float]) -> list[Goal]:
    goals = []
    asked = ({} if row.asked is None else {"jax": row.asked}) | (AGAINST_OTHERS if row is ROWS[0] else {})
    for family, (must, aim) in asked.items():
        rival = best(results, family)
        if rival is not None:
            ratio = median_ratio(results["fastmlp-all"], rival)
            goals.append(Goal(f"{row.name}: against {rival['title']}", ratio, must, aim))
    if row is ROWS[0]:
        share = results["fastmlp-1"]["median"] / limits["1"]
        goals.append(Goal(f"{row.name}: one thread, of the dense limit of one core", share, *OF_DENSE_LIMIT))
    return goals


def tables(result: Json) -> dict[str, str]:
    """Return the table of goals, the one of all networks, and that of all implementations on the first."""
    return {
        "goals": goals_table(result["goals"]),
        "networks": _networks(result["rows"]),
        "training": _implementations(result["rows"][0]),
    }


def _networks(rows: list[Json]) -> str:
    lines = []
    for row in rows:
        results, ours = row["results"], row["results"]["fastmlp-all"]
        cells = [row["name"], thousands(ours["median"]), thousands(results["fastmlp-1"]["median"])]
        for family in ("jax", "pytorch", "numpy-float64"):
            rival = best(results, family)
            cells.append("-" if rival is None else f"{thousands(rival['median'])} ({_times(ours, rival)})")
        cells.append(thousands(row["dense_limits"]["all"]))
        lines.append(cells)
    header = ["samples/s", "fastmlp", "1 thread", "JAX", "PyTorch", "NumPy float64", "dense limit"]
    return table(header, lines)


def _implementations(row: Json) -> str:
    ours = row["results"]["fastmlp-all"]
    lines = [
        [
            result["title"],
            thousands(result["median"]),
            thousands(min(result["samples_per_second"])) + " - " + thousands(max(result["samples_per_second"])),
            _times(ours, result),
            percent(result["accuracy"]),
            f"{result['compile_seconds']:.1f} s" if result["compile_seconds"] else "-",
        ]
        for result in sorted(row["results"].values(), key=lambda result: -result["median"])
    ]
    header = [row["name"], "samples/s", "all rounds", "fastmlp is", "accuracy", "compiling"]
    return table(header, lines)


def _times(ours: Result, other: Result) -> str:
    return amount(median_ratio(ours, other), "x")
