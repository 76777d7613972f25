"""``evaluate``, ``predict``, ``inspect`` and ``gradcheck`` on a network trained once for all of them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fastmlp import Network, load_dataset
from fastmlp.cli import program
from fastmlp.runs import RunFolder
from tests.processes import run_python


def run(*arguments: str | Path) -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def document(*arguments: str | Path) -> Any:
    """Run a command with --json and return what it printed."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small network on a few MNIST images; return the run folder."""
    folder = tmp_path_factory.mktemp("runs") / "mnist"
    options = ["--layers", "16", "--epochs", "2", "--n-train", "5000", "--quiet"]
    result = run("train", *options, "--output", folder)
    assert result.exit_code == 0, result.output
    return folder


# evaluate


def test_evaluate_agrees_with_the_library(model: Path) -> None:
    report = document("evaluate", model)
    network, data = Network.load(model / "model.safetensors"), load_dataset("mnist")
    loss, accuracy = network.evaluate(data.X_test, data.y_test)
    assert report["accuracy"] == pytest.approx(accuracy)
    assert report["loss"] == pytest.approx(loss)
    predicted = network.predict(data.X_test)
    for entry in report["classes"]:
        taken, of_class = predicted == entry["class"], data.y_test == entry["class"]
        assert entry["support"] == of_class.sum()
        assert entry["recall"] == pytest.approx((taken & of_class).sum() / of_class.sum())
        assert entry["precision"] == pytest.approx((taken & of_class).sum() / taken.sum())
    assert np.sum(report["confusion"]) == 10_000


def test_evaluate_prints_every_class_and_the_matrix(model: Path) -> None:
    text = run("evaluate", model).stdout
    assert re.search(r"^Accuracy +\d\d\.\d\d %$", text, re.MULTILINE)
    for digit in range(10):
        assert re.search(rf"^{digit} +\d+\.\d\d %  +\d+\.\d\d %", text, re.MULTILINE)
    assert "Confusion matrix" in text


def test_a_model_file_and_its_run_folder_mean_the_same(model: Path) -> None:
    from_file, from_folder = run("evaluate", model / "model.safetensors"), run("evaluate", model)
    assert from_file.stdout == from_folder.stdout


def test_evaluate_on_the_training_part(model: Path) -> None:
    assert document("evaluate", model, "--part", "train")["samples"] == 60_000


