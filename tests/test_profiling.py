"""The peak of the machine, what a profile measures, and ``fastmlp profile``; never how fast anything is."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastmlp import load_dataset, profile_rivals, profiling
from fastmlp.cli import program
from fastmlp.cli.profile import ThreadCounts
from fastmlp.kernels.peak import CHAINS, multiply_add_chains
from fastmlp.kernels.vector import REGISTER_BYTES
from fastmlp.plots import profile_curves, save_figure
from fastmlp.profile_point import Point, Spread, prediction_flops, training_flops
from fastmlp.profiling import Profile, ProfileProgress, peak_gflops

PHASES = {"gather": 1e-6, "forward": 4e-6, "loss": 1e-6, "backward": 3e-6, "waiting": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table of three classes, as an .npz file."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 100)
    path = tmp_path_factory.mktemp("data") / "table.npz"
    X = random.normal(size=(100, 6)).astype(np.float32)
    np.savez(path, X_train=X, y_train=y, X_test=X, y_test=y)
    return path


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for moments only."""
    for name in ("TRAINING_SECONDS", "PREDICTION_SECONDS", "BASELINE_SECONDS"):
        monkeypatch.setattr(profile_rivals, name, 1e-4)
    monkeypatch.setattr(profile_rivals, "PAUSE_SECONDS", 0.0)


def point(hidden: int = 64, threads: int = 1, **changes: Any) -> Point:
    """Make a point as if it had been measured."""
    values: dict[str, Any] = {
        "training": [1e6, 3e6, 2e6],
        "prediction": [4e6, 4e6, 4e6],
        "baseline": [1e5, 1e5, 2e5],
        "phases": [PHASES] * 3,
        "input_path": "dense",
    }
    return Point((784, hidden, 10), threads, 200.0 * threads, **values | changes)


