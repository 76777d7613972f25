"""The same arguments give the same bits: on any number of threads, however often, however it is watched."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from fastmlp.engine import TrainingMemory
from fastmlp.network import Network
from fastmlp.team_size import TeamSize
from fastmlp.training import Progress, train
from tests import golden_weights
from tests.small_data import Samples, make_network, pixels, same_bits, table

DTYPES = ("float32", "float64")

# Wide enough that every thread owns something, deep enough that all kinds of exchange take place.
SHAPES: dict[str, tuple[int, ...]] = {
    "none": (),
    "one": (200,),
    "deep": (64, 64, 64),
    "ten": (64,) * 10,
    "uneven": (300, 17, 120),
    "wide": (500, 390),
}


def trained(samples: Samples, hidden: tuple[int, ...], dtype: str = "float32", **options: Any) -> Network:
    """Train a network of its own for each call."""
    network = make_network(samples, *hidden, activation="tanh", dtype=dtype, n_classes=10)
    arguments: dict[str, Any] = {"epochs": 2, "learning_rate": 0.05, "threads": 1}
    train(network, samples.X, samples.y, **(arguments | options))
    return network


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "skipping"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_threads_gives_the_same_bits(shape: str, kind: str, dtype: str) -> None:
    samples = table(150, 784) if kind == "dense" else pixels(150, 784)
    options = {"momentum": 0.5, "l2": 0.01}
    reference = trained(samples, SHAPES[shape], dtype, **options)
    for threads in (2, 3, 4, None):
        assert same_bits(trained(samples, SHAPES[shape], dtype, threads=threads, **options), reference), threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"batch_size": 100}, {"momentum": 0.9}], ids=str)
def test_threads_do_not_matter_where_wide_layers_skip_units(options: dict[str, Any], dtype: str) -> None:
    """One thread owns many blocks, each of several threads few; a narrow layer is between two wide ones."""
    samples = pixels(150, 100)
    networks = []
    for threads in (1, 2, 3):
        network = make_network(samples, 600, 550, 20, 300, activation="relu", dtype=dtype)
        train(network, samples.X, samples.y, epochs=2, learning_rate=0.05, threads=threads, **options)
        networks.append(network)
    assert same_bits(networks[1], networks[0])
    assert same_bits(networks[2], networks[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "skipping"])
@pytest.mark.parametrize("bounds", [(0, 0.1, 1), (0, 0.8, 1), (0, 0.4, 0.5, 1)], ids=str)
@pytest.mark.parametrize("options", [{"momentum": 0.5, "l2": 0.01}, {"momentum": 0.5}, {"batch_size": 3}], ids=str)
def test_it_does_not_matter_how_groups_are_dealt(
    options: dict[str, Any], bounds: tuple[float, ...], kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evenly until the first validation, then otherwise; of some layers a thread may own nothing."""
    samples = table(150, 100) if kind == "dense" else pixels(150, 100)
    options = options | {"epochs": 3, "validation": (samples.X, samples.y), "threads": len(bounds) - 1}
    reference = trained(samples, (500, 390, 20), dtype, **options)
    dealt = []

    def deal(memory: TrainingMemory, threads: int) -> None:
        dealt.append(threads)
        memory._bounds[threads] = bounds

    monkeypatch.setattr(TrainingMemory, "_deal", deal)
    assert same_bits(trained(samples, (500, 390, 20), dtype, **options), reference)
    assert len(dealt) > 2


@pytest.mark.parametrize("kind", ["dense", "skipping"])
@pytest.mark.parametrize("batch_size", [1, 4, 12, 32])
@pytest.mark.parametrize("hidden", [(9, 100), (9, 9, 600), (700, 9), (50,) * 7], ids=str)
def test_threads_that_own_nothing_of_a_layer_do_not_matter(hidden: tuple[int, ...], batch_size: int, kind: str) -> None:
    samples = table(100, 100) if kind == "dense" else pixels(100, 100)
    reference = trained(samples, hidden, batch_size=batch_size)
    for threads in (2, 3, 5, 8):
        assert same_bits(trained(samples, hidden, batch_size=batch_size, threads=threads), reference), threads


