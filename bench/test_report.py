"""The report's own workings: goals, ratios, README places, worker processes; and README against results."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import figures, machine, processes, readme, report, rounds
from bench.implementations import BY_NAME, IMPLEMENTATIONS, Implementation, chosen
from bench.limit import dense_limit
from bench.processes import Worker, WorkerFailedError
from bench.sections import accuracy, growth, training
from bench.sections.base import Goal, amount, measured, thousands
from bench.workload import Workload, raw_data, standardised_data


def result(title: str, rates: Sequence[float], *, accuracy: float = 0.95, busy: float = 0.0) -> dict[str, Any]:
    """Make up what a comparison notes about one contender."""
    return {
        "implementation": title, "title": title, "threads": 1, "dtype": "float32", "compile_seconds": 0.5,
        "accuracy": accuracy, "loss": 0.2, "minimum_accuracy": 0.9, "samples_per_second": list(rates),
        "others_busy": [busy] * 3, "libraries": {"version": "1.0", "thread_pools": []},
        "median": statistics.median(rates),
    }  # fmt: skip


MACHINE = {"usable_cpus": 2, "cpu": "Fast CPU", "cpu_features": ["avx2", "avx512f"]}
RIVALS = ("jax-all", "pytorch-1", "pytorch-all", "scikit-learn-1", "numpy-float64-all")


@pytest.fixture(scope="module")
def made_up() -> dict[str, dict[str, Any]]:
    """Make up results of the sections that figures are drawn from."""
    results = {name: result(name, [1e5, 1.1e5, 0.9e5]) for name in RIVALS}
    results |= {
        "fastmlp-1": result("fastmlp-1", [1e6] * 3),
        "fastmlp-all": result("fastmlp-all", [1.5e6] * 3),
    }
    limits = {"1": 8e5, "all": 1.6e6}
    rows = [{"name": row.name, "results": results, "dense_limits": limits} for row in training.ROWS]
    goals = [goal.as_json() for goal in training._goals(training.ROWS[0], results, limits)]
    points = [{"n": n, "median": {"fastmlp-all": 1e6, "jax-all": 1e5}, "dense_limits": limits} for n in (16, 64, 256)]
    names = ("width", "depth", "batch size", "samples")
    runs = [{"epochs": n, "seconds": [n, n + 0.2], "accuracy": [0.97 + n / 100, 0.975]} for n in (1, 2)]
    recipes = {name: {"title": name, "compile_seconds": 0.0, "points": runs} for name in ("fastmlp-all", "jax-all")}
    return {
        "training": {
            "rows": rows,
            "goals": goals,
            "complaints": [],
            "machine": MACHINE,
            "versions": {"python": "3.11.7", "numba": "0.68.1"},
            "time": "2026-11-23T12:00:00+00:00",
        },
        "growth": {"series": dict.fromkeys(names, points), "goals": [], "complaints": []},
        "accuracy": {"results": recipes, "recipe": "a recipe", "target": 0.98, "goals": [], "complaints": []},
    }


def test_names_in_the_table_are_unique() -> None:
    """A contender is found by its name."""
    assert len(BY_NAME) == len(IMPLEMENTATIONS)


def test_a_family_stands_for_all_its_numbers_of_threads() -> None:
    """And optional entries only come when asked for."""
    assert [each.name for each in chosen(["numpy-float64"])] == ["numpy-float64-1", "numpy-float64-all"]
    assert [each.name for each in chosen(["numpy-float64-1"])] == ["numpy-float64-1"]
    assert not any(each.optional for each in chosen(["pytorch", "pytorch-compiled"]))


def test_a_library_that_is_missing_is_known_to_be() -> None:
    """It is left out, never an error."""
    absent = Implementation("absent-1", "Absent", "bench.peers.absent:Absent", "no_such_library", one_thread=True)
    assert not absent.installed


def test_workers_get_an_environment_without_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BLAS kernel chosen by an environment variable would not be the peer's best."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    environment = BY_NAME["numpy-float64-1"].environment()
    assert "OPENBLAS_CORETYPE" not in environment
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


def test_multiply_adds_are_counted_by_hand() -> None:
    """Forward and weight gradient of both layers, input gradient of the second only."""
    workload = Workload((784, 64, 10))
    assert workload.multiply_adds_per_sample() == 2 * (784 * 64 + 64 * 10) + 64 * 10
    assert dense_limit(workload, 355.0) == pytest.approx(1_735_600, rel=1e-3)


def test_peers_see_what_the_network_sees() -> None:
    """The standardised data are the raw ones, standardised."""
    workload = Workload((30, 8, 4), data="sparse", n_train=200, n_test=20)
    raw, ready = raw_data(workload), standardised_data(workload, "float64")
    assert (raw.X_train == 0).mean() > 0.5
    assert ready.X_train == pytest.approx((raw.X_train - raw.mean) / raw.std)
    assert abs(ready.X_train.mean()) < 0.1


def test_a_set_larger_than_mnist_repeats_its_rows() -> None:
    """From the first row on."""
    data = raw_data(Workload((784, 10), n_train=60_003, n_test=5))
    assert len(data.X_train) == len(data.y_train) == 60_003
    assert (data.X_train[60_000:] == data.X_train[:3]).all()
    assert (data.y_train[60_000:] == data.y_train[:3]).all()


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(8.0, False, "aim"), (5.0, False, "must"), (4.99, False, "missed"), (math.nan, False, "missed"),
     (5.0, True, "aim"), (8.0, True, "must"), (8.01, True, "missed"), (math.nan, True, "missed")],
)  # fmt: skip
def test_verdicts(value: float, at_most: bool, verdict: str) -> None:
    """Bars are reached when met exactly; NaN reaches none."""
    must, aim = (8.0, 5.0) if at_most else (5.0, 8.0)
    assert Goal("a goal", value, must, aim, at_most=at_most).verdict == verdict


def test_an_aim_without_a_must_cannot_be_missed() -> None:
    """It is short of the aim, which fails nothing."""
    assert Goal("a goal", 0.6, None, 0.5, "s", at_most=True).verdict == "short"


def test_ratios_are_taken_within_rounds() -> None:
    """A round in which the whole machine was slow does not count for either side."""
    ours, theirs = result("a", [10, 1, 10]), result("b", [2, 0.2, 2])
    assert rounds.median_ratio(ours, theirs) == pytest.approx(5)


def test_the_best_setting_of_a_family_is_its_fastest() -> None:
    """And a family without a member has none."""
    results = {
        "jax-1": result("jax-1", [1]),
        "jax-all": result("jax-all", [2]),
        "pytorch-1": result("p", [3]),
    }
    assert rounds.best(results, "jax") is results["jax-all"]
    assert rounds.best(results, "scikit-learn") is None


@pytest.mark.parametrize("measured", [0.89, math.nan])
def test_a_missed_accuracy_is_a_complaint(measured: float) -> None:
    """Speed without accuracy is worth nothing."""
    (complaint,) = rounds.complaints({"quick and wrong": result("x", [1, 1, 1], accuracy=measured)}, "here")
    assert "quick and wrong" in complaint


def test_busy_others_are_a_complaint() -> None:
    """Threads that spin while somebody else is timed make the timing worthless."""
    assert rounds.complaints({"a": result("a", [1, 1, 1])}, "here") == []
    assert "20%" in rounds.complaints({"a": result("a", [1, 1, 1], busy=0.2)}, "here")[0]


def test_an_error_in_a_worker_arrives_with_its_traceback() -> None:
    """And the worker goes on serving."""
    with Worker(BY_NAME["numpy-float64-1"]) as worker:
        with pytest.raises(WorkerFailedError, match="data: must be"):
            worker.call("build", Workload((3, 2), data="no such data", n_train=4))
        worker.call("ready")
        seconds = worker.cpu_seconds()
        assert seconds is None or seconds > 0


def test_a_worker_that_dies_is_named() -> None:
    """Not a hang, and not a bare EOFError."""
    with Worker(BY_NAME["numpy-float64-1"]) as worker:
        worker._process.kill()
        with pytest.raises(WorkerFailedError, match="numpy-float64-1: the worker process ended"):
            worker.call("ready")


class Spinning:
    """A worker whose threads never rest."""

    implementation = BY_NAME["numpy-float64-1"]
    seconds = 0.0

    def cpu_seconds(self) -> float:
        """Return more at each look."""
        self.seconds += 1.0
        return self.seconds


def test_a_group_that_never_rests_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed beside spinning threads."""
    monkeypatch.setattr(processes, "_PATIENCE_SECONDS", 0.1)
    spinning: Any = Spinning()
    with pytest.raises(WorkerFailedError, match="still busy"):
        processes.wait_until_idle([spinning])


