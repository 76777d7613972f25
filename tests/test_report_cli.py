"""``fastmlp reproduce``: what it prints, and what it says to mistakes.

A run whose workers are killed at any moment is in ``test_report_runner``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastmlp.cli import program, reproduction_display
from fastmlp.cli.base import Preferences
from fastmlp.report.experiments import EXPERIMENTS
from fastmlp.report.jobs import Job
from fastmlp.training import Progress

SMALL = ["--n-train", "200", "--epochs", "2", "--seeds", "2"]


def reproduce(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(program, ["reproduce", *map(str, arguments)])


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three classes that are easy to tell apart: little to calculate with."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 400)
    X = random.normal(size=(400, 6)) + 8.0 * np.eye(3, 6)[y]
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, X=X.astype(np.float32), y=y)
    return str(path)


def test_the_list_of_experiments() -> None:
    result = reproduce("--list")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(EXPERIMENTS)
    assert lines[0].split() == ["experiment", "tasks", "hidden", "layers", "activation", "init", "lr", "momentum"]
    assert "10 of 64" in result.output
    chosen = reproduce("--list", "--only", "task4,relu-he").output.splitlines()[1:]
    assert [line.split()[0] for line in chosen] == [
        name for name, experiment in EXPERIMENTS.items() if "task4" in experiment.tasks or name == "relu-he"
    ]


def test_the_list_as_json_with_own_experiments(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[experiments.wide]\nlayers = [256]")
    result = reproduce("--list", "--json", "--experiments", tmp_path / "mine.toml", "--only", "own")
    (experiment,) = json.loads(result.output)["experiments"]
    assert (experiment["name"], experiment["layers"]) == ("wide", [256])


def test_a_report_on_other_data_with_an_own_experiment(
    tmp_path: Path, blobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction_display, "_PLAIN_SECONDS", 0.0)
    mine, folder = tmp_path / "mine.toml", tmp_path / "report"
    mine.write_text("[experiments.tiny]\nlayers = [4]\nactivation = 'relu'\ninit = 'he'")
    arguments = ["--data", blobs, *SMALL, "--only", "tiny,default", "--experiments", mine, "--output", folder]
    result = reproduce(*arguments, "--jobs", "1", "--baseline")
    assert result.exit_code == 0, result.output
    for line in ("Trainings", "Time", "Gradients", "Speed", "Report"):
        assert f"\n{line} " in result.stdout
    assert "1  The improved initialisation beats uniform(-1, 1) (sigmoid)." in result.stdout
    assert "/6 done" in result.stderr
    assert "now tiny-seed0 (epoch 2/2, validation accuracy " in result.stderr
    written = ["figures", "index.html", "results.csv", "results.json", "runs"]
    assert sorted(path.name for path in folder.iterdir()) == written
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "times as fast" in page
    assert "blobs.npz" in page
    assert "What the networks look at" not in page, "these samples are no images"
    assert "6·4 + 4 + 4·3 + 3 = 43" in page
    assert "--experiments FILE --only default,tiny --baseline" in page

    again = reproduce(*arguments, "--resume", "--json")
    assert again.exit_code == 0, again.output
    document = json.loads(again.stdout)
    assert document["command"] == "reproduce"
    assert document["seconds"] is None
    assert {claim["verdict"] for claim in document["claims"]} == {"not tested"}
    assert all(check["passed"] for check in document["gradient_checks"].values())
    assert "6 of 6 results are there already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "relu-hee"], "--only: no experiment or task 'relu-hee'; did you mean 'relu-he' or"),
        (["--only", "tsk3"], "did you mean 'task3'"),
        (["--only", "own"], "'own' (experiments of your own); a file given to --experiments adds some"),
        (["--only", ""], "--only: no experiment or task ''"),
        (["--experiments", "none.toml"], "--experiments: none.toml: no such file"),
        (["--seeds", "0"], "--seeds: must be a whole number 1..1000 (got '0')"),
        (["--epochs", "1e3"], "--epochs: must be a whole number"),
        (["--jobs", "0"], "--jobs: must be 1.."),
        (["--n-train", "100"], "--n-train: must be a whole number >= 160"),
        (["--n-train", "70000"], "--n-train: must be 1 to 60000"),
        (["--output", "-"], "--output: is not a name for a folder (got '-')"),
        (["--force", "--resume"], "--force: cannot be combined with --resume"),
        (["--seed", "3"], "no such option --seed; did you mean '--seeds'?"),
    ],
    ids=" ".join,
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = reproduce(*arguments)
    assert not list(tmp_path.iterdir())
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 0.1", "experiments.a: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        ("momentum = '0.9'", "experiments.a.momentum must be a number >= 0 and < 1 (got '0.9')"),
    ],
)
def test_a_wrong_file_of_experiments(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[experiments.a]\n{text}")
    result = reproduce("--list", "--experiments", path)
    assert result.exit_code == 2
    assert result.stderr == f"Error: --experiments: {path}: {message}\n"


def test_missing_data(tmp_path: Path) -> None:
    result = reproduce("--data", tmp_path / "none.npz", "--output", tmp_path / "report")
    assert result.exit_code == 4
    assert not (tmp_path / "report").exists()


def test_an_existing_report_is_not_touched(tmp_path: Path, blobs: str) -> None:
    (tmp_path / "index.html").write_text("precious")
    arguments = ["--data", blobs, *SMALL, "--only", "default", "--output", tmp_path, "--quiet"]
    result = reproduce(*arguments)
    assert result.exit_code == 2
    assert "exists and is not empty; use --resume to go on with it, --force to replace it" in result.stderr
    resumed = reproduce(*arguments, "--resume")
    assert resumed.exit_code == 2
    assert "no run of this command to resume" in resumed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "precious"
    forced = reproduce(*arguments, "--force")
    assert forced.exit_code == 0, forced.output
    assert forced.stderr == ""
    assert (tmp_path / "index.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/report"])
def test_an_output_that_cannot_be_written(tmp_path: Path, where: str, blobs: str) -> None:
    (tmp_path / "file").touch()
    result = reproduce("--data", blobs, *SMALL, "--output", tmp_path / where)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --output: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_gradient_check_that_fails_has_its_own_exit_code(
    tmp_path: Path, blobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmlp.report.gradients.TOLERANCE", 1e-30)
    arguments = ["--data", blobs, *SMALL, "--only", "default", "--jobs", "1", "--quiet", "--output", tmp_path / "made"]
    assert reproduce(*arguments).exit_code == 3
    page = (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    assert "✗ wrong" in page
    assert "NOT every one is within" in page


@pytest.mark.parametrize(("step", "shown"), [(1, "0/2 done"), (250, "0/2 done, 30.0 s left")])
def test_the_time_left_is_told_when_there_is_something_to_guess_it_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int, shown: str
) -> None:
    now = 100.0
    monkeypatch.setattr(reproduction_display.time, "monotonic", lambda: now)
    display = reproduction_display.ReproductionDisplay(Preferences(), lambda: None)
    jobs = [Job("training", EXPERIMENTS["default"], seed) for seed in range(2)]
    display.planned(jobs, 0)
    now += 10.0
    display.progressed(jobs[0], Progress(1, 50, step, 500, 1.0, None, None, 1e5, 10.0, 0.0))
    assert capsys.readouterr().err.startswith(f"{shown}; now default-seed0")


# Runs in processes of their own


def start(output: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a run of two networks."""
    command = [sys.executable, "-m", "fastmlp", "reproduce", "--only", "default,momentum", "--output", str(output)]
    return subprocess.Popen([*command, *arguments], **streams)