@pytest.mark.parametrize("options", [{"batch_size": 700}, {"batch_size": 1}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("hidden", [(200,), (64, 64), (20,), (40,) * 6], ids=str)
def test_threads_do_not_matter_for_any_batches(hidden: tuple[int, ...], options: dict[str, Any]) -> None:
    samples = pixels(900 if options.get("batch_size") == 700 else 120, 100)
    reference = trained(samples, hidden, **options)
    for threads in (2, 3):
        assert same_bits(trained(samples, hidden, threads=threads, **options), reference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(200,), (64, 64, 64), (20,)], ids=str)
@pytest.mark.parametrize("batch_size", [4, 32])
def test_twenty_repeats_give_the_same_bits(batch_size: int, hidden: tuple[int, ...], dtype: str) -> None:
    """A race would not show in every run."""
    samples = pixels(300, 100)
    options = {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.02}
    reference = trained(samples, hidden, dtype, **options)
    for repeat in range(20):
        assert same_bits(trained(samples, hidden, dtype, threads=2 + repeat % 3, **options), reference), repeat


@pytest.mark.nightly
@pytest.mark.parametrize("hidden", [(200,), (64, 64, 64), (300, 17, 120), (20,)], ids=str)
def test_many_repeats_with_more_threads_than_processors(hidden: tuple[int, ...]) -> None:
    samples = pixels(1000, 100)
    reference = trained(samples, hidden, epochs=3)
    for repeat in range(300):
        assert same_bits(trained(samples, hidden, epochs=3, threads=2 + repeat % 7), reference), repeat


@pytest.mark.parametrize(
    "options",
    [{}, {"drop_last": True}, {"batch_size": 70, "momentum": 0.5}, {"batch_size": 200}, {"batch_size": 3}],
    ids=["short last batches", "dropped last batches", "batches in pieces", "batches that are epochs", "stretches"],
)
@pytest.mark.parametrize("kind", ["dense", "skipping"])
def test_looking_does_not_change_what_is_seen(kind: str, options: dict[str, Any]) -> None:
    """Validations and reports split an epoch into several calls; without them, one call runs several epochs."""
    samples = table(200, 90) if kind == "dense" else pixels(200, 90)
    options = {"epochs": 12, "schedule": "linear"} | options
    reference = trained(samples, (40, 20), **options)
    validation = samples.X[:50], samples.y[:50]
    seen: list[int] = []
    watched: list[dict[str, Any]] = [
        {"validation": validation},
        {"validation": validation, "threads": 2},
        {"validation": validation, "patience": 1000, "restore_best": False},
        {"progress": lambda progress: seen.append(progress.step)},
    ]
    if options.get("batch_size") != 200:
        watched += [
            {"validation": validation, "validations_per_epoch": 2, "threads": 2},
            {"validation": validation, "validations_per_epoch": 200 // options.get("batch_size", 32)},
        ]
    for extra in watched:
        assert same_bits(trained(samples, (40, 20), **options, **extra), reference), extra
    assert seen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(200,), (32,)], ids=["sharing units", "sharing inputs"])
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 3}, {"batch_size": 8, "momentum": 0.9}, {"batch_size": 8, "momentum": 0.9, "nesterov": True}],
    ids=["stretches", "waiting", "waiting, Nesterov"],
)
def test_what_is_due_does_not_depend_on_who_does_it_or_when(
    options: dict[str, Any], hidden: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls end in the midst of stretches and while weights wait, and the next one has other threads."""
    samples = pixels(200, 100, density=0.02)
    options = {"epochs": 4, "learning_rate": 0.01} | options
    reference = trained(samples, hidden, dtype, **options)
    seen = {"validation": (samples.X[:5], samples.y[:5]), "validations_per_epoch": 25, "threads": 3}
    assert same_bits(trained(samples, hidden, dtype, **options, **seen), reference)
    sizes = itertools.cycle([1, 3, 2])
    monkeypatch.setattr(TeamSize, "current", property(lambda self: min(next(sizes), max(self.sizes))))
    assert same_bits(trained(samples, hidden, dtype, **options, **seen), reference)


@pytest.mark.parametrize("kind", ["dense", "skipping", "waiting"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batches", [1, 2, 5, 6])
@pytest.mark.parametrize("batch_size", [4, 10])
def test_what_an_interrupted_training_learnt_is_what_its_steps_teach(
    batch_size: int, batches: int, threads: int, kind: str
) -> None:
    """A training that is stopped after some batches leaves the weights of one on those batches alone.

    Also in the midst of a stretch, and while weights wait.
    """
    samples = table(60, 90) if kind == "dense" else pixels(60, 90, density=0.02 if kind == "waiting" else 0.25)

    def stop(progress: Progress) -> None:
        if progress.step >= batches:
            raise StopAsyncIteration

    options: dict[str, Any] = {"epochs": 1, "batch_size": batch_size, "shuffle": False, "threads": threads}
    options["momentum"] = 0.9 if kind == "waiting" else 0.0
    stopped = make_network(samples, 40, 20, activation="tanh", n_classes=10)
    with pytest.raises(StopAsyncIteration):
        train(
            stopped, samples.X, samples.y, **options, progress=stop,
            validation=(samples.X[:5], samples.y[:5]), validations_per_epoch=60 // batch_size,
        )  # fmt: skip
    seen = samples._replace(X=samples.X[: batch_size * batches], y=samples.y[: batch_size * batches])
    reference = make_network(samples, 40, 20, activation="tanh", n_classes=10)
    reference_density = np.count_nonzero(samples.X) / samples.X.size
    history = train(reference, seen.X, seen.y, **options)
    assert history.input_path == ("background-skipping" if reference_density < 0.5 else "dense")
    assert same_bits(stopped, reference)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_that_is_interrupted_is_done_wholly_or_not_at_all(threads: int) -> None:
    """A batch that comes in pieces is left in the midst of it, or Ctrl-C would have to wait for the rest."""
    samples = pixels(30_000, 300)

    def stop(progress: Progress) -> None:
        if progress.message is None:
            raise StopAsyncIteration

    options: dict[str, Any] = {"batch_size": 30_000, "shuffle": False, "learning_rate": 1e-3, "threads": threads}
    stopped = make_network(samples, 400, 300, n_classes=10)
    reference = stopped.copy()
    with pytest.raises(StopAsyncIteration):
        train(stopped, samples.X, samples.y, epochs=50, progress=stop, **options)
    for _ in range(4):  # none, in truth, unless the machine is very fast
        if same_bits(stopped, reference):
            break
        train(reference, samples.X, samples.y, epochs=1, **options)
    assert same_bits(stopped, reference)


# Golden hashes: see tests.golden_weights for how to write new ones

GOLDEN = json.loads(golden_weights.FILE.read_text())


@pytest.mark.skipif(golden_weights.UNITS not in GOLDEN, reason="no hashes for registers of this width")
@pytest.mark.parametrize("activation", golden_weights.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_those_that_every_machine_gets(dtype: str, activation: str) -> None:
    expected = GOLDEN[golden_weights.UNITS][f"{dtype} {activation}"]
    found = {threads: golden_weights.weights_hash(dtype, activation, threads) for threads in (1, 2, 3, 4)}
    assert found == dict.fromkeys((1, 2, 3, 4), expected)


# float64 and the widest registers, compiled for by name, at night; each compiles for some twenty seconds
@pytest.mark.parametrize(
    ("target", "dtype"),
    [
        ("x86-64-v2", "float32"),
        ("x86-64-v3", "float32"),
        pytest.param("x86-64-v2", "float64", marks=pytest.mark.nightly),
        pytest.param("x86-64-v3", "float64", marks=pytest.mark.nightly),
        pytest.param("x86-64-v4", "float32", marks=pytest.mark.nightly),
        pytest.param("x86-64-v4", "float64", marks=pytest.mark.nightly),
        pytest.param("matrix unit", "float32", marks=pytest.mark.nightly),
    ],
)
def test_narrower_registers_and_other_processors_get_theirs(target: str, dtype: str) -> None:
    """Also where multiplying and adding in one instruction has to be done by a function (x86-64-v2)."""
    if not golden_weights.runnable(target):
        pytest.skip(f"this processor is no {target}")
    units, found = golden_weights.hashes_for(target, dtype)
    widths = {"x86-64-v2": "16 bytes", "x86-64-v3": "32 bytes", "x86-64-v4": "64 bytes"}
    assert units == widths.get(target, "64 bytes, matrix unit")
    expected = {name: value for name, value in GOLDEN[units].items() if name.startswith(dtype)}
    assert found == expected


def test_seeds_matter() -> None:
    samples = table(100, 20)
    reference = trained(samples, (8,))
    assert same_bits(trained(samples, (8,)), reference)
    assert not same_bits(trained(samples, (8,), seed=1), reference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "skipping"])
def test_history_does_not_depend_on_threads(kind: str, dtype: str) -> None:
    samples = table(150, 50) if kind == "dense" else pixels(150, 50)
    histories = []
    for threads in (1, 2, 4):
        network = make_network(samples, 200, 70, dtype=dtype)
        validation = samples.X[:40], samples.y[:40]
        histories.append(train(network, samples.X, samples.y, epochs=2, l2=0.1, threads=threads, validation=validation))
    for history in histories[1:]:
        for name in ("batch_loss", "validation_loss", "validation_accuracy", "training_accuracy"):
            assert getattr(history, name).tobytes() == getattr(histories[0], name).tobytes(), name
