"""``fastmlp train --checkpoint-every`` and ``--resume``: what a run needs to go on, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load, save

from fastmlp.checkpoint import Checkpoints, _checksum, read_checkpoint
from fastmlp.cli import program
from fastmlp.runs import RunFolder
from tests.killing import result
from tests.small_data import pixels

SMALL = ["--layers", "8", "--seed", "3", "--momentum", "0.5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    samples = pixels(500, 12, 3)
    path = tmp_path_factory.mktemp("data") / "pixels.npz"
    np.savez(path, X=samples.X, y=samples.y)
    return path


def fastmlp(*arguments: object, **variables: str) -> Result:
    """Run ``fastmlp train`` in this process."""
    return CliRunner().invoke(program, ["train", *map(str, arguments)], env=variables)


def begin(data: Path, run: Path, *arguments: object, epochs: int = 2) -> None:
    """Begin a run that keeps checkpoints."""
    options = ["--data", data, "--output", run, "--epochs", epochs, "--checkpoint-every", 1]
    done = fastmlp(*SMALL, *options, *arguments)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def run_of_two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, which the tests do not change."""
    run = tmp_path_factory.mktemp("runs") / "two"
    begin(data, run, "--schedule", "constant")
    return run


def test_two_epochs_and_three_more_equal_five(data: Path, tmp_path: Path) -> None:
    begin(data, tmp_path / "run", "--schedule", "constant", "--threads", 1)
    begin(data, tmp_path / "whole", "--schedule", "constant", epochs=5)
    resumed = fastmlp("--resume", tmp_path / "run", "--epochs", 5, "--threads", "auto", "--json")
    assert resumed.exit_code == 0, resumed.output
    assert "going on after epoch 2 of 5" in resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 5
    assert result(tmp_path / "run") == result(tmp_path / "whole")
    records = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "whole")]
    assert records[0]["settings"] == records[1]["settings"]
    epochs = [read_checkpoint(path).state.epoch for path in Checkpoints(tmp_path / "run" / "checkpoints").files()]
    assert epochs == [4, 5], "the run keeps checkpoints as before"
    assert not list((tmp_path / "run").rglob("*lock"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_process_that_was_killed_or_terminated_goes_on(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    run, options = tmp_path / "run", [*SMALL, "--data", str(data), "--epochs", "300", "--output"]
    every = ["--checkpoint-every", "1"] if number == signal.SIGKILL else []
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "train", *options, str(run), *every],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    time.sleep(0.05)  # into some later epoch
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), stderr
    assert ("go on with: fastmlp train --resume " in stderr) == (number == signal.SIGTERM)
    reached = Checkpoints(run / "checkpoints").load().state.epoch
    assert reached < 300
    resumed = fastmlp("--resume", run)
    assert resumed.exit_code == 0, resumed.output
    assert f"going on after epoch {reached} of 300" in resumed.stderr
    assert fastmlp(*options, tmp_path / "whole").exit_code == 0
    assert result(run) == result(tmp_path / "whole")


@pytest.mark.parametrize(
    "options", [[], ["--epochs", "2"], ["--lr", "0.1", "--layers", "8"]], ids=["", "epochs", "same"]
)
def test_a_finished_run_says_so(run_of_two: Path, options: list[str]) -> None:
    before = {path: path.read_bytes() for path in run_of_two.iterdir() if path.is_file()}
    done = fastmlp("--resume", run_of_two, *options)
    assert done.exit_code == 0
    assert "the run is complete (finished)" in done.stderr
    assert json.loads(fastmlp("--resume", run_of_two, "--json", "--quiet").stdout)["test_accuracy"] > 0.5
    assert {path: path.read_bytes() for path in run_of_two.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layers", "8,9"], "--layers: must stay '8', as the run began (got '8,9')"),
        (["--lr", "0.2"], "--lr: must stay 0.1, as the run began (got 0.2)"),
        (["--seed", "0"], "--seed: must stay 3, as the run began (got 0)"),
        (["--no-shuffle"], "--no-shuffle: must stay True"),
        (["--keep-last"], "--keep-last: must stay True"),
        (["--patience", "3"], "--patience: must stay None"),
        (["--epochs", "1"], "--epochs: must be at least the 2 of the run (got 1)"),
        (["--output", "elsewhere"], "--output: is for new runs"),
        (["--force"], "--force: is for new runs"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_contradicts_the_run_is_refused(run_of_two: Path, options: list[str], words: str) -> None:
    refused = fastmlp("--resume", run_of_two, *options)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"Error: {words}")
    assert refused.stderr.count("\n") == 1


def test_what_stands_in_the_environment_is_for_new_runs(run_of_two: Path) -> None:
    assert fastmlp("--resume", run_of_two, FASTMLP_TRAIN_LR="0.7", FASTMLP_TRAIN_OUTPUT="x").exit_code == 0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_over_all_epochs_allows_no_more_of_them(data: Path, tmp_path: Path, schedule: str) -> None:
    begin(data, tmp_path / "run", "--schedule", schedule)
    refused = fastmlp("--resume", tmp_path / "run", "--epochs", 3)
    assert refused.exit_code == 2
    assert f"--epochs: must stay 2: the {schedule} schedule is spread over all of them (got 3)" in refused.stderr


def test_other_data_are_refused_and_the_same_elsewhere_are_not(data: Path, tmp_path: Path) -> None:
    moved, run = tmp_path / "moved.npz", tmp_path / "run"
    moved.write_bytes(data.read_bytes())
    begin(moved, run, "--schedule", "constant")
    moved.unlink()
    assert fastmlp("--resume", run, "--epochs", 3).exit_code == 4
    samples = pixels(500, 12, 3, seed=8)
    np.savez(moved, X=samples.X, y=samples.y)
    refused = fastmlp("--resume", run, "--epochs", 3)
    assert refused.exit_code == 5
    assert "the data are not those that the checkpoint was trained on" in refused.stderr
    assert fastmlp("--resume", run, "--epochs", 3, "--data", data).exit_code == 0


def test_without_a_checkpoint_there_is_nothing_to_resume(data: Path, tmp_path: Path) -> None:
    missing = fastmlp("--resume", tmp_path / "missing")
    assert (missing.exit_code, "--resume: " in missing.stderr, "no such run folder" in missing.stderr) == (
        2,
        True,
        True,
    )
    (tmp_path / "file").touch()
    assert "is not a folder" in fastmlp("--resume", tmp_path / "file").stderr
    (tmp_path / "empty").mkdir()
    empty = fastmlp("--resume", tmp_path / "empty")
    assert (empty.exit_code, "there is no checkpoint to go on from" in empty.stderr) == (5, True)
    options = [*SMALL, "--data", data, "--schedule", "constant", "--epochs", 2]
    assert fastmlp(*options, "--output", tmp_path / "plain").exit_code == 0
    assert fastmlp("--resume", tmp_path / "plain").exit_code == 0, "it is finished"
    more = fastmlp("--resume", tmp_path / "plain", "--epochs", 3)
    assert (more.exit_code, "there is no checkpoint to go on from" in more.stderr) == (5, True)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_diverged_run_is_not_repeated(data: Path, tmp_path: Path) -> None:
    options = ["--activation", "identity", "--lr", "1e20", "--data", data, "--checkpoint-every", 1]
    assert fastmlp(*SMALL, *options, "--output", tmp_path / "run").exit_code == 1
    again = fastmlp("--resume", tmp_path / "run")
    assert again.exit_code == 1
    assert "the training diverged and would do so again" in again.stderr


def test_a_run_that_replaces_another_is_the_one_that_goes_on(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(data, run, "--schedule", "constant")
    begin(data, run, "--schedule", "constant", "--batch-size", 16, "--force", epochs=1)
    assert fastmlp("--resume", run, "--epochs", 3).exit_code == 0
    begin(data, tmp_path / "whole", "--schedule", "constant", "--batch-size", 16, epochs=3)
    assert result(run) == result(tmp_path / "whole")
    options = [*SMALL, "--data", data, "--epochs", 1]
    assert fastmlp(*options, "--output", run, "--force").exit_code == 0
    assert not (run / "checkpoints").exists(), "a run without checkpoints must not be taken for the one before"


def test_a_run_killed_while_it_replaces_another_is_not_taken_for_finished(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(data, run, "--schedule", "constant")
    record = (run / "config.json").read_bytes()
    begin(data, run, "--schedule", "constant", "--batch-size", 16, "--force")
    (run / "config.json").write_bytes(record)  # as if killed before the result was written
    resumed = fastmlp("--resume", run)
    assert "going on after epoch 2 of 2" in resumed.stderr
    assert json.loads((run / "config.json").read_text())["settings"]["batch_size"] == 16


def test_two_processes_cannot_work_on_one_run(run_of_two: Path, data: Path) -> None:
    with RunFolder.reopen(run_of_two):
        for options in (["--resume", run_of_two], ["--data", data, "--output", run_of_two, "--force"]):
            refused = fastmlp(*options)
            assert refused.exit_code == 2
            assert f"{run_of_two}: in use by process {os.getpid()} since 2" in refused.stderr


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(data: Path, tmp_path: Path) -> None:
    begin(data, tmp_path / "run", "--schedule", "constant")
    newest = Checkpoints(tmp_path / "run" / "checkpoints").files()[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"checkpoint-3.safetensors: .*; going on from checkpoint-2.safetensors"):
        resumed = fastmlp("--resume", tmp_path / "run", "--epochs", 3)
    assert resumed.exit_code == 0, resumed.output
    begin(data, tmp_path / "whole", "--schedule", "constant", epochs=3)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": None}, "does not say the settings"),
        ({"settings": {"epochs": 2}}, "does not say the settings"),
        ({"settings.epochs": "2"}, "says epochs '2', which cannot be"),
        ({"settings.epochs": True}, "says epochs 'True', which cannot be"),
        ({"settings.layers": 8}, "says layers '8', which cannot be"),
        ({"settings.layers": ["x"]}, "says layers"),
        ({"settings.data": None}, "says data 'None', which cannot be"),
        ({"settings.data": "\0"}, "null"),
        ({"settings.threads": 10**9}, "says threads '1000000000'"),
        ({"settings.batch_size": 16}, "has batch_size 32, this training 16"),
        ({"settings.schedule": "none"}, "--schedule: must be one of"),
        ({"settings.seed": 4}, "seed 3, this training 4"),
        ({"settings.n_train": -1}, "says n_train '-1'"),
        ({"checkpoint_every": 0}, "says checkpoint_every '0'"),
        ({"started": "yesterday"}, "does not say when the run began"),
        ({"made_with": 5}, ""),
    ],
    ids=str,
)
def test_a_forged_note_is_refused(run_of_two: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = Checkpoints(run_of_two / "checkpoints").files()[-1].read_bytes()
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])["__metadata__"]["fastmlp_checkpoint"]
    description, tensors = json.loads(entry.partition(" ")[2]), load(content)
    for name, value in change.items():
        *path, last = name.split(".")
        inner = description["note"]
        for step in path:
            inner = inner[step]
        inner[last] = value
    text = json.dumps(description)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    forged = save(tensors, {"fastmlp_checkpoint": f"{_checksum(text, tensors)} {text}"})
    (tmp_path / "run" / "checkpoints" / "checkpoint-1.safetensors").write_bytes(forged)
    resumed = fastmlp("--resume", tmp_path / "run")
    if not words:
        assert resumed.exit_code == 0, resumed.output
        assert "are not as at the checkpoint" in resumed.stderr
        return
    assert resumed.exit_code in (1, 2, 4, 5)
    assert resumed.stderr.startswith("Error: ") or "\nError: " in resumed.stderr
    assert "bug in fastmlp" not in resumed.stderr
    assert words in resumed.stderr


def test_the_record_of_a_run_may_be_anything(data: Path, tmp_path: Path) -> None:
    begin(data, tmp_path / "run", epochs=1)
    for text in ("", "[]", "{", "[" * 100_000, "5", "\0"):
        (tmp_path / "run" / "config.json").write_text(text)
        with RunFolder.reopen(tmp_path / "run") as run:
            assert run.record() == {}
    for text in ('{"status": []}', '{"status": "finished", "settings": 5}'):
        (tmp_path / "run" / "config.json").write_text(text)
        assert fastmlp("--resume", tmp_path / "run").exit_code == 0
        assert json.loads((tmp_path / "run" / "config.json").read_text())["status"] == "finished"