def test_places_are_filled_in_sentences_and_on_lines_of_their_own() -> None:
    """And the text around them stays."""
    text = "is <!-- bench:a -->9 x<!-- /bench:a --> faster\n<!-- bench:t -->\nold\n<!-- /bench:t -->\nend"
    filled = readme.fill(text, {"a": "5 x", "t": "| a |\n|---|"})
    expected = text.replace("9 x", "5 x").replace("old", "| a |\n|---|")
    assert filled == expected
    assert readme.fill(filled, {"a": "5 x", "t": "| a |\n|---|"}) == filled
    assert readme.drifted(text, {"a": "9 x", "t": "new"}) == ["t"]


def test_a_place_without_a_result_is_kept_and_counts_as_drift() -> None:
    """A report of some sections leaves the others' places alone; a misspelt name does not go unnoticed."""
    text = "<!-- bench:b -->old<!-- /bench:b -->"
    assert readme.fill(text, {"a": "1"}) == text
    assert readme.drifted(text, {"a": "1"}) == ["b"]


def test_a_marker_without_a_partner_is_an_error() -> None:
    """It would leave an old number in the README for ever."""
    with pytest.raises(ValueError, match="no partner"):
        readme.fill("<!-- bench:a -->", {"a": "1"})


def test_numbers_read_well() -> None:
    """With as many digits as mean something."""
    assert [thousands(rate) for rate in (1_663_456, 88_400, 8_140)] == ["1,663 k", "88 k", "8.1 k"]
    assert [amount(5.634, "x"), amount(17.96, "x"), amount(0.756, "%")] == ["5.63 x", "18.0 x", "76 %"]