# The peak


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_every_chain_makes_every_step(dtype: str, steps: int) -> None:
    """What the peak is computed from: CHAINS * lanes multiply-adds a step."""
    length = CHAINS * REGISTER_BYTES // np.dtype(dtype).itemsize
    constants = np.array([0.75, 2.0], dtype)
    starts = np.random.default_rng(0).normal(size=length).astype(dtype)
    ends = np.full_like(starts, np.nan)
    kernel, _ = multiply_add_chains.prepare(constants, starts, steps, ends)
    kernel(constants, starts, steps, ends)
    expected = starts.astype(np.float64)
    for _ in range(steps):
        expected = 0.75 * expected + 2.0
    np.testing.assert_allclose(ends, expected, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
def test_peak_is_operations_over_time(dtype: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which every call takes one second, so that the fewest steps are made."""
    ticks = itertools.count()
    monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    operations = 2 * 1000 * CHAINS * REGISTER_BYTES // size
    assert peak_gflops(dtype, 1) == pytest.approx(1e-9 * operations)


def test_peak_of_several_threads_is_measured() -> None:
    assert 0.0 < peak_gflops("float32", 3, seconds=0.001) < math.inf


@pytest.mark.parametrize(
    ("dtype", "threads", "words"), [("float16", 1, "dtype must be one of"), ("float32", 0, "threads must be")]
)
def test_peak_refuses_what_there_is_not(dtype: str, threads: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        peak_gflops(dtype, threads)


def test_benchmarks_use_the_library_s_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = pytest.importorskip("bench.limit")
    monkeypatch.setattr(profiling, "peak_gflops", lambda _, threads: 100.0 * threads)
    assert limit.peak_gflops("float32", 2) == 200.0


# Counting


@pytest.mark.parametrize(
    ("layers", "training", "prediction"),
    [
        ((784, 10), 2 * 2 * 7840, 2 * 7840),  # no gradient of the inputs
        ((784, 64, 10), 2 * (2 * 784 * 64 + 3 * 64 * 10), 2 * (784 * 64 + 64 * 10)),
        ((5, 4, 3, 2), 2 * (2 * 20 + 3 * 12 + 3 * 6), 2 * (20 + 12 + 6)),
    ],
)
def test_operations_of_the_dense_algorithm(layers: tuple[int, ...], training: int, prediction: int) -> None:
    assert training_flops(layers) == training
    assert prediction_flops(layers) == prediction


def test_a_point_tells_medians_and_what_follows_from_them() -> None:
    row = point().to_dict()
    assert row["network"] == "784-64-10"
    assert row["training_samples_per_second"] == 2e6
    assert (row["training_samples_per_second_lowest"], row["training_samples_per_second_highest"]) == (1e6, 3e6)
    assert row["training_gflops"] == pytest.approx(2e6 * training_flops((784, 64, 10)) / 1e9)
    assert row["training_share_of_peak"] == pytest.approx(row["training_gflops"] / 200.0)
    assert row["prediction_gflops"] == pytest.approx(4e6 * prediction_flops((784, 64, 10)) / 1e9)
    assert (row["speed_up_lowest"], row["speed_up"], row["speed_up_highest"]) == (10.0, 10.0, 30.0)
    assert {name: row[f"{name}_seconds"] for name in PHASES} == PHASES


def test_nothing_measured_is_not_a_number() -> None:
    assert all(math.isnan(value) for value in Spread.of([]))


# Measuring


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_profile_measures_every_width_with_every_number_of_threads(data: Path, dtype: str) -> None:
    reports: list[ProfileProgress] = []
    measured = Profile(
        load_dataset(data), hidden=[4, 9], depth=2, threads=[1, 2, 1], batch_size=20, dtype=dtype, rounds=2
    )
    measured.run(reports.append)
    assert [(each.layers, each.threads) for each in measured.points] == [
        ((6, width, width, 3), threads) for width in (4, 9) for threads in (1, 2)
    ]
    assert list(measured.peaks) == [1, 2]
    for each in measured.points:
        assert {len(each.training), len(each.prediction), len(each.baseline), len(each.phases)} == {2}
        assert min(each.training + each.prediction + each.baseline) > 0
        assert each.input_path == "dense"
        assert each.peak_gflops == measured.peaks[each.threads]
        for rate, phases in zip(each.training, each.phases, strict=True):
            assert phases.keys() == PHASES.keys()
            assert sum(phases.values()) == pytest.approx(20 / rate)  # the time of a batch
    assert [report.done for report in reports] == list(range(1, 13))
    assert {report.total for report in reports} == {12}
    assert reports[-1].remaining_seconds == 0.0
    assert reports[-1].doing == "9 units, round 2 of 2"


@pytest.mark.usefixtures("_hasty")
def test_an_interrupted_profile_keeps_what_was_measured(data: Path) -> None:
    def stop(report: ProfileProgress) -> None:
        if report.done == 5:  # of 1 + 1 measurements a round
            raise KeyboardInterrupt

    measured = Profile(load_dataset(data), hidden=[4, 9], rounds=2)
    with pytest.raises(KeyboardInterrupt):
        measured.run(stop)
    assert [len(each.training) for each in measured.points] == [2, 1]
    assert [len(each.baseline) for each in measured.points] == [2, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": [0]}, "hidden must be"),
        ({"threads": [0]}, "threads must be"),
        ({"depth": 0}, "depth must be"),
        ({"rounds": 0}, "rounds must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"dtype": "int8"}, "dtype must be"),
    ],
)
def test_a_profile_refuses_what_cannot_be_measured(data: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Profile(load_dataset(data), **{"hidden": [4]} | options)


# The command


def run(data: Path, *arguments: str) -> Result:
    """Profile two small networks in this process."""
    line = ["profile", "--data", str(data), "--hidden", "4,8", "--rounds", "2", "--threads", "1"]
    return CliRunner().invoke(program, [*line, *arguments])


@pytest.mark.usefixtures("_hasty")
def test_the_tables_have_a_row_per_network(data: Path) -> None:
    result = run(data)
    assert result.exit_code == 0, result.output
    head, *tables = result.stdout.split("\n\n")
    assert head.startswith("6-N-3, float32, batch 32, 100 samples of table")
    assert "Peak of this machine: " in head
    assert [table.splitlines()[0].split()[0] for table in tables] == ["Training", "Prediction", "Microseconds"]
    for table in tables:
        assert [line.split()[:2] for line in table.splitlines()[2:]] == [["4", "1"], ["8", "1"]]
    assert tables[2].splitlines()[1].split() == ["N", "threads", "all", *PHASES]
    assert "2 rounds: about" in result.stderr


@pytest.mark.usefixtures("_hasty")
def test_json_csv_and_figure_tell_the_same(data: Path, tmp_path: Path) -> None:
    table, figure = tmp_path / "profile.csv", tmp_path / "profile.svg"
    result = run(data, "--json", "--csv", str(table), "--plot", str(figure))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["command"], document["interrupted"]) == (1, "profile", False)
    assert [each["hidden"] for each in document["points"]] == [4, 8]
    assert len(document["points"][0]["training_rounds"]) == 2
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    for row, each in zip(rows, document["points"], strict=True):
        assert {name: str(each[name]) for name in row} == row
    assert figure.read_bytes().startswith(b"<?xml")


@pytest.mark.usefixtures("_hasty")
def test_interrupting_prints_what_is_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, calls = profile_rivals.Rivals.measure, itertools.count(1)

    def measure_or_stop(rivals: profile_rivals.Rivals, each: Point) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        measure(rivals, each)

    monkeypatch.setattr(profile_rivals.Rivals, "measure", measure_or_stop)
    result = run(data, "--csv", str(tmp_path / "profile.csv"))
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    training = result.stdout.split("\n\n")[1]
    assert [line.split()[0] for line in training.splitlines()[2:]] == ["4"]
    assert len((tmp_path / "profile.csv").read_text().splitlines()) == 2


def test_interrupting_before_anything_is_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Profile) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Profile, "prepare", stop)
    result = run(data)
    assert result.exit_code == 130
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hidden", ""], "--hidden: must name one width at least"),
        (["--hidden", "4,0"], "(got '0')"),
        (["--depth", "0"], "--depth: must be a whole number 1..900"),
        (["--rounds", "0"], "--rounds: must be a whole number"),
        (["--threads", "1,0"], "--threads: must be 1.."),
        (["--threads", "1,,"], "--threads: must be 1.."),
        (["--csv", "no/such/x.csv"], "--csv: no such directory: no/such"),
        (["--csv", "."], "--csv: is a directory"),
        (["--plot", "x.bmp"], "--plot: must end in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_before_anything_is_measured(data: Path, arguments: list[str], words: str) -> None:
    result = run(data, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["--csv", "--plot"])
def test_files_are_not_overwritten_unless_forced(data: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.svg"
    path.write_text("precious")
    result = run(data, name, str(path))
    assert (result.exit_code, path.read_text()) == (2, "precious")
    assert "use --force" in result.stderr


def test_auto_threads_are_one_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.system.usable_cpus", lambda: 6)
    assert ThreadCounts().convert("auto", None, None) == (1, 6)
    assert ThreadCounts().convert("1,auto,1", None, None) == (1, 6)


def test_train_names_its_share_of_the_peak(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def peak(dtype: str, threads: int, *, seconds: float) -> float:
        asked.append((dtype, threads))
        return 50.0

    monkeypatch.setattr(profiling, "peak_gflops", peak)
    line = ["train", "--data", str(data), "--layers", "8", "--epochs", "1", "--dtype", "float64", "--threads", "1"]
    result = CliRunner().invoke(program, [*line, "--output", str(tmp_path / "a")])
    assert "Share of peak" in result.stdout
    result = CliRunner().invoke(program, [*line, "--output", str(tmp_path / "b"), "--json"])
    document = json.loads(result.stdout)
    assert document["gflops"] == pytest.approx(document["samples_per_second"] * training_flops((6, 8, 3)) / 1e9)
    assert document["share_of_peak"] == pytest.approx(document["gflops"] / 50.0)
    assert asked == [("float64", 1)] * 2


# The figure


def test_the_figure_shows_the_points() -> None:
    points = [point(hidden, threads) for hidden in (16, 64, 256) for threads in (1, 2)]
    speed, share = profile_curves(points, "title").axes
    lines = {line.get_label(): line for line in speed.lines}
    assert len(lines) == 5
    np.testing.assert_array_equal(lines["Training, 2 threads"].get_xdata(), [16, 64, 256])
    np.testing.assert_array_equal(lines["Prediction, 1 thread"].get_ydata(), [4e6] * 3)
    np.testing.assert_array_equal(lines["NumPy, training"].get_ydata(), [1e5] * 3)
    shares = {line.get_label(): line for line in share.lines}
    expected = [100.0 * each.to_dict()["training_share_of_peak"] for each in points if each.threads == 1]
    np.testing.assert_allclose(shares["Training, 1 thread"].get_ydata(), expected)
    for axes in (speed, share):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("changes", [{}, {"baseline": []}, {"prediction": [], "baseline": []}])
def test_a_single_or_incomplete_point_can_be_drawn(changes: dict[str, Any], tmp_path: Path) -> None:
    save_figure(profile_curves([point(**changes)], "title"), tmp_path / "x.png", dpi=50)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
