"""Training: what it records, when it stops, what it reports, and every argument that must be refused."""

from __future__ import annotations

import csv
import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.baseline import Baseline
from fastmlp.errors import DivergedError, FastmlpError, TrainingInterrupted
from fastmlp.history import History
from fastmlp.network import Network
from fastmlp.training import Progress, train
from fastmlp.workers import Workers
from tests.small_data import Array, Samples, make_network, pixels, same_bits, table

DTYPES = ("float32", "float64")


def halves(samples: Samples) -> tuple[Samples, tuple[Any, Any]]:
    """Split samples into a training and a validation part."""
    n = len(samples.X) // 2
    return samples._replace(X=samples.X[:n], y=samples.y[:n]), (samples.X[n:], samples.y[n:])


# What is recorded


def test_validation_is_recorded() -> None:
    samples, validation = halves(table(200, 10, 3))
    network = make_network(samples, 8)
    history = train(network, samples.X, samples.y, epochs=3, validation=validation, validations_per_epoch=2)
    assert history.steps_per_epoch == 4
    assert history.step.tolist() == [2, 4, 6, 8, 10, 12]
    assert history.batch_loss.shape == (12,)
    for name in ("validation_loss", "validation_accuracy", "training_accuracy", "elapsed_seconds"):
        assert getattr(history, name).shape == (6,)
    final = network.evaluate(*validation)
    assert (history.validation_loss[-1], history.validation_accuracy[-1]) == final
    assert history.training_accuracy[-1] == network.evaluate(samples.X, samples.y).accuracy
    assert (np.diff(history.elapsed_seconds) > 0).all()
    assert history.elapsed_seconds[-1] <= history.training_seconds
    assert (history.epochs, history.samples) == (3, 300)
    assert history.best_step == history.step[history.validation_loss.argmin()]
    assert not (history.restored or history.stopped_early or history.interrupted)


@pytest.mark.parametrize(("validations", "steps"), [(1, [7]), (2, [3, 7]), (3, [2, 4, 7]), (7, [1, 2, 3, 4, 5, 6, 7])])
def test_validations_are_spread_over_the_epoch(validations: int, steps: list[int]) -> None:
    samples = table(70, 4, 2)
    network = make_network(samples)
    validation = samples.X, samples.y
    history = train(
        network,
        *validation,
        epochs=1,
        batch_size=10,
        validation=validation,
        validations_per_epoch=validations,
    )
    assert history.step.tolist() == steps


@pytest.mark.parametrize(("drop_last", "seen"), [(False, 303), (True, 288)])
def test_samples_are_counted(drop_last: bool, seen: int) -> None:
    samples = table(101, 4, 2)
    history = train(make_network(samples), samples.X, samples.y, epochs=3, drop_last=drop_last)
    assert history.samples == seen
    assert history.samples_per_second == pytest.approx(seen / history.training_seconds)


@pytest.mark.parametrize(("share_of_zeros", "path"), [(0.3, "dense"), (0.8, "background-skipping")])
def test_the_input_path_follows_from_the_density(share_of_zeros: float, path: str) -> None:
    samples = pixels(100, 20, density=1 - share_of_zeros)
    network = make_network(samples, 5)
    history = train(network, samples.X, samples.y, epochs=1)
    assert history.input_path == path
    assert network.skip_background == (path == "background-skipping")
    assert history.input_density == np.count_nonzero(samples.X) / samples.X.size


def test_a_mean_of_many_deviations_is_not_taken_as_background() -> None:
    """Adding it back would cost digits: (x - 1000) = x + (-1000) only with as many digits as 1000 has."""
    samples = pixels(100, 20)
    network = make_network(samples, 5, mean=1e5, std=1.0)
    assert train(network, samples.X, samples.y, epochs=1).input_path == "dense"