@pytest.mark.parametrize(
    ("value", "unit", "must", "text"),
    [
        (17.9, "x", 18.0, "17.9 x"),
        (17.97, "x", 18.0, "17.97 x"),
        (0.7496, "%", 0.75, "74.96 %"),
        (18.0, "x", 18.0, "18.0 x"),
    ],
)
def test_what_was_nearly_reached_does_not_look_reached(value: float, unit: str, must: float, text: str) -> None:
    goal = Goal("nearly", value, must, 2 * must, unit).as_json()
    assert measured(goal) == text


def test_the_shortest_recipe_that_both_sides_master_decides() -> None:
    """One side alone above the target does not."""
    ours = {"points": [{"seconds": [s], "accuracy": [a]} for s, a in ((0.1, 0.981), (0.2, 0.985))]}
    theirs = {"points": [{"seconds": [s], "accuracy": [a]} for s, a in ((1.0, 0.979), (2.0, 0.985))]}
    judged = accuracy._judge({"fastmlp-all": ours, "jax-all": theirs}, (1, 2))
    assert judged["epochs"] == 2
    assert [goal["value"] for goal in judged["goals"]] == pytest.approx([0.2, 10.0])
    assert accuracy._judge({"fastmlp-all": ours, "jax-all": theirs}, (1,))["complaints"]


def test_growth_has_the_points_that_were_asked_for() -> None:
    """Width 16 to 4096, depth 1 to 20, batch 1 to 4096, 1,000 to 1,000,000 samples."""
    ends = {name: (min(points), max(points)) for name, points in growth.series().items()}
    assert ends == {
        "width": (16, 4096),
        "depth": (1, 20),
        "batch size": (1, 4096),
        "samples": (1_000, 1_000_000),
    }
    assert growth.series()["depth"][20].name == "784-(20 x 64)-10"


def test_tables_name_every_network_and_implementation(made_up: dict[str, dict[str, Any]]) -> None:
    """The README's tables are rendered from results alone."""
    tables = training.tables(made_up["training"])
    assert all(row.name in tables["networks"] for row in training.ROWS)
    assert all(name in tables["training"] for name in RIVALS)
    assert "15.0 x" in tables["goals"]


def test_the_machine_is_named_in_one_line(made_up: dict[str, dict[str, Any]]) -> None:
    """With the version of everything that was timed."""
    line = machine.sentence(made_up["training"])
    assert line.startswith("Fast CPU with AVX-512, 2 cores, Python 3.11.7, Numba 0.68.1, ")
    assert "JAX 1.0" in line and line.endswith("measured on 2026-11-23")


def test_figures_are_drawn(made_up: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """All four, and none for results that are not there."""
    assert len(figures.draw_all(made_up, tmp_path)) == 4
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())
    assert figures.draw_all({}, tmp_path / "empty") == []


def test_a_missed_must_is_a_failure_and_a_missed_aim_is_none() -> None:
    """So the report's exit code tells."""
    goals = [
        Goal("must", 1, 5, 8).as_json(),
        Goal("aim", 6, 5, 8).as_json(),
        Goal("short", 6, None, 8).as_json(),
    ]
    failures = report._failures({"goals": goals, "complaints": ["inaccurate"]})
    assert [failure.split(":")[0] for failure in failures] == ["must", "inaccurate"]


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names there are."""
    with pytest.raises(SystemExit):
        report.main(["--only", "trainings"])
    assert "dense-inputs" in capsys.readouterr().err


def test_the_readme_says_what_the_results_say() -> None:
    """Numbers in the README are never typed by hand; `python -m bench.report` writes them."""
    results = report.load(report.BENCH / "results")
    text = report.README.read_text(encoding="utf-8") if report.README.exists() else ""
    if not results:
        pytest.skip("no report has been run yet")
    assert readme.drifted(text, report.contents(results)) == []
    assert {"networks", "training", "all-goals"} <= set(readme.names(text))


@pytest.mark.parametrize(
    "path",
    sorted([*(report.BENCH / "results").glob("*.json"), *report.OTHER_MACHINES.glob("*/results/*.json")]),
    ids=lambda path: str(path.relative_to(report.BENCH)),
)
def test_committed_results_reached_their_accuracy(path: Path) -> None:
    """A run that learnt too little, or was disturbed, is not worth keeping."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["complaints"] == []
    assert not stored["options"]["quick"]
