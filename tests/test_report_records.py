"""What is kept of a training, what is measured of it, and result files that are whole or none."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import DivergedError, Network, train
from fastmlp.errors import FastmlpError
from fastmlp.history import History
from fastmlp.report.curves import training_loss_curve, validation_curve
from fastmlp.report.experiments import EXPERIMENTS, Experiment, Protocol
from fastmlp.report.jobs import Job
from fastmlp.report.store import Store
from fastmlp.report.training_record import TrainingRecord, averages
from tests.report_data import STEPS_PER_EPOCH, record
from tests.small_data import pixels

JOB = Job("training", EXPERIMENTS["relu-he"])


# Records


def test_averages_are_those_of_each_ten_losses() -> None:
    losses = np.random.default_rng(0).random(37)
    mean, deviation = averages(losses)
    runs = [losses[i : i + 10] for i in range(0, 37, 10)]
    np.testing.assert_allclose(mean, [run.mean() for run in runs])
    np.testing.assert_allclose(deviation, [run.std() for run in runs], atol=1e-12)
    assert len(averages(np.zeros(0))[0]) == 0


def test_a_record_is_made_from_a_history() -> None:
    samples = pixels(200)
    network = Network((50, 8, 10), mean=samples.mean, std=samples.std)
    history = train(
        network, samples.X, samples.y, epochs=3, validation=(samples.X, samples.y), validations_per_epoch=5, patience=99
    )
    made = TrainingRecord.of("x", 4, network.n_parameters, history, diverged=False, seconds=1.0)
    assert (made.experiment, made.seed, made.status, made.epochs, made.steps) == ("x", 4, "finished", 3, 21)
    assert made.best is not None
    assert made.step[made.best] == history.best_step
    assert made.best_validation_loss == history.validation_loss.min()
    assert made.final_training_accuracy == history.training_accuracy[-1]
    history.stopped_early = True
    assert TrainingRecord.of("x", 4, 1, history, diverged=False, seconds=1.0).status == "stopped early"
    assert TrainingRecord.of("x", 4, 1, history, diverged=True, seconds=1.0).status == "diverged"


def test_measures_of_a_known_course() -> None:
    made = record(
        epochs=6,
        validation_loss=np.linspace(3.0, 0.1, 30),
        validation_accuracy=np.linspace(0.6, 0.989, 30),
        training_accuracy=np.linspace(0.6, 1.0, 30),
    )
    assert made.best == 29
    assert made.best_validation_accuracy == 0.989
    assert made.final_training_accuracy == 1.0
    at = int(np.flatnonzero(made.validation_accuracy >= 0.95)[0])
    assert made.steps_to_target == made.step[at]
    assert made.early_loss == pytest.approx(made.validation_loss[:25].mean()), "the first 5 of 6 epochs"
    gaps = made.training_accuracy - made.validation_accuracy
    assert made.gap_growth == pytest.approx(gaps[25:].mean() - gaps[:5].mean())


def test_measures_of_short_and_strange_courses() -> None:
    none = np.zeros(0)
    empty = record(
        step=none.astype(np.int64), validation_loss=none, validation_accuracy=none, training_accuracy=none, epochs=1
    )
    assert empty.best is None
    assert empty.steps_to_target is None
    for value in (
        empty.best_validation_loss, empty.best_validation_accuracy, empty.final_training_accuracy,
        empty.early_loss, empty.gap_growth, record(epochs=1).gap_growth, record(epochs=4).early_loss,
    ):  # fmt: skip
        assert np.isnan(value)
    five = record(epochs=5)
    assert five.early_loss == pytest.approx(five.validation_loss.mean())
    losses = np.array([np.inf, 0.5, np.nan, 0.4, np.inf])
    assert record(epochs=1, validation_loss=losses).best == 3
    assert record(epochs=1, validation_loss=np.full(5, np.nan)).best is None
    assert record(validation_accuracy=np.zeros(30)).steps_to_target is None


def test_a_record_survives_json() -> None:
    made = record()
    again = TrainingRecord.from_dict(json.loads(json.dumps(made.to_dict(), default=lambda array: array.tolist())))
    assert_same(made, again)


def assert_same(one: TrainingRecord, other: TrainingRecord) -> None:
    for field in dataclasses.fields(TrainingRecord):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


# Curves over seeds


def test_curves_go_on_with_the_seeds_that_do() -> None:
    short, long = record(epochs=2), record(seed=1, epochs=4)
    curve = validation_curve([short, long], "validation_loss")
    assert curve.complete == len(short.step)
    np.testing.assert_array_equal(curve.step, long.step)
    both = np.array([short.validation_loss, long.validation_loss[:10]])
    np.testing.assert_allclose(curve.mean[:10], both.mean(axis=0))
    np.testing.assert_allclose(curve.low[:10], both.min(axis=0))
    np.testing.assert_allclose(curve.high[:10], both.max(axis=0))
    np.testing.assert_array_equal(curve.mean[10:], long.validation_loss[10:])


def test_the_band_of_the_training_loss_is_the_deviation_of_all_batches() -> None:
    losses = np.random.default_rng(0).random((3, 40)) + 1.0
    records = []
    for seed, row in enumerate(losses):
        mean, deviation = averages(row)
        records.append(record(seed=seed, steps=40, loss_mean=mean, loss_deviation=deviation))
    curve = training_loss_curve(records)
    windows = losses.reshape(3, 4, 10).transpose(1, 0, 2).reshape(4, 30)
    np.testing.assert_allclose(curve.mean, windows.mean(axis=1))
    np.testing.assert_allclose(curve.high - curve.mean, windows.std(axis=1))
    np.testing.assert_allclose(curve.mean - curve.low, windows.std(axis=1))
    np.testing.assert_array_equal(curve.step, [5.5, 15.5, 25.5, 35.5])


# Result files


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, Protocol(), "fingerprint")


def network() -> Network:
    return Network((784, 4, 10), seed=3)


def test_a_result_is_found_again(store: Store) -> None:
    assert store.load(JOB) is None
    store.save(JOB, record().to_dict(), network())
    found = store.load(JOB)
    assert found is not None
    assert_same(TrainingRecord.from_dict(found), record())
    assert store.load_network(JOB).weights[0].tobytes() == network().weights[0].tobytes()


def test_only_the_first_seed_keeps_its_network(store: Store) -> None:
    job = Job("training", EXPERIMENTS["relu-he"], 1)
    store.save(job, record().to_dict(), network())
    assert [path.name for path in store.folder.iterdir()] == ["relu-he-seed1.json"]
    assert store.load(job) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"kind": "gradients"},
        *(
            {"experiment": dataclasses.replace(EXPERIMENTS["relu-he"], **change)}
            for change in (
                {"layers": (65,)}, {"activation": "tanh"}, {"init": "lecun"}, {"learning_rate": 0.11}, {"momentum": 0.1}
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_answer_to_another_question_is_not_taken(store: Store, other: dict[str, Any]) -> None:
    store.save(JOB, record().to_dict(), network())
    job = dataclasses.replace(JOB, **other)
    for path in list(store.folder.iterdir()):  # even if its file had the right name
        path.rename(path.with_name(path.name.replace(JOB.name, job.name)))
    assert store.load(job) is None


@pytest.mark.parametrize("change", [{"epochs": 3}, {"n_train": 300}, {"batch_size": 31}, {"patience": 1}], ids=str)
def test_a_result_of_another_protocol_or_other_data_is_not_taken(store: Store, change: dict[str, int]) -> None:
    store.save(JOB, record().to_dict(), network())
    assert Store(store.folder, dataclasses.replace(Protocol(), **change), "fingerprint").load(JOB) is None
    assert Store(store.folder, Protocol(), "other").load(JOB) is None
    retitled = dataclasses.replace(JOB, experiment=dataclasses.replace(JOB.experiment, title="x", tasks=("own",)))
    assert store.load(retitled) is not None


def test_a_truncated_file_is_no_result(store: Store) -> None:
    store.save(JOB, record().to_dict(), network())
    path = store.folder / "relu-he-seed0.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        assert store.load(JOB) is None, length
    path.write_bytes(whole)
    assert store.load(JOB) is not None


def test_a_damaged_file_is_no_result(store: Store) -> None:
    store.save(JOB, record().to_dict(), network())
    random = np.random.default_rng(0)
    for path in list(store.folder.iterdir()):
        whole = path.read_bytes()
        for position in random.integers(0, len(whole) - 1, 60):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(random.integers(8))
            path.write_bytes(damaged)
            found = store.load(JOB)
            if found is not None:  # white space, or a digit of the network's own digest would have been refused
                assert_same(TrainingRecord.from_dict(found), record())
        path.write_bytes(whole)
    (store.folder / "relu-he-seed0.safetensors").unlink()
    assert store.load(JOB) is None
    with pytest.raises(FastmlpError, match="run again with --resume"):
        store.load_network(JOB)


@pytest.mark.parametrize("content", [b"[]", b"null", b'{"key": 3}', b"\xff", b"[" * 100_000], ids=lambda b: str(b[:9]))
def test_foreign_files_are_no_results(store: Store, content: bytes) -> None:
    (store.folder / "relu-he-seed0.json").write_bytes(content)
    assert store.load(JOB) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("name", ["relu-he-seed0.json", "relu-he-seed0.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(store: Store, name: str) -> None:
    store.save(JOB, record().to_dict(), network())
    (store.folder / name).unlink()
    os.mkfifo(store.folder / name)
    assert store.load(JOB) is None


@pytest.mark.parametrize(("owner", "function"), [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str
) -> None:
    """The n-th call fails, for every n until none does."""
    failures = 0
    store.save(JOB, record().to_dict(), network())
    for failing in range(10):
        calls = iter(range(100))
        original = getattr(owner, function)

        def broken(*arguments: Any, calls: Any = calls, original: Any = original, failing: int = failing) -> Any:
            if next(calls) == failing:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, function, broken)
            try:
                store.save(JOB, record(seed=0, decay=0.5).to_dict(), network())
            except FastmlpError as error:
                assert "no space left" in str(error)
                failures += 1
            found = store.load(JOB)
            assert found is not None
        assert not list(store.folder.rglob(".*"))
    assert 0 < failures < 10


def test_remains_of_a_killed_run_are_removed(store: Store) -> None:
    remains = store.folder / ".relu-he-seed0.json.12345678.tmp"
    remains.write_text("{")
    store.save(JOB, record().to_dict(), network())
    store.remove_remains()
    assert not remains.exists()
    assert store.load(JOB) is not None


def test_a_diverged_training_is_a_result() -> None:
    """What it recorded up to then counts."""
    history = History(batch_loss=np.array([1.0, np.inf]), steps_per_epoch=STEPS_PER_EPOCH)
    error = DivergedError(1, 2, 0.1, history)
    made = TrainingRecord.of("x", 0, 1, error.history, diverged=True, seconds=0.1)
    assert made.status == "diverged"
    assert made.best is None


def test_names_of_files_are_names() -> None:
    for experiment in (*EXPERIMENTS.values(), Experiment("a.b-c_d")):
        assert Job("gradients", experiment).name == f"{experiment.name}-gradients"
        assert Job("training", experiment, 3).name == f"{experiment.name}-seed3"