def test_history_is_written_as_csv_and_json(tmp_path: Path) -> None:
    samples, validation = halves(table(100, 5, 2))
    history = train(make_network(samples, 4), samples.X, samples.y, epochs=2, batch_size=10, validation=validation)
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [5, 10]
    assert float(rows[1]["training_loss"]) == pytest.approx(history.batch_loss[5:].mean())
    assert float(rows[1]["validation_loss"]) == history.validation_loss[1]
    history.to_json(tmp_path / "history.json")
    record = json.loads((tmp_path / "history.json").read_text())
    assert record["batch_loss"] == history.batch_loss.tolist()
    assert record == history.to_dict()


# Early stopping


def _overfitting() -> tuple[Network, Samples, dict[str, Any]]:
    """Make a network that learns random labels, so that the validation loss soon rises."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(60, 10)), random.integers(0, 3, 60)
    samples = Samples(X, y, np.zeros(()), np.ones(()))
    validation = random.normal(size=(60, 10)), random.integers(0, 3, 60)
    options = {"epochs": 200, "batch_size": 10, "learning_rate": 0.3, "validation": validation}
    return make_network(samples, 30, activation="tanh"), samples, options


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_stops_and_the_best_weights_are_restored(patience: int) -> None:
    network, samples, options = _overfitting()
    history = train(network, samples.X, samples.y, patience=patience, **options)
    assert history.stopped_early
    assert history.restored
    best = int(history.validation_loss.argmin())
    assert len(history.step) == best + 1 + patience
    assert history.best_step == history.step[best]
    assert history.epochs == len(history.step) < 200
    assert network.evaluate(*options["validation"]).loss == history.validation_loss[best]


def test_without_restoring_the_last_weights_stay() -> None:
    network, samples, options = _overfitting()
    history = train(network, samples.X, samples.y, patience=2, restore_best=False, **options)
    assert history.stopped_early
    assert not history.restored
    assert network.evaluate(*options["validation"]).loss == history.validation_loss[-1] > history.validation_loss.min()


# Progress


def test_progress_tells_how_far_the_training_is() -> None:
    samples, validation = halves(table(200, 10, 3))
    reports: list[Progress] = []
    network = make_network(samples, 8)
    history = train(network, samples.X, samples.y, epochs=4, validation=validation, progress=reports.append)
    assert reports[0].message == "compiling kernels"
    assert (reports[0].step, reports[0].epoch) == (0, 1)
    assert math.isnan(reports[0].loss)
    assert reports[0].validation_loss is None
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert {4, 8, 12, 16} <= set(steps), "one at each validation"
    last = reports[-1]
    assert (last.step, last.steps, last.epoch, last.epochs) == (16, 16, 4, 4)
    assert last.validation_loss == history.validation_loss[-1]
    assert last.validation_accuracy == history.validation_accuracy[-1]
    assert last.remaining_seconds == 0
    assert last.elapsed_seconds == history.training_seconds
    assert last.samples_per_second == pytest.approx(history.samples_per_second)
    assert last.loss == pytest.approx(history.batch_loss[reports[-2].step :].mean(), rel=0.5)


# Divergence


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_divergence_is_told_and_the_last_finite_weights_are_kept(dtype: str, threads: int) -> None:
    samples = table(320, 10, 3)
    network = make_network(samples, 16, 40, activation="identity", dtype=dtype)
    with pytest.raises(DivergedError, match="the loss is not finite in epoch") as caught:
        train(network, samples.X, samples.y, epochs=100, learning_rate=50.0, schedule="linear", threads=threads)
    error = caught.value
    assert isinstance(error, (FastmlpError, ArithmeticError))
    history = error.history
    assert error.step == len(history.batch_loss)
    assert error.epoch == (error.step - 1) // 10 + 1 == history.epochs + 1
    assert error.learning_rate == pytest.approx(50 * (1 - (error.step - 1) / 1000))
    assert f"learning rate {error.learning_rate:g}" in str(error)
    assert "\n" not in str(error)
    assert not np.isfinite(history.batch_loss[-1])
    assert np.isfinite(history.batch_loss[:-1]).all()
    for array in network.weights + network.biases:
        assert np.isfinite(array).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("row", [28, 42])
def test_a_divergence_in_a_stretch_keeps_the_steps_before(row: int, threads: int) -> None:
    """The first mini-batch of a stretch, or one within it; the mini-batches before learn nothing of it."""
    samples = pixels(60, 90)
    samples = samples._replace(X=samples.X.astype(np.float32) / 255)
    network = make_network(samples, 40, activation="tanh", mean=0.2, std=0.25)
    reference = network.copy()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 4, "shuffle": False, "threads": threads}
    before = row // 4 * 4
    train(reference, samples.X[:before], samples.y[:before], **options)
    samples.X[row] = np.where(samples.X[row] > 0, 3e38, 0)  # overflows when it is standardised
    with pytest.raises(DivergedError) as caught:
        train(network, samples.X, samples.y, **options)
    assert caught.value.step == row // 4 + 1
    assert same_bits(network, reference)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["stretches", "waiting"])
def test_ctrl_c_before_the_next_call_runs_loses_no_step(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = pixels(60, 90, density=0.05)
    network = make_network(samples, 40)
    reference = network.copy()
    options = {"epochs": 1, "batch_size": 4, "shuffle": False, "learning_rate": 0.01, "threads": 1} | options
    run, runs = Workers.run, itertools.count()

    def interrupted(self: Workers, *arguments: Any) -> None:
        if next(runs) == 6:
            raise KeyboardInterrupt
        run(self, *arguments)

    monkeypatch.setattr(Workers, "run", interrupted)
    validation = {"validation": (samples.X[:5], samples.y[:5]), "validations_per_epoch": 15}
    with pytest.raises(TrainingInterrupted) as caught:
        train(network, samples.X, samples.y, **options, **validation)
    done = len(caught.value.history.batch_loss)
    assert 0 < done < 7, "in the midst of a stretch"
    monkeypatch.undo()
    train(reference, samples.X[: 4 * done], samples.y[: 4 * done], **options)
    assert same_bits(network, reference)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["stretches", "waiting"])
def test_going_back_after_an_overflow_loses_no_step(options: dict[str, Any]) -> None:
    """What a stretch or momentum owes to the weights is part of the last finite ones."""
    samples = pixels(60, 90, density=0.05)
    samples = samples._replace(X=samples.X.astype(np.float32) * 1e-6)
    network = make_network(samples, 40, activation="identity", mean=0.0, std=1.0)
    network.weights = [network.weights[0] * 1e-3, network.weights[1]]
    reference = network.copy()
    options = {"epochs": 1, "batch_size": 4, "shuffle": False, "learning_rate": 20.0, "threads": 1} | options
    train(reference, samples.X[:8], samples.y[:8], **options)
    # a segment for each step; the loss of the third is still finite, the weights after it are not
    validation = {"validation": (samples.X[:5].copy(), samples.y[:5]), "validations_per_epoch": 15}
    samples.X[8] = np.where(samples.X[8] > 0, 3e38, 0)
    with pytest.raises(DivergedError) as caught:
        train(network, samples.X, samples.y, **options, **validation)
    assert caught.value.step == 3
    assert same_bits(network, reference)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_overflow_in_the_last_step_are_a_divergence(dtype: str) -> None:
    """The loss is taken before the step, so no loss shows it."""
    samples = table(20, 10, 3)
    network = make_network(samples, dtype=dtype)
    before = network.copy()
    with pytest.raises(DivergedError, match="epoch 1 "):
        train(network, samples.X, samples.y, epochs=1, learning_rate=float(np.finfo(dtype).max), l2=1e3)
    assert same_bits(network, before)


def test_a_divergence_with_early_stopping_keeps_finite_weights() -> None:
    samples = table(320, 10, 3)
    network = make_network(samples, 16, 40, activation="identity")
    with pytest.raises(DivergedError) as caught:
        train(
            network, samples.X, samples.y, epochs=100, learning_rate=50.0, patience=90,
            validation=(samples.X, samples.y), validations_per_epoch=10,
        )  # fmt: skip
    assert len(caught.value.history.validation_loss) > 1
    assert not caught.value.history.restored
    assert caught.value.history.best_step is None
    for array in network.weights + network.biases:
        assert np.isfinite(array).all()


def test_a_validation_that_is_not_a_number_is_not_the_best() -> None:
    """Samples may be so large that the sums of the first weights overflow, but not those of later, smaller ones."""
    network = Network.from_parameters([np.array([[8.0, 8.0], [8.0, 8.0]], np.float32)], [np.zeros(2)])
    largest = float(np.finfo(np.float32).max)
    held_out = np.full((2, 2), largest), [0, 1]
    history = train(
        network, np.zeros((4, 2)), [0, 1, 0, 1], epochs=6, batch_size=4, learning_rate=0.1, l2=8.0,
        validation=held_out, patience=6,
    )  # fmt: skip
    assert np.isnan(history.validation_loss[0])
    assert np.isfinite(history.validation_loss[-1])
    best = int(np.nanargmin(history.validation_loss))
    assert history.best_step == history.step[best]


def test_a_diverged_network_can_be_trained_again() -> None:
    samples = table(100, 10, 3)
    network = make_network(samples, 16, activation="identity")
    start = network.copy()
    with pytest.raises(DivergedError):
        train(network, samples.X, samples.y, epochs=100, learning_rate=100.0)
    network.weights, network.biases = start.weights, start.biases
    assert np.isfinite(train(network, samples.X, samples.y, epochs=1, learning_rate=0.01).batch_loss).all()


# Data at the edges


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_huge_and_tiny_features_are_learnt_after_standardisation(scale: float, dtype: str) -> None:
    samples = table(200, 10, 3, dtype=dtype)
    X = samples.X * np.asarray(scale, samples.X.dtype)
    scaled = samples._replace(X=X, mean=samples.mean * scale, std=samples.std * scale)
    network = make_network(scaled, 8, dtype=dtype)
    history = train(network, X, samples.y, epochs=20)
    reference = make_network(samples, 8, dtype=dtype)
    expected = train(reference, samples.X, samples.y, epochs=20)
    np.testing.assert_allclose(history.batch_loss, expected.batch_loss, rtol=1e-3)


def test_subnormal_inputs_count_as_zero() -> None:
    """They would cost a hundred times an ordinary operation."""
    X = np.full((50, 6), 1e-40, np.float32)
    y = np.arange(50) % 2
    networks = [Network((6, 4, 2)) for _ in range(2)]
    train(networks[0], X, y, epochs=2)
    train(networks[1], np.zeros_like(X), y, epochs=2)
    assert same_bits(*networks)
    network = Network((6, 4, 2))
    assert network.predict_proba(X).tobytes() == network.predict_proba(np.zeros_like(X)).tobytes()


@pytest.mark.parametrize("kind", ["zeros", "one sample", "one class", "one feature", "more classes than samples"])
def test_unusual_data_trains(kind: str) -> None:
    samples = table(40, 5, 3)
    X, y = samples.X, samples.y
    layers = (5, 4, 3)
    if kind == "zeros":
        X = np.zeros_like(X)
    elif kind == "one sample":
        X, y = X[:1], y[:1]
    elif kind == "one class":
        y = np.full_like(y, 2)
    elif kind == "one feature":
        X, layers = X[:, :1].copy(), (1, 4, 3)
    else:
        layers = (5, 4, 1000)
    network = Network(layers)
    history = train(network, X, y, epochs=3, validation=(X, y))
    assert np.isfinite(history.batch_loss).all()
    assert np.isfinite(network.predict_proba(X)).all()


def test_the_data_is_not_changed() -> None:
    samples = pixels(100, 10, 3)
    X, y = samples.X.copy(), samples.y.copy()
    X.flags.writeable = y.flags.writeable = False
    train(make_network(samples, 4), X, y, epochs=1, validation=(X, y))
    np.testing.assert_array_equal(X, samples.X)


def test_labels_changed_meanwhile_do_no_harm() -> None:
    """They are indices into memory, so a copy of the checked ones is used."""
    samples = table(100, 6, 3)
    y = samples.y.astype(np.int32)
    networks = [make_network(samples, 5) for _ in range(2)]

    def spoil(progress: Progress) -> None:
        y[:] = 10**6

    train(networks[0], samples.X, y, epochs=3, progress=spoil)
    train(networks[1], samples.X, samples.y, epochs=3)
    assert y[0] == 10**6
    assert same_bits(*networks)


def test_samples_changed_meanwhile_do_no_harm() -> None:
    """They are not copied. What is learnt is then anybody's guess, but no kernel takes a sample for an index."""
    for samples in (pixels(300, 40, 3), table(300, 40, 3, dtype="float32")):
        X = samples.X.copy()
        stop = threading.Event()

        def spoil(X: Array = X, stop: threading.Event = stop) -> None:
            random = np.random.default_rng(0)
            while not stop.is_set():
                X[...] = random.integers(0, 3, X.shape) * 10 ** random.integers(0, 3)

        thread = threading.Thread(target=spoil)
        thread.start()
        try:
            network = make_network(samples, 20, 8)
            train(network, X, samples.y, epochs=60, threads=2, learning_rate=1e-4, validation=(X, samples.y))
        except DivergedError:
            pass
        finally:
            stop.set()
            thread.join()
        for array in (*network.weights, *network.biases):
            assert np.isfinite(array).all()


