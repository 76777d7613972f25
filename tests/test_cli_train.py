"""``fastmlp train``: a run folder that says everything, and trainings that do not end well."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastmlp import Network, load_dataset
from fastmlp.cli import program
from fastmlp.cli.interrupts import Interrupts
from fastmlp.kernels.compiler import cache_root
from tests.dataset_files import small_arrays, write_idx_folder

FILES = ["config.json", "curves.png", "history.csv", "history.json", "model.safetensors"]
SMALL = ["train", "--layers", "8", "--epochs", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that are easy to tell apart, as an .npz file."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 600)
    X = random.normal(size=(600, 6)) + 8.0 * np.eye(3, 6)[y]
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, X=X.astype(np.float32), y=y)
    return path


def train(data: Path, *arguments: str) -> Result:
    """Train on the small data set in this process."""
    return CliRunner().invoke(program, [*SMALL, "--data", str(data), *arguments])


def start(data: Path | str, *arguments: str) -> subprocess.Popen[str]:
    """Start a training in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "train", "--data", str(data), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_leaves_a_complete_folder(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(data, "--output", str(run), "--seed", "5")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in run.iterdir()) == FILES
    for name in ("Network", "Parameters", "Test loss", "Test accuracy", "Speed", "Threads", "Run folder"):
        assert re.search(rf"^{name} ", result.stdout, re.MULTILINE)

    config = json.loads((run / "config.json").read_text())
    dataset = load_dataset(data)
    assert config["status"] == "finished"
    assert config["settings"]["seed"] == 5
    assert config["settings"]["layers"] == [8]
    assert config["network"] == {"layers": [6, 8, 3], "parameters": 6 * 8 + 8 + 8 * 3 + 3}
    assert config["data"]["fingerprint"] == dataset.fingerprint
    assert {"fastmlp", "numba", "numpy"} <= config["versions"].keys()
    assert config["machine"]["cpu"]

    network = Network.load(run / "model.safetensors")
    loss, accuracy = network.evaluate(dataset.X_test, dataset.y_test)
    assert accuracy > 0.9
    assert config["result"]["test_accuracy"] == pytest.approx(accuracy)
    assert config["result"]["test_loss"] == pytest.approx(loss, rel=1e-5)

    rows = list(csv.DictReader(io.StringIO((run / "history.csv").read_text())))
    assert len(rows) == 2
    history = json.loads((run / "history.json").read_text())
    assert len(history["batch_loss"]) == config["result"]["steps"]


def test_json_is_one_document_and_progress_goes_to_stderr(data: Path, tmp_path: Path) -> None:
    result = train(data, "--output", str(tmp_path / "run"), "--json")
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["status"] == "finished"
    assert document["run"] == str(tmp_path / "run")
    assert document["test_accuracy"] > 0.9
    assert "epoch" in result.stderr


def test_quiet_leaves_stderr_empty(data: Path, tmp_path: Path) -> None:
    result = train(data, "--output", str(tmp_path / "run"), "--quiet")
    assert result.stderr == ""
    assert "Test accuracy" in result.stdout


