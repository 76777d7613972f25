"""``fastmlp reproduce``: what it prints, and what it says to mistakes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastmlp.cli import program
from fastmlp.report.experiments import EXPERIMENTS

SMALL = ["--n-train", "200", "--epochs", "2", "--seeds", "2"]


def reproduce(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(program, ["reproduce", *arguments])


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
    assert len(reproduce("--list", "--only", "task4").output.splitlines()) == 7


def test_the_list_as_json_with_own_experiments(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[experiments.wide]\nlayers = [256]")
    result = reproduce("--list", "--json", "--experiments", str(tmp_path / "mine.toml"), "--only", "own")
    (experiment,) = json.loads(result.output)["experiments"]
    assert (experiment["name"], experiment["layers"]) == ("wide", [256])


def test_a_report_on_other_data_with_an_own_experiment(tmp_path: Path, blobs: str) -> None:
    (tmp_path / "mine.toml").write_text("[experiments.tiny]\nlayers = [4]\nactivation = 'relu'\ninit = 'he'")
    folder = tmp_path / "report"
    arguments = ["--data", blobs, *SMALL, "--only", "tiny,default", "--output", str(folder), "--jobs", "1"]
    result = reproduce(*arguments, "--experiments", str(tmp_path / "mine.toml"), "--baseline")
    assert result.exit_code == 0, result.output
    for line in ("Trainings", "Time", "Gradients", "Speed", "Report"):
        assert f"\n{line} " in result.stdout
    assert "1  The improved initialisation beats uniform(-1, 1) (sigmoid)." in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures",
        "index.html",
        "results.csv",
        "results.json",
        "runs",
    ]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "times as fast" in page
    assert "blobs.npz" in page
    assert "What the networks look at" not in page, "these samples are no images"
    assert "6·4 + 4 + 4·3 + 3 = 43" in page

    again = reproduce(*arguments, "--experiments", str(tmp_path / "mine.toml"), "--resume", "--json")
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
        (
            ["--only", "relu-hee"],
            "--only: no experiment or task 'relu-hee'; did you mean 'relu-he' or 'relu-he-momentum'?",
        ),
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


def test_a_wrong_file_of_experiments(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[experiments.a]\nlearning_rat = 0.1")
    result = reproduce("--list", "--experiments", str(path))
    assert result.exit_code == 2
    expected = "experiments.a: unknown key 'learning_rat'; did you mean 'learning_rate'?"
    assert result.stderr == f"Error: --experiments: {path}: {expected}\n"


def test_missing_data(tmp_path: Path) -> None:
    result = reproduce("--data", str(tmp_path / "none.npz"), "--output", str(tmp_path / "report"))
    assert result.exit_code == 4
    assert not (tmp_path / "report").exists()


def test_an_existing_report_is_not_touched(tmp_path: Path, blobs: str) -> None:
    (tmp_path / "index.html").write_text("precious")
    result = reproduce("--data", blobs, *SMALL, "--output", str(tmp_path))
    assert result.exit_code == 2
    assert "exists and is not empty; use --resume to go on with it, --force to replace it" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    resumed = reproduce("--data", blobs, *SMALL, "--output", str(tmp_path), "--resume")
    assert resumed.exit_code == 2
    assert "no run of this command to resume" in resumed.stderr
    forced = reproduce("--data", blobs, *SMALL, "--only", "default", "--output", str(tmp_path), "--force", "--quiet")
    assert forced.exit_code == 0, forced.output
    assert forced.stderr == ""
    assert (tmp_path / "index.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/report"])
def test_an_output_that_cannot_be_written(tmp_path: Path, where: str, blobs: str) -> None:
    (tmp_path / "file").touch()
    result = reproduce("--data", blobs, *SMALL, "--output", str(tmp_path / where))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --output: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_gradient_check_that_fails_has_its_own_exit_code(
    tmp_path: Path, blobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmlp.report.gradients.TOLERANCE", 1e-30)
    arguments = [
        "--data",
        blobs,
        *SMALL,
        "--only",
        "default",
        "--jobs",
        "1",
        "--quiet",
        "--output",
        str(tmp_path / "report"),
    ]
    assert reproduce(*arguments).exit_code == 3
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "✗ wrong" in page
    assert "NOT every one is within" in page


def start(output: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a run that takes a while."""
    command = [sys.executable, "-m", "fastmlp", "reproduce", "--only", "default,momentum", "--seeds", "50"]
    return subprocess.Popen([*command, "--n-train", "2000", "--output", str(output), *arguments], **streams)


def wait_for_a_result(process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + 180
    while not list(output.glob("runs/*seed*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_keeps_what_is_done(tmp_path: Path, sent: signal.Signals) -> None:
    output = tmp_path / "report"
    process = start(output, stderr=subprocess.PIPE)
    wait_for_a_result(process, output)
    process.send_signal(sent)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"results are kept: go on with --resume" in errors.splitlines()[-1]
    assert b"Traceback" not in errors
    assert time.monotonic() - began < 20
    assert not list(output.glob("**/.*.tmp"))
    assert not (output / "index.html").exists()


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """The whole, and each running training, on lines of their own."""
    output = tmp_path / "report"
    ours, theirs = pty.openpty()
    process = start(output, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    wait_for_a_result(process, output)
    process.send_signal(signal.SIGINT)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    process.wait(60)
    os.close(ours)
    assert process.returncode == 130
    text = shown.decode(errors="replace")
    assert "all experiments" in text
    assert "/101 done" in text
    assert "epoch 1/50" in text
    assert "validation accuracy" in text