def test_evaluate_draws_a_picture_and_does_not_overwrite_one(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "errors.png"
    assert run("evaluate", model, "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.write_text("mine")
    refused = run("evaluate", model, "--plot", picture)
    assert refused.exit_code == 2
    assert "exists; use --force" in refused.stderr
    assert picture.read_text() == "mine"
    assert run("evaluate", model, "--plot", picture, "--force").exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_data_that_do_not_fit_are_refused(model: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "narrow.npz", X=random.normal(size=(50, 7)), y=np.arange(50) % 3)
    np.savez(tmp_path / "many.npz", X=random.normal(size=(60, 784)), y=np.arange(60) % 12)
    narrow, many = (run("evaluate", model, "--data", tmp_path / name) for name in ("narrow.npz", "many.npz"))
    assert (narrow.exit_code, many.exit_code) == (4, 4)
    assert "samples have 7 features, but the model expects 784" in narrow.stderr
    assert "labels go up to 11, but the model knows classes 0..9" in many.stderr


@pytest.mark.parametrize("command", [["evaluate"], ["inspect"], ["predict", "x.npy"]], ids=lambda words: words[0])
@pytest.mark.parametrize("kind", ["missing", "folder", "pickle", "empty", "damaged"])
def test_a_bad_model_is_refused_in_one_line(model: Path, tmp_path: Path, command: list[str], kind: str) -> None:
    path = tmp_path / "model"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        good = (model / "model.safetensors").read_bytes()
        path.write_bytes({"pickle": b"\x80\x04K\x01.", "empty": b"", "damaged": good[: len(good) // 2]}[kind])
    np.save(tmp_path / "x.npy", np.zeros((1, 784), np.uint8))
    files = [tmp_path / name for name in command[1:]]
    result = run(command[0], path, *files)
    assert result.exit_code == 5, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_folder_of_runs_is_not_a_run(model: Path) -> None:
    result = run("evaluate", model.parent)
    assert result.exit_code == 5
    assert f"no model.safetensors in this folder; did you mean {model}?" in result.stderr


# predict


def test_predict_names_rows_classes_and_probabilities(model: Path, tmp_path: Path) -> None:
    data = load_dataset("mnist")
    np.save(tmp_path / "digits.npy", data.X_test[:5])
    Image.fromarray(data.X_test[7].reshape(28, 28)).save(tmp_path / "one.png")
    network = Network.load(model / "model.safetensors")
    expected = network.predict_proba(data.X_test[[0, 1, 2, 3, 4, 7]])

    printed = document("predict", model, tmp_path / "digits.npy", tmp_path / "one.png")["predictions"]
    assert [entry["class"] for entry in printed] == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose([entry["probabilities"] for entry in printed], expected, rtol=1e-6)
    assert printed[-1]["sample"] == str(tmp_path / "one.png")
    assert printed[2]["sample"] == f"{tmp_path / 'digits.npy'}[2]"

    rows = list(csv.DictReader(io.StringIO(run("predict", model, tmp_path / "digits.npy", "--csv").stdout)))
    assert [int(row["class"]) for row in rows] == expected[:5].argmax(axis=1).tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected[:5].max(axis=1), abs=1e-6)

    lines = run("predict", model, tmp_path / "one.png").stdout.splitlines()
    assert lines[0].split() == ["sample", "class", "probability"]
    assert lines[1].split()[-2] == str(expected[5].argmax())


def test_a_light_picture_is_pointed_out_and_can_be_inverted(model: Path, tmp_path: Path) -> None:
    pixels = load_dataset("mnist").X_test[0].reshape(28, 28)
    Image.fromarray(255 - pixels).save(tmp_path / "ink.png")
    Image.fromarray(pixels).save(tmp_path / "chalk.png")
    assert "light background" in run("predict", model, tmp_path / "ink.png").stderr
    inverted = document("predict", model, tmp_path / "ink.png", "--invert")["predictions"][0]
    original = document("predict", model, tmp_path / "chalk.png")["predictions"][0]
    assert inverted["probabilities"] == original["probabilities"]


def test_csv_defuses_names_that_a_spreadsheet_would_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "=1+1.npy", np.zeros(784, np.uint8))
    assert run("predict", model, "=1+1.npy", "--csv").stdout.splitlines()[1].startswith("'=1+1.npy[0],")


def test_files_that_cannot_be_read_are_exit_code_4(model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    result = run("predict", model, tmp_path / "x.png")
    assert result.exit_code == 4
    assert "not a readable PNG or JPEG picture" in result.stderr


# inspect


def test_inspect_shows_layers_and_training(model: Path) -> None:
    shown = document("inspect", model)
    assert shown["parameters"] == 784 * 16 + 16 + 16 * 10 + 10
    assert [(layer["inputs"], layer["outputs"]) for layer in shown["layers"]] == [(784, 16), (16, 10)]
    assert [layer["activation"] for layer in shown["layers"]] == ["relu", "softmax"]
    assert shown["training"]["settings"]["n_train"] == 5000
    text = run("inspect", model).stdout
    for name in ("Network", "Parameters", "Standardisation", "Trained", "Test accuracy", "Versions"):
        assert re.search(rf"^{name} ", text, re.MULTILINE)


@pytest.mark.parametrize("config", [None, "{", "[]", '{"settings": {}}', '{"settings": 3, "result": {}, "data": {}}'])
def test_inspect_needs_no_record_of_the_training(model: Path, tmp_path: Path, config: str | None) -> None:
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    result = run("inspect", tmp_path)
    assert result.exit_code == 0, result.output
    assert "784-16-10" in result.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "endless", "long"])
def test_a_record_that_is_no_file_of_ours_is_not_read(tmp_path: Path, kind: str) -> None:
    """A named pipe would be waited for, a device read for ever, a long list of lists take thirty times its size."""
    Network((784, 16, 10)).save(tmp_path / "model.safetensors")
    config = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(config)
    elif kind == "endless":
        config.symlink_to("/dev/zero")
    else:
        config.write_text('{"settings": "' + "x" * (1 << 20) + '"}')
    printed = run_python("-m", "fastmlp", "inspect", str(tmp_path), "--json", timeout=30)
    assert json.loads(printed)["training"] is None
    assert RunFolder(tmp_path).record() == {}


# gradcheck


@pytest.mark.parametrize(
    ("layers", "activation"),
    [("", "relu"), ("17", "sigmoid"), ("5,3", "scaled_tanh"), ("9,64", "relu")],
    ids=["softmax", "sigmoid", "scaled tanh", "relu"],
)
def test_gradients_are_right(layers: str, activation: str) -> None:
    options = ["--layers", layers, "--activation", activation, "--checks", "20", "--l2", "0.01"]
    report = document("gradcheck", *options)
    assert report["passed"]
    paths = 2 if layers else 1  # dense and background-skipping
    assert len(report["arrays"]) == paths * 2 * (len(report["layers"]) - 1)
    assert all(entry["worst"] <= report["tolerance"] for entry in report["arrays"])


def test_wrong_gradients_are_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Network.gradients

    def wrong(self: Network, *arguments: object, **settings: object) -> object:
        weights, biases, loss = right(self, *arguments, **settings)  # type: ignore[arg-type]
        return weights, [*biases[:-1], biases[-1] * 1.001], loss

    monkeypatch.setattr(Network, "gradients", wrong)
    result = run("gradcheck", "--layers", "5", "--checks", "20")
    assert result.exit_code == 3
    assert "The gradients are WRONG" in result.stdout
    wrong_lines = [line.split()[:3] for line in result.stdout.splitlines() if line.endswith("WRONG")]
    assert wrong_lines == [["dense", "2", "biases"], ["background-skipping", "2", "biases"]]