# What must be refused

BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs 0": ({"epochs": 0}, "epochs must be a whole number from 1"),
    "epochs -1": ({"epochs": -1}, "epochs must be a whole number from 1"),
    "absurd epochs": ({"epochs": 10**30}, "epochs must be a whole number from 1"),
    "epochs 1.5": ({"epochs": 1.5}, "epochs must be a whole number from 1"),
    "epochs True": ({"epochs": True}, "epochs must be a whole number from 1"),
    "batch_size 0": ({"batch_size": 0}, "batch_size must be a whole number >= 1"),
    "batch_size text": ({"batch_size": "32"}, "batch_size must be a whole number >= 1"),
    "learning_rate 0": ({"learning_rate": 0}, "learning_rate must be a finite number > 0"),
    "learning_rate -1": ({"learning_rate": -1.0}, "learning_rate must be a finite number > 0"),
    "learning_rate nan": (
        {"learning_rate": math.nan},
        r"learning_rate must be a finite number > 0 \(got nan\)",
    ),
    "learning_rate inf": ({"learning_rate": math.inf}, "learning_rate must be a finite number > 0"),
    "learning_rate text": ({"learning_rate": "fast"}, "learning_rate must be a finite number > 0"),
    "absurd learning_rate": ({"learning_rate": 10**400}, "learning_rate must be a finite number > 0"),
    "schedule": ({"schedule": "step"}, "schedule must be one of constant, linear, cosine"),
    "momentum 1": ({"momentum": 1.0}, "momentum must be a finite number >= 0 and < 1"),
    "momentum -0.1": ({"momentum": -0.1}, "momentum must be a finite number >= 0 and < 1"),
    "momentum nan": ({"momentum": math.nan}, "momentum must be a finite number >= 0 and < 1"),
    "nesterov alone": ({"nesterov": True}, "nesterov needs momentum > 0"),
    "l2 -1": ({"l2": -1}, "l2 must be a finite number >= 0"),
    "l2 inf": ({"l2": math.inf}, "l2 must be a finite number >= 0"),
    "seed -1": ({"seed": -1}, "seed must be a whole number from 0 to 4294967295"),
    "large seed": ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295"),
    "validations 0": ({"validations_per_epoch": 0}, "validations_per_epoch must be a whole number >= 1"),
    "too many validations": (
        {"validations_per_epoch": 3},
        r"validations_per_epoch must be at most the 2 batches of an epoch \(got 3\)",
    ),
    "patience 0": ({"patience": 0}, "patience must be a whole number >= 1"),
    "patience alone": ({"patience": 3}, "patience needs validation samples"),
    "shuffle text": ({"shuffle": "no"}, r"shuffle must be True or False \(got 'no'\)"),
    "nesterov 1": ({"nesterov": 1, "momentum": 0.5}, "nesterov must be True or False"),
    "drop_last None": ({"drop_last": None}, "drop_last must be True or False"),
    "restore_best text": ({"restore_best": "False"}, "restore_best must be True or False"),
    "progress": ({"progress": 5}, r"progress must be callable \(got 5\)"),
    "checkpoints path": ({"checkpoints": "folder"}, r"checkpoints must be a fastmlp\.Checkpoints \(got 'folder'\)"),
    "resume path": ({"resume": "folder"}, r"resume must be a fastmlp\.Checkpoint \(got 'folder'\)"),
    "threads 0": ({"threads": 0}, "threads must be a whole number from 1"),
    "threads -1": ({"threads": -1}, "threads must be a whole number from 1"),
    "threads text": ({"threads": "all"}, "threads must be a whole number from 1"),
    "absurd threads": ({"threads": 10**9}, "threads must be a whole number from 1 to"),
    "validation features": ({"validation": (np.zeros((2, 9)), [0, 1])}, "validation X has 9 features"),
    "validation label": ({"validation": (np.zeros((2, 4)), [0, 7])}, "validation y: label 7 is not among"),
    "validation length": ({"validation": (np.zeros((2, 4)), [0])}, "2 samples but 1 labels in validation y"),
    "no validation": ({"validation": (np.zeros((0, 4)), [])}, "validation X: no samples"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_refused_and_nothing_is_trained(name: str) -> None:
    options, message = BAD_OPTIONS[name]
    network = Network((4, 3, 2))
    before = network.copy()
    X, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        train(network, X, y, **({"epochs": 1} | options))
    assert "\n" not in str(caught.value)
    assert same_bits(network, before)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((0, 4)), [], "X: no samples"),
        (np.zeros((2, 5)), [0, 1], "X has 5 features, but the network expects 4"),
        (np.full((2, 4), np.nan), [0, 1], r"X contains NaN.* \(row 0, column 0\)"),
        (np.zeros((2, 4)), [0, 2], r"y: label 2 is not among the classes 0\.\.1"),
        (np.zeros((2, 4)), [0, -1], r"y: label -1 is not among the classes 0\.\.1"),
        (np.zeros((2, 4)), [0], "2 samples but 1 labels in y"),
    ],
)
def test_bad_data_is_refused(X: Any, y: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        train(Network((4, 3, 2)), X, y, epochs=1)


@pytest.mark.parametrize("validation", [5, (np.zeros((2, 4)),), (np.zeros((2, 4)), [0, 1], [0, 1]), "a"])
def test_validation_must_be_samples_and_labels(validation: Any) -> None:
    with pytest.raises(TypeError, match=r"validation must be a pair \(X, y\) of samples and labels"):
        train(Network((4, 3, 2)), np.zeros((2, 4)), [0, 1], epochs=1, validation=validation)


def test_a_batch_is_at_most_all_samples() -> None:
    samples = table(30, 4, 2)
    networks = [make_network(samples) for _ in range(2)]
    histories = [
        train(network, samples.X, samples.y, epochs=2, batch_size=size)
        for network, size in zip(networks, (30, 10**12), strict=True)
    ]
    assert isinstance(histories[1], History)
    assert histories[1].steps_per_epoch == 1
    assert same_bits(*networks)


def test_training_continues_from_where_the_network_is() -> None:
    samples = table(100, 6, 3)
    network = make_network(samples, 5)
    train(network, samples.X, samples.y, epochs=1)
    twin = Baseline.of(network)
    history = train(network, samples.X, samples.y, epochs=1, shuffle=False, threads=1)
    first = twin.loss(twin.forward(twin.standardise(samples.X[:32]))[-1], samples.y[:32])
    assert history.batch_loss[0] == pytest.approx(first, rel=1e-5)


def test_each_validation_sees_the_weights_of_its_epoch() -> None:
    """What a predictor keeps follows from the weights; they change while it is kept."""
    samples = pixels(200, 50)
    network = make_network(samples, 20)
    history = train(network, samples.X, samples.y, epochs=3, validation=(samples.X, samples.y))
    loss, _ = network.evaluate(samples.X, samples.y)
    assert history.validation_loss[-1] == pytest.approx(loss, rel=1e-6)