LONG = ["--seeds", "50", "--n-train", "2000"]


def wait_for(process: subprocess.Popen[bytes], happened: Callable[[], object]) -> None:
    """Wait until something happened in a run that goes on."""
    deadline = time.monotonic() + 180
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_terminated_run_says_what_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "report"
    process = start(output, *LONG, stderr=subprocess.PIPE)
    wait_for(process, lambda: list(output.glob("runs/*seed*.json")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b" of 101 results are kept: go on with --resume" in errors.splitlines()[-1]
    assert b"Traceback" not in errors
    assert not list(output.glob("**/.*.tmp"))
    assert not (output / "index.html").exists()


def test_a_run_killed_while_it_writes_the_report_can_be_resumed(tmp_path: Path, blobs: str) -> None:
    output = tmp_path / "report"
    arguments = ["--data", blobs, *SMALL]
    process = start(output, *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(process, lambda: list(output.glob("figures/*.svg")))
    process.kill()
    process.wait()
    assert not (output / "index.html").exists(), "the page comes last"
    remains = [output / "figures" / ".default-loss.svg.0123abcd.tmp", output / ".index.html.0123abcd.tmp"]
    for path in (*remains, output / ".mine.tmp"):
        path.touch()
    resumed = reproduce(*arguments, "--only", "default,momentum", "--output", output, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "5 of 5 results are there already" in resumed.stderr
    assert [path.name for path in output.glob("**/.*")] == [".mine.tmp"]
    assert (output / "index.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """The whole, and each running training, on lines of their own, until Ctrl-C."""
    output = tmp_path / "report"
    ours, theirs = pty.openpty()
    process = start(output, *LONG, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other end was closed
            while shown[-1:] != [b""]:
                shown.append(os.read(ours, 65536))

    reader = threading.Thread(target=read)  # a terminal that nobody reads from would stop the run
    reader.start()
    wait_for(process, lambda: list(output.glob("runs/*seed*.json")))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode(errors="replace")
    for part in ("all experiments", "/101 done", "epoch 1/50", "validation accuracy", "go on with --resume"):
        assert part in text
