"""The report: `python -m bench.report` measures, writes results, README tables and figures.

Exit codes: 0 all musts and accuracy targets reached; 1 a worker failed; 3 measured, but a must or an
accuracy target was missed, or (`--check`) the README differs from the results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import figures, machine, readme
from bench.implementations import BY_NAME
from bench.processes import ROOT, Worker, WorkerFailedError
from bench.sections import accuracy, dense_inputs, evaluation, growth, memory, neighbour, overheads, training
from bench.sections.base import VERDICTS, Json, Options, amount, goals_table, measured

SECTIONS: dict[str, ModuleType] = {
    "training": training,
    "dense-inputs": dense_inputs,
    "overheads": overheads,
    "evaluation": evaluation,
    "accuracy": accuracy,
    "memory": memory,
    "growth": growth,
    "neighbour": neighbour,
}

BENCH = Path(__file__).parent
README = ROOT / "README.md"
# One folder for each further machine that the README shows, from `--output bench/other-machines/NAME`.
OTHER_MACHINES = BENCH / "other-machines"
_QUIET_LOAD = 0.5  # runnable processes over the last minute, before the report starts its own
_QUICK_FOLDER = ROOT / "runs" / "bench-quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.check:
        return check(options.output or BENCH)
    folder = options.output or (_QUICK_FOLDER if options.quick else BENCH)
    try:
        failures = measure(options, folder)
    except WorkerFailedError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the sections that were finished are kept", file=sys.stderr)
        return 130
    results = load(folder / "results")
    for path in figures.draw_all(results, folder / "figures"):
        print(f"wrote {path}", file=sys.stderr)
    if folder == BENCH and README.exists():
        README.write_text(readme.fill(README.read_text(encoding="utf-8"), contents(results)), encoding="utf-8")
    for failure in failures:
        print(f"MISSED: {failure}", file=sys.stderr)
    return 3 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Measure fastmlp against its peers.")
    parser.add_argument("--rounds", type=int, help="alternating rounds of each comparison (default 7; quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default 0.3; quick: 0.1)")
    parser.add_argument("--quick", action="store_true", help="a few points in two minutes; results into runs/")
    parser.add_argument("--only", type=_sections, default=tuple(SECTIONS), metavar="A,B", help=", ".join(SECTIONS))
    parser.add_argument("--with-compiled", action="store_true", help="also torch.compile, which is slow to set up")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where results/ and figures/ go (default bench/)")
    parser.add_argument("--check", action="store_true", help="measure nothing; fail if README and results differ")
    return parser


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"no section is called {name!r}; there are {', '.join(SECTIONS)}")
    return names


def measure(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Measure the chosen sections, write a results file each, and return what was missed."""
    options = Options(
        rounds=arguments.rounds or (2 if arguments.quick else 7),
        seconds=arguments.seconds or (0.1 if arguments.quick else 0.3),
        quick=arguments.quick,
        with_optional=arguments.with_compiled,
        peaks=_peaks(),
    )
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > _QUIET_LOAD:
        print(
            f"Warning: something else is running (load {os.getloadavg()[0]:.1f}): timings mean little",
            file=sys.stderr,
        )
    (folder / "results").mkdir(parents=True, exist_ok=True)
    failures = []
    for name in arguments.only:
        start, facts = time.perf_counter(), machine.description()
        print(f"{name} ...", file=sys.stderr, flush=True)
        result: Json = {
            "section": name,
            **facts,
            "options": {"rounds": options.rounds, "seconds": options.seconds, "quick": options.quick},
            "peak_gflops": options.peaks,
            **SECTIONS[name].measure(options),
        }
        result["load_average_after"] = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
        result["took_seconds"] = time.perf_counter() - start
        path = folder / "results" / f"{name}.json"
        path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        _show(name, result)
        failures += _failures(result)
    return failures


def _peaks() -> dict[str, float]:
    """Measure the float32 peak with one and all threads, best of three, in processes as fresh as all others."""
    peaks = {}
    for key in ("1", "all"):
        with Worker(BY_NAME[f"fastmlp-{key}"]) as worker:
            peaks[key] = max(float(worker.call("peak_gflops")) for _ in range(3))
    return peaks


def _show(name: str, result: Json) -> None:
    print(f"\n## {name} ({result['took_seconds']:.0f} s)")
    for text in SECTIONS[name].tables(result).values():
        print(f"\n{text}", flush=True)


def _failures(result: Json) -> list[str]:
    """Return missed musts and what makes a measurement worthless."""
    missed = [
        f"{goal['what']}: {measured(goal)} ({VERDICTS[goal['verdict']].strip('*')})"
        for goal in result["goals"]
        if goal["verdict"] == "missed"
    ]
    return missed + list(result["complaints"])


def load(folder: Path) -> dict[str, Json]:
    """Return all results files of a folder by section, in the order of the report."""
    found = {}
    for name in SECTIONS:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def contents(results: dict[str, Json]) -> dict[str, str]:
    """Return everything that a marked place in the README may hold, by name."""
    made: dict[str, str] = {}
    for name, result in results.items():
        made |= SECTIONS[name].tables(result)
    goals: list[dict[str, Any]] = [goal for result in results.values() for goal in result["goals"]]
    if "training" in results:
        made["machine"] = machine.sentence(results["training"])
        made["against-jax"] = amount(goals[0]["value"], "x")
    made["all-goals"] = goals_table(goals)
    made["missed"] = str(sum(goal["verdict"] == "missed" for goal in goals))
    for folder in OTHER_MACHINES.iterdir():
        others = load(folder / "results")
        made[f"machine-{folder.name}"] = machine.sentence(others["training"])
        made[f"networks-{folder.name}"] = training.tables(others["training"])["networks"]
        made[f"all-goals-{folder.name}"] = goals_table([goal for result in others.values() for goal in result["goals"]])
    return made


def check(folder: Path) -> int:
    """Tell where README and results differ; return the exit code."""
    if not README.exists():
        print(f"Error: {README}: no such file", file=sys.stderr)
        return 1
    differing = readme.drifted(README.read_text(encoding="utf-8"), contents(load(folder / "results")))
    for name in differing:
        print(f"README.md: {name} is not what the results say; run python -m bench.report", file=sys.stderr)
    return 3 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
