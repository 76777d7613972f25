"""The command line when the world is unkind: full disks, closed pipes, no streams, an old locale, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from fastmlp import Network

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX pipes, shells and signals")

FILES = ["config.json", "curves.png", "history.csv", "history.json", "model.safetensors"]
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, as an .npz file."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "two.npz"
    np.savez(path, X=random.normal(size=(400, 5)).astype(np.float32), y=np.arange(400) % 2)
    return path


def start(
    *arguments: str | Path,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start a command."""
    command = [sys.executable, "-m", "fastmlp", *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env=os.environ | variables)


def training(data: Path, run: Path, *arguments: str) -> list[str | Path]:
    """Return the arguments of a small training."""
    return ["train", "--layers", "8", "--epochs", "5", "--data", data, "--output", run, *arguments]


def assert_complete(run: Path, status: str = "finished") -> None:
    """See that a run folder holds everything."""
    assert sorted(path.name for path in run.iterdir()) == FILES
    assert json.loads((run / "config.json").read_text())["status"] == status
    assert Network.load(run / "model.safetensors").n_features > 0


# Streams


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_progress_that_cannot_be_written_costs_nothing(data: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        process = start(*training(data, tmp_path / "run"), stderr=full)
        stdout, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "Test accuracy" in stdout
    assert_complete(tmp_path / "run")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_result_that_cannot_be_printed_is_in_the_run_folder(data: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        process = start(*training(data, tmp_path / "run", "--quiet"), stdout=full)
        _, stderr = process.communicate(timeout=100)
    assert process.returncode == 1
    assert stderr == "Error: no space left on device\n"
    assert_complete(tmp_path / "run")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("extra", [[], ["--debug"]], ids=["plain", "debug"])
def test_an_error_that_cannot_be_told_keeps_its_exit_code(extra: list[str]) -> None:
    with FULL.open("w") as full:
        process = start("train", "--lr", "nan", *extra, stderr=full)
        process.communicate(timeout=100)
    assert process.returncode == 2


def test_a_training_whose_reader_goes_away_is_kept(data: Path, tmp_path: Path) -> None:
    """As in ``fastmlp train 2>&1 | head``."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*training(data, tmp_path / "run"), stdout=writing, stderr=writing)
    os.close(writing)
    process.wait(timeout=100)
    assert process.returncode == 141
    assert_complete(tmp_path / "run")


def test_a_training_without_streams(data: Path, tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in training(data, tmp_path / "run"))
    command = f"'{sys.executable}' -m fastmlp {words} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False, timeout=100).returncode == 0
    assert_complete(tmp_path / "run")


def test_names_that_the_locale_cannot_say(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "modèle-π"
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = start(*training(data, run), **variables)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert stdout.isascii() and stderr.isascii()
    assert_complete(run)
    process = start("inspect", run, **variables)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert "5-8-2" in stdout


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5"])
def test_a_number_of_threads_that_numba_would_refuse_is_named(data: Path, tmp_path: Path, value: str) -> None:
    process = start(*training(data, tmp_path / "run"), NUMBA_NUM_THREADS=value)
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == f"Error: NUMBA_NUM_THREADS: must be a whole number >= 1 (got '{value}')\n"
    assert not (tmp_path / "run").exists()


# Signals


def wait_for_progress(process: subprocess.Popen[str]) -> None:
    """Read what a training says until it says how far it is."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            return
    pytest.fail("the training said nothing")


def test_a_second_ctrl_c_ends_at_once_and_costs_no_earlier_run(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*training(data, run, "--quiet"))
    process.communicate(timeout=100)
    assert process.returncode == 0
    process = start(*training(data, run, "--force", "--epochs", "900000", "--batch-size", "400"))
    wait_for_progress(process)
    sent = time.monotonic()
    while process.poll() is None and time.monotonic() < sent + 60:
        process.send_signal(signal.SIGINT)  # somebody loses patience
        time.sleep(0.02)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert Network.load(run / "model.safetensors").layers == (5, 8, 2)
    assert json.loads((run / "config.json").read_text())["status"] in ("finished", "interrupted")