def test_nothing_is_said_about_a_home_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # a folder without permissions would not stop root
    home = tmp_path / "file"
    variables = {"HOME": str(home), "MPLCONFIGDIR": str(home / "mpl"), "FASTMLP_CACHE_DIR": str(cache_root())}
    options = [*SMALL, "--data", str(data), "--output", str(tmp_path / "run"), "--quiet"]
    result = subprocess.run(
        [sys.executable, "-m", "fastmlp", *options],
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    assert result.returncode == 0
    assert result.stderr == ""


def test_the_same_settings_give_the_same_model(data: Path, tmp_path: Path) -> None:
    options = ["--momentum", "0.9", "--nesterov", "--lr", "0.01", "--l2", "1e-4", "--activation", "tanh"]
    for name in ("a", "b"):
        assert train(data, "--output", str(tmp_path / name), *options).exit_code == 0
    first, second = (Network.load(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_options_reach_the_training(data: Path, tmp_path: Path) -> None:
    options = ["--batch-size", "50", "--drop-last", "--n-train", "330", "--validations-per-epoch", "3"]
    document = json.loads(train(data, "--output", str(tmp_path / "run"), "--json", *options).stdout)
    assert document["steps"] == 2 * (330 // 50)
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 1 + 2 * 3


@pytest.mark.parametrize("layers", ["", "none"])
def test_no_hidden_layer_is_softmax_regression(data: Path, tmp_path: Path, layers: str) -> None:
    result = train(data, "--layers", layers, "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert Network.load(tmp_path / "run" / "model.safetensors").layers == (6, 3)


def test_settings_come_from_the_environment(data: Path, tmp_path: Path) -> None:
    variables = {"FASTMLP_TRAIN_EPOCHS": "1", "FASTMLP_TRAIN_SEED": "9", "FASTMLP_TRAIN_DATA": str(data)}
    arguments = ["train", "--layers", "4", "--seed", "10", "--output", str(tmp_path / "run")]
    assert CliRunner().invoke(program, arguments, env=variables).exit_code == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (settings["epochs"], settings["seed"]) == (1, 10)


# Refusals before training


def test_a_folder_with_a_run_is_kept_unless_forced(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(data, "--output", str(run)).exit_code == 0
    before = (run / "model.safetensors").read_bytes()
    refused = train(data, "--output", str(run), "--seed", "1")
    assert refused.exit_code == 2
    assert "exists and is not empty; use --force" in refused.stderr
    assert (run / "model.safetensors").read_bytes() == before
    assert train(data, "--output", str(run), "--seed", "1", "--force").exit_code == 0
    assert (run / "model.safetensors").read_bytes() != before
    assert sorted(path.name for path in run.iterdir()) == FILES


def test_a_model_that_does_not_fit_into_memory_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    result = train(data, "--layers", "784,99999999999,10", "--output", str(tmp_path / "run"))
    assert result.exit_code == 1
    assert re.search(r"model needs \S+ [TP]B for weights and training state, \S+ [GM]B available", result.stderr)
    assert not (tmp_path / "run").exists()


def test_an_output_folder_is_checked_before_training(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = train(data, "--output", str(tmp_path / "file" / "run"), "--epochs", "1000000")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr


def test_the_folder_of_the_data_is_no_place_for_a_run(tmp_path: Path) -> None:
    """Also where it is written in another way, and --force would put the files of the run among the data."""
    folder = write_idx_folder(tmp_path / "digits", small_arrays())
    before = sorted(folder.iterdir())
    result = train(folder, "--output", str(tmp_path / "digits" / ".." / "digits"), "--force")
    assert result.exit_code == 2
    assert "is the folder of the data" in result.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("source", "words"),
    [("missing.npz", "no such file"), ("empty.npz", "file is empty")],
    ids=["missing", "empty"],
)
def test_bad_data_is_exit_code_4_and_leaves_no_folder(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty.npz").write_bytes(b"")
    result = train(tmp_path / source, "--output", str(tmp_path / "run"))
    assert result.exit_code == 4
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--n-train", "100000"), ("--validations-per-epoch", "100")],
    ids=["n-train", "validations"],
)
def test_settings_that_do_not_fit_the_data_are_wrong_usage(data: Path, tmp_path: Path, option: str, value: str) -> None:
    result = train(data, option, value, "--output", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert re.match(rf"Error: {option}: must be .*\(got {value}\)\n$", result.stderr)
    assert not (tmp_path / "run").exists()


def test_data_beyond_the_allowed_memory_are_refused(data: Path, tmp_path: Path) -> None:
    result = train(data, "--max-bytes", "1kB", "--output", str(tmp_path / "run"))
    assert result.exit_code == 4
    assert "data too large" in result.stderr


def test_doubtful_settings_are_told(data: Path, tmp_path: Path) -> None:
    result = train(data, "--layers", "6,5,3", "--batch-size", "5000", "--output", str(tmp_path / "run"))
    assert "Did you mean --layers 5?" in result.stderr
    assert "each epoch is one batch" in result.stderr


# Trainings that do not end well


class Destroyed:
    """What raises an exception, which Python drops, when it is destroyed."""

    def __init__(self, raises: Callable[[], object]) -> None:
        self.raises = raises

    def __del__(self) -> None:
        self.raises()


def test_an_interruption_that_python_dropped_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    before = sys.unraisablehook
    with Interrupts() as interrupts:
        interrupts.check()
        Destroyed(lambda: signal.default_int_handler(signal.SIGINT, None))  # no signal came
        Destroyed(lambda: signal.raise_signal(signal.SIGINT))
        Destroyed(lambda: signal.raise_signal(signal.SIGTERM))
        Destroyed(lambda: 1 // 0)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert told == [KeyboardInterrupt, ZeroDivisionError]  # not of what is raised again
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.unraisablehook is before


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that embeds Python may have one that Python cannot name, and so could not put back."""
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", dict[int, None]().get)
        interrupts = Interrupts().__enter__()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupts.__exit__()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_an_interrupted_training_keeps_what_was_learnt(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start("mnist", "--layers", "32", "--epochs", "2000", "--output", str(run))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    process.send_signal(number)
    sent = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert time.monotonic() - sent < 20  # far above the half second it takes to stop, far below the training
    assert "Test accuracy" in stdout
    assert "what was learnt is in" in stderr
    assert f"go on with: fastmlp train --resume {run}" in stderr
    assert "Traceback" not in stderr
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", *FILES]
    assert json.loads((run / "config.json").read_text())["status"] == "interrupted"
    dataset = load_dataset("mnist")
    assert Network.load(run / "model.safetensors").evaluate(dataset.X_test, dataset.y_test).accuracy > 0.5


def test_a_diverged_training_is_an_error_that_keeps_the_last_finite_weights(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(data, "--lr", "1e20", "--schedule", "constant", "--activation", "identity", "--output", str(run))
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert re.search(r"diverged.*epoch 1 .*learning rate 1e\+20.*last finite weights", errors[0])
    assert json.loads((run / "config.json").read_text())["status"] == "diverged"
    for weights in Network.load(run / "model.safetensors").weights:
        assert np.isfinite(weights).all()


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_a_terminal_shows_one_live_line(data: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    outer, inner = pty.openpty()
    arguments = [*SMALL, "--epochs", "200", "--data", str(data), "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", *arguments],
        stdout=subprocess.PIPE,
        stderr=inner,
        text=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(inner)
    shown = b""
    while True:
        try:
            piece = os.read(outer, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(outer)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Test accuracy" in stdout
    assert b"samples/s" in shown
    assert b"\x1b[2K" in shown, "the line is erased and drawn again"
