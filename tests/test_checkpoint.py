"""Checkpoints: what is resumed ends bit for bit as if there had been no break, whatever happens to the files."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import pickle
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fastmlp import Checkpoint, Checkpoints, Network, TrainingInterrupted, locking, train
from fastmlp.checkpoint import FORMAT, MAX_HEADER, _checksum, decode, encode, read_checkpoint, unflatten
from fastmlp.errors import CheckpointError
from fastmlp.history import History
from fastmlp.locking import FileLock, InUseError
from fastmlp.training import Progress
from tests import old_files
from tests.processes import run_python, run_script
from tests.small_data import MANY, Array, make_network, pixels, same_bits, table
from tests.test_model_file import peak_memory

SAMPLES = pixels(300, 20, 5)
HELD_OUT = pixels(80, 20, 5, seed=1)


def fit(
    epochs: int,
    checkpoints: Checkpoints | None = None,
    *,
    resume: bool = False,
    activation: str = "relu",
    **options: Any,
) -> tuple[Network, History]:
    """Train a small network."""
    network = make_network(SAMPLES, 40, 17, activation=activation)
    settings = {"learning_rate": 0.05, "validation": (HELD_OUT.X, HELD_OUT.y), **options}
    checkpoint = checkpoints.load() if resume and checkpoints is not None else None
    history = train(
        network, SAMPLES.X, SAMPLES.y, epochs=epochs, checkpoints=checkpoints, resume=checkpoint, **settings
    )
    return network, history


TIMES = {"compile_seconds", "training_seconds", "elapsed_seconds", "phases", "threads"}


def assert_same(ours: tuple[Network, History], others: tuple[Network, History]) -> None:
    """Compare networks and histories bit for bit, apart from times."""
    assert same_bits(ours[0], others[0])
    for field in dataclasses.fields(History):
        one, other = getattr(ours[1], field.name), getattr(others[1], field.name)
        if field.name in TIMES:
            continue
        assert (one.tobytes() == other.tobytes()) if isinstance(one, np.ndarray) else (one == other), field.name


def stop_after(steps: int) -> Callable[[Progress], None]:
    """Press Ctrl-C when so many steps are done."""

    def progress(report: Progress) -> None:
        if report.step >= steps:
            raise KeyboardInterrupt

    return progress


# The same result


OLD_CHECKPOINTS = sorted(old_files.FOLDER.glob("checkpoint-format-*.safetensors"))


@pytest.mark.parametrize("path", OLD_CHECKPOINTS, ids=lambda path: path.stem)
def test_checkpoints_of_every_release_go_on(path: Path) -> None:
    """Not bit for bit: another processor may have written them."""
    X, y = old_files.samples()
    options = {"epochs": old_files.EPOCHS + 2, "validation": (X, y), **old_files.OPTIONS}
    network = old_files.network()
    history = train(network, X, y, resume=read_checkpoint(path), **options)
    unbroken = old_files.network()
    expected = train(unbroken, X, y, **options)
    assert history.epochs == old_files.EPOCHS + 2
    for ours, others in zip((*network.weights, *network.biases), (*unbroken.weights, *unbroken.biases), strict=True):
        np.testing.assert_allclose(ours, others, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history.batch_loss, expected.batch_loss, rtol=1e-5)
    np.testing.assert_allclose(history.validation_loss, expected.validation_loss, rtol=1e-5)


def test_a_checkpoint_of_the_format_of_today_is_kept() -> None:
    assert f"checkpoint-format-{FORMAT}" in [path.stem for path in OLD_CHECKPOINTS]


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])  # of padding, which is not kept: 0, and not 0
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9, "threads": 2},
        {"momentum": 0.5, "nesterov": True, "l2": 1e-3, "batch_size": 200},
        {"validations_per_epoch": 3, "patience": 100, "batch_size": 7, "drop_last": True},
        {"shuffle": False, "validation": None, "seed": 3},
    ],
    ids=["plain", "momentum", "nesterov", "patience", "unshuffled"],
)
def test_five_epochs_and_five_more_equal_ten(tmp_path: Path, activation: str, options: dict[str, Any]) -> None:
    fit(5, Checkpoints(tmp_path), activation=activation, **options)
    options["threads"] = 3 - options.get("threads", 1)
    resumed = fit(10, Checkpoints(tmp_path), resume=True, activation=activation, **options)
    assert_same(resumed, fit(10, activation=activation, **options))
    assert resumed[1].training_seconds > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (70,)], ids=str)
def test_numbers_of_both_types_go_on(tmp_path: Path, hidden: tuple[int, ...], dtype: str) -> None:
    samples = table(150, 9, 3, dtype=dtype)
    networks = [make_network(samples, *hidden, dtype=dtype) for _ in range(3)]
    options: dict[str, Any] = {"momentum": 0.9, "learning_rate": 0.01}
    train(networks[0], samples.X, samples.y, epochs=4, **options)
    checkpoints = Checkpoints(tmp_path)
    train(networks[1], samples.X, samples.y, epochs=2, checkpoints=checkpoints, **options)
    train(
        networks[2], samples.X, samples.y, epochs=4, checkpoints=checkpoints, resume=checkpoints.load(), **options
    )  # fmt: skip
    assert same_bits(networks[2], networks[0])


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    options: dict[str, Any] = {"patience": 3, "learning_rate": 0.5}
    unbroken = fit(60, **options)
    assert unbroken[1].stopped_early
    assert unbroken[1].restored
    last = unbroken[1].epochs
    assert last - (unbroken[1].best_step or 0) // unbroken[1].steps_per_epoch == 3
    for after in (last - 3, last - 2, last - 1):  # with the best weights, and with one and two worse ones since
        folder = tmp_path / str(after)
        fit(after, Checkpoints(folder), **options)
        assert_same(fit(60, Checkpoints(folder), resume=True, **options), unbroken)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("every", [1, 3, None])
def test_an_interrupted_training_goes_on_from_its_last_epoch(tmp_path: Path, every: int | None, schedule: str) -> None:
    options: dict[str, Any] = {"schedule": schedule, "momentum": 0.5}
    unbroken = fit(8, **options)
    per_epoch = unbroken[1].steps_per_epoch
    with pytest.raises(TrainingInterrupted):
        fit(8, Checkpoints(tmp_path, every), progress=stop_after(5 * per_epoch), **options)
    assert Checkpoints(tmp_path).load().state.epoch in (4, 5)
    with pytest.raises(TrainingInterrupted):
        fit(8, Checkpoints(tmp_path, every), resume=True, progress=stop_after(7 * per_epoch), **options)
    assert Checkpoints(tmp_path).load().state.epoch in (6, 7)
    assert_same(fit(8, Checkpoints(tmp_path, every), resume=True, **options), unbroken)


def test_a_training_before_its_first_epoch_goes_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        fit(3, Checkpoints(tmp_path), progress=stop_after(1))
    assert Checkpoints(tmp_path).load().state.epoch == 0
    assert_same(fit(3, Checkpoints(tmp_path), resume=True), fit(3))


def test_a_finished_training_is_only_read(tmp_path: Path) -> None:
    done = fit(3, Checkpoints(tmp_path))
    assert_same(fit(3, Checkpoints(tmp_path), resume=True), done)


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    assert_same(fit(3, Checkpoints(tmp_path)), fit(3))


# Which files


def epochs_in(folder: Path) -> list[int]:
    """Return the epochs of the checkpoints in a folder."""
    return [read_checkpoint(path).state.epoch for path in Checkpoints(folder).files()]


@pytest.mark.parametrize(("every", "kept"), [(1, [6, 7]), (2, [6, 7]), (3, [6, 7]), (5, [5, 7]), (100, [0, 7])])
def test_the_last_two_are_kept(tmp_path: Path, every: int, kept: list[int]) -> None:
    fit(7, Checkpoints(tmp_path, every))
    assert epochs_in(tmp_path) == kept


def test_nothing_is_left_where_none_were_wanted(tmp_path: Path) -> None:
    fit(2, Checkpoints(tmp_path / "none", None))
    assert not (tmp_path / "none").exists()


def test_a_killed_writers_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-3.safetensors.abc").write_text("half")
    (tmp_path / "notes.txt").write_text("mine")
    fit(1, Checkpoints(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-1.safetensors",
        "checkpoint-2.safetensors",
        "notes.txt",
    ]


def test_checkpoints_of_another_training_are_not_lost_unasked(tmp_path: Path) -> None:
    fit(2, Checkpoints(tmp_path), seed=1)
    with pytest.raises(CheckpointError, match="holds the checkpoints of another training"):
        fit(2, Checkpoints(tmp_path), seed=2)
    assert_same(fit(2, Checkpoints(tmp_path), resume=True, seed=1), fit(2, seed=1))
    fit(3, Checkpoints(tmp_path, overwrite=True), seed=2)
    assert epochs_in(tmp_path) == [2, 3]
    assert Checkpoints(tmp_path).load().origin.recipe.seed == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "folder"])
def test_the_one_before_is_taken_if_the_newest_is_damaged(tmp_path: Path, damage: str) -> None:
    fit(3, Checkpoints(tmp_path))
    newest = Checkpoints(tmp_path).files()[-1]
    content = bytearray(newest.read_bytes())
    newest.unlink()
    if damage == "folder":
        newest.mkdir()
    else:
        content[-100] ^= 4
        newest.write_bytes({"truncate": content[:-1], "flip": content, "empty": b""}[damage])
    words = {
        "truncate": "not a valid checkpoint",
        "flip": r"damaged \(checksum\)",
        "empty": "empty",
        "folder": "directory",
    }
    with pytest.warns(UserWarning, match=rf"{newest.name}: .*{words[damage]}.*; going on from checkpoint-3"):
        assert_same(fit(6, Checkpoints(tmp_path), resume=True), fit(6))
    (tmp_path / "checkpoint-3.safetensors").write_bytes(b"")


def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Checkpoints(tmp_path / "none").load()
    (tmp_path / "checkpoint-1.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="file is empty"):
        Checkpoints(tmp_path).load()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file exists"):
        fit(1, Checkpoints(tmp_path / "file"))


def test_a_checkpoint_every_so_many_epochs() -> None:
    with pytest.raises(ValueError, match="every must be a whole number >= 1"):
        Checkpoints("folder", 0)


# Only the same training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 2}, "has epochs 3, this training 2; there can only be more"),
        ({"batch_size": 31}, "has batch_size 32, this training 31"),
        ({"learning_rate": 0.06}, "has learning_rate 0.05, this training 0.06"),
        ({"schedule": "linear"}, "has schedule constant, this training linear"),
        ({"momentum": 0.1}, r"has momentum 0.0, this training 0.1"),
        ({"seed": 9}, "has seed 0, this training 9"),
        ({"patience": 3}, "has patience None, this training 3"),
        ({"activation": "tanh"}, "has activation relu, this training tanh"),
        ({"validation": None}, "of a training with validation"),
        ({"validation": (HELD_OUT.X[::-1], HELD_OUT.y[::-1])}, "the data are not those"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_training_cannot_go_on(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    fit(3, Checkpoints(tmp_path))
    with pytest.raises(CheckpointError, match=words):
        fit(**{"epochs": 3, "checkpoints": Checkpoints(tmp_path), "resume": True, **change})
    assert epochs_in(tmp_path) == [2, 3]


def test_more_epochs_need_a_constant_learning_rate(tmp_path: Path) -> None:
    fit(3, Checkpoints(tmp_path), schedule="cosine")
    with pytest.raises(CheckpointError, match=r"has epochs 3, this training 4; .* if the schedule is constant"):
        fit(4, Checkpoints(tmp_path), resume=True, schedule="cosine")


def test_other_layers_and_other_statistics_cannot_go_on(tmp_path: Path) -> None:
    fit(1, Checkpoints(tmp_path))
    other = make_network(SAMPLES, 40)
    checkpoint = Checkpoints(tmp_path).load()
    options: dict[str, Any] = {"epochs": 1, "learning_rate": 0.05, "validation": (HELD_OUT.X, HELD_OUT.y)}
    with pytest.raises(CheckpointError, match=r"layers \(20, 40, 17, 5\), this training \(20, 40, 5\)"):
        train(other, SAMPLES.X, SAMPLES.y, resume=checkpoint, **options)
    with pytest.raises(CheckpointError, match="has samples 300, this training 299"):
        train(make_network(SAMPLES, 40, 17), SAMPLES.X[1:], SAMPLES.y[1:], resume=checkpoint, **options)
    with pytest.raises(CheckpointError, match="the data are not those"):
        train(make_network(SAMPLES, 40, 17, mean=1.0), SAMPLES.X, SAMPLES.y, resume=checkpoint, **options)


# The lock


def test_only_one_training_works_in_a_folder(tmp_path: Path) -> None:
    with Checkpoints(tmp_path), pytest.raises(InUseError, match=rf"in use by process {os.getpid()} since 2"):
        fit(1, Checkpoints(tmp_path))
    fit(1, Checkpoints(tmp_path))


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from fastmlp.locking import FileLock
        FileLock(Path({str(tmp_path / "lock")!r})).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run_script(script, expect=-9)
    assert (tmp_path / "lock").read_text().startswith("process ")
    lock = FileLock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_does_not_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock").acquire()
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_lock_is_not_taken_on_a_file_that_its_last_holder_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking; a third process would make another file and lock that."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    take = locking._lock

    def late(descriptor: int) -> None:
        first.release()
        take(descriptor)

    monkeypatch.setattr(locking, "_lock", late)
    second.acquire()
    with pytest.raises(InUseError):
        FileLock(tmp_path / "lock").acquire()
    second.release()
    assert not list(tmp_path.iterdir())


# Faults


class FaultyFile:
    """A file whose writing may fail."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self.file, self.step = file, step

    def __enter__(self) -> FaultyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        """Write half, and then perhaps fail."""
        self.file.write(content[: len(content) // 2])
        self.step()
        self.file.write(content[len(content) // 2 :])

    def flush(self) -> None:
        """Flush, or fail before."""
        self.step()
        self.file.flush()

    def fileno(self) -> int:
        """As the file's."""
        return int(self.file.fileno())


@contextmanager
def failing(at: int, error: BaseException) -> Iterator[Callable[[], int]]:
    """Let the operation number `at` of those that write files fail; gives the number of operations so far."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            raise error

    def faulty(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            step()
            return function(*arguments, **options)

        return call

    fdopen = os.fdopen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdopen", lambda *arguments: FaultyFile(fdopen(*arguments), step))
        patch.setattr(os, "fsync", faulty(os.fsync))
        patch.setattr(os, "open", faulty(os.open))
        for name in ("replace", "chmod", "mkdir", "unlink"):
            patch.setattr(Path, name, faulty(getattr(Path, name)))
        yield lambda: count


FAULTS = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error"), MemoryError()]


@pytest.mark.parametrize("error", FAULTS, ids=["ENOSPC", "EIO", "MemoryError"])
def test_no_fault_costs_a_checkpoint(tmp_path: Path, error: Exception) -> None:
    unbroken = fit(3)
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        fit(1, Checkpoints(folder))
        last = epochs_in(folder)[-1]
        with failing(at, error) as operations:
            try:
                fit(3, Checkpoints(folder), resume=True)
            except (CheckpointError, MemoryError) as caught:
                assert isinstance(caught, MemoryError) or "\n" not in str(caught)
            count = operations()
        assert Checkpoints(folder).load().state.epoch >= last  # a warning, that a file is damaged, would be an error
        assert_same(fit(3, Checkpoints(folder), resume=True), unbroken)
        if count < at:
            break
    assert at > 15  # two checkpoints of eight operations or so


def test_a_failed_write_says_where_and_what_is_kept(tmp_path: Path) -> None:
    fit(1, Checkpoints(tmp_path))
    with failing(4, FAULTS[0]), pytest.raises(CheckpointError) as caught:
        fit(2, Checkpoints(tmp_path), resume=True)
    assert str(caught.value) == (
        f"{tmp_path}/checkpoint-3.safetensors: no space left on device; the checkpoint before it is kept"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kills", [10, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, kills: int) -> None:
    printed = run_python("-m", "tests.killing", str(tmp_path), str(kills), timeout=10 * kills + 60)
    assert f"{kills} kills" in printed


# Files that are not what they should be


def content_of(epochs: int = 2, n: int = 40, **options: Any) -> bytes:
    """Return a checkpoint file of a small training with everything in it."""
    samples = pixels(n, 6, 3)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder, note={"mine": 1})
        settings = {"momentum": 0.5, "patience": 5, "validation": (samples.X, samples.y), **options}
        train(make_network(samples, 4), samples.X, samples.y, epochs=epochs, checkpoints=checkpoints, **settings)
        return checkpoints.files()[-1].read_bytes()


CONTENT = content_of()


def taken_apart() -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and arrays of a good checkpoint, to be changed."""
    length = int.from_bytes(CONTENT[:8], "little")
    metadata = json.loads(CONTENT[8 : 8 + length])["__metadata__"]
    return json.loads(metadata["fastmlp_checkpoint"].partition(" ")[2]), {
        name: array.copy() for name, array in load(CONTENT).items()
    }


def put_together(description: object, tensors: dict[str, Array]) -> bytes:
    """Return a checkpoint file with a checksum that fits."""
    text = description if isinstance(description, str) else json.dumps(description)
    content: bytes = save(tensors, {"fastmlp_checkpoint": f"{_checksum(text, tensors)} {text}"})
    return content


def message(content: bytes) -> str:
    """Return the one line with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as caught:
        decode(content)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_what_is_written_comes_back() -> None:
    checkpoint = decode(CONTENT)
    assert encode(checkpoint) == CONTENT
    assert checkpoint.note == {"mine": 1}
    assert put_together(*taken_apart()) == CONTENT
    weights, biases = unflatten(checkpoint.state.parameters, checkpoint.origin.layers)
    assert [each.shape for each in (*weights, *biases)] == [(6, 4), (4, 3), (4,), (3,)]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("format", 3, "written in format 3, this version reads 1 and 2; upgrade"),
        ("format", 1, "orders of the samples that this version does not draw; train anew"),
        ("format", True, "written in format True"),
        ("epoch", 3, "epoch must be a whole number from 0 to 2"),
        ("epoch", 1, "array 'losses' is float64"),
        ("epoch", -1, "epoch must be"),
        ("epoch", "1", "epoch must be"),
        ("epoch", 10**30, "epoch must be"),
        ("training_seconds", -1.0, "training_seconds must be"),
        ("training_seconds", None, "training_seconds must be"),
        ("note", [], "must have the entries"),
        ("origin", [], "not a JSON object with an origin"),
        ("extra", 1, "must have the entries"),
        ("origin.layers", [6, 5, 3], "array 'parameters' is float32"),
        ("origin.layers", [6, 10**15, 3], "each size of layers"),
        ("origin.layers", [6] * 2000, "at most 1000"),
        ("origin.layers", "643", "must have a recipe and layers"),
        ("origin.activation", "softplus", "activation must be one of"),
        ("origin.activation", [], "activation must be one of"),
        ("origin.init", None, "init must be one of"),
        ("origin.dtype", "float64", "expected float64"),
        ("origin.dtype", "object", "dtype must be one of"),
        ("origin.seed", -1, "seed must be"),
        ("origin.samples", 0, "samples must be"),
        ("origin.samples", 10**9, "array 'losses' is float64"),
        ("origin.validated", 1, "values that no training has"),
        ("origin.data", 5, "values that no training has"),
        ("origin.recipe", {}, "not a valid checkpoint: 'patience'"),
        ("origin.recipe.momentum", 2.0, "momentum must be"),
        ("origin.recipe.momentum", 0.0, "arrays are"),
        ("origin.recipe.batch_size", 10**9, "values that no training has"),
        ("origin.recipe.nesterov", 1, "nesterov must be True or False"),
        ("origin.recipe.patience", None, "arrays are"),
        ("origin.recipe.epochs", 10**8, ""),
        ("origin.recipe.unknown", 1, "values that no training has"),
        ("origin.recipe.n", 1, "not a valid checkpoint"),
    ],
)
def test_a_description_that_is_wrong(name: str, value: object, words: str) -> None:
    description, tensors = taken_apart()
    *path, last = name.split(".")
    inner = description
    for step in path:
        inner = inner[step]
    inner[last] = value
    content = put_together(description, tensors)
    if words:
        assert words in message(content)
    else:  # it only says that there are to be many epochs: nothing is allocated for them
        assert peak_memory(lambda: decode(content)) < 1_000_000


@pytest.mark.parametrize(
    "missing", ["format", "epoch", "origin", "note", "origin.samples", "origin.recipe", "origin.data"]
)
def test_a_description_that_lacks_something(missing: str) -> None:
    description, tensors = taken_apart()
    *path, last = missing.split(".")
    del (description[path[0]] if path else description)[last]
    message(put_together(description, tensors))


@pytest.mark.parametrize("name", ["parameters", "velocities", "best", "losses", "validations"])
def test_an_array_that_is_wrong(name: str) -> None:
    description, tensors = taken_apart()
    good = tensors[name]
    for bad in (good[:-1], good.astype(np.float16), good.reshape(-1, 1), np.zeros((0,), good.dtype)):
        message(put_together(description, tensors | {name: bad}))
    message(put_together(description, {key: array for key, array in tensors.items() if key != name}))
    message(put_together(description, tensors | {"other": good}))
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad.flat[0] = value
        message(put_together(description, tensors | {name: bad}))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "5", "[" * 10_000, '{"format":' * 3000, "1" * 5000, "\0", "é"]
)
def test_a_description_that_is_none(text: str) -> None:
    message(put_together(text, taken_apart()[1]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is missing"),
        (b"1234567", "at most"),
        (bytes(8), "not a valid checkpoint"),
        ((2).to_bytes(8, "little") + b"{}", "'fastmlp_checkpoint' is missing"),
        ((2).to_bytes(8, "little") + b"[]", "'fastmlp_checkpoint' is missing"),
        (b"\xff" * 100, f"at most {MAX_HEADER}"),
        ((MAX_HEADER + 1).to_bytes(8, "little") + b" " * MAX_HEADER * 2, f"at most {MAX_HEADER}"),
        (save({"weight.0": np.zeros((2, 2))}, {"fastmlp": "{}"}), "'fastmlp_checkpoint' is missing"),
        (save({}, {"fastmlp_checkpoint": "{}"}), "damaged (checksum)"),
    ],
    ids=["nothing", "short", "zeros", "empty", "list", "huge", "long", "model", "unsigned"],
)
def test_other_content(content: bytes, words: str) -> None:
    if content:
        assert words in message(content)
    else:
        message(content)


def test_paths_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps([1]))
    for path, words in [
        (tmp_path / "missing", "no such file"),
        (tmp_path, "is a directory, expected a checkpoint"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "pickle", "does not load pickles"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(path)


def test_a_note_that_no_reader_would_accept_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="description of the checkpoint is longer"):
        fit(1, Checkpoints(tmp_path, note={"long": "x" * MAX_HEADER}))
    assert Checkpoints(tmp_path).files() == []


def test_no_truncation_and_no_flipped_bit_gives_wrong_weights() -> None:
    good = decode(CONTENT)
    for length in range(0, len(CONTENT), 64):
        message(CONTENT[:length])
    generator = random.Random(0)
    for _ in range(1000):
        content = bytearray(CONTENT)
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        assert_harmless(bytes(content), good)


def assert_harmless(content: bytes, good: Checkpoint) -> None:
    """Read a damaged file: it is refused, or it is what was written."""
    try:
        checkpoint = decode(content)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert encode(checkpoint) == encode(good)


@st.composite
def damages(draw: st.DrawFn) -> bytes:
    """Draw a damaged file: bytes changed, cut out, doubled or put in, mostly in the header."""
    content = bytearray(CONTENT)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)) | st.integers(0, 20))
        piece = draw(st.binary(min_size=1, max_size=8))
        kind = draw(st.sampled_from(["change", "cut", "insert", "repeat", "truncate"]))
        if kind == "change":
            content[at : at + len(piece)] = piece
        elif kind == "cut":
            del content[at : at + len(piece)]
        elif kind == "insert":
            content[at:at] = piece
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 64))]
        else:
            del content[at:]
    return bytes(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def forgeries(draw: st.DrawFn) -> bytes:
    """Draw a file with a checksum that fits, and some values and arrays that do not."""
    description, tensors = taken_apart()
    for _ in range(draw(st.integers(1, 3))):
        inner = draw(st.sampled_from([description, description["origin"], description["origin"]["recipe"]]))
        if isinstance(inner, dict) and inner:
            inner[draw(st.sampled_from(sorted(inner)))] = draw(VALUES)
        if not isinstance(description["origin"], dict) or "recipe" not in description["origin"]:
            break
    if draw(st.booleans()):
        name = draw(st.sampled_from([*tensors, "other"]))
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        tensors[name] = np.zeros(shape, draw(st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?"])))
    return put_together(description, tensors)


def read_only_own_errors(content: bytes) -> None:
    """Read a file; nothing but the project's own error may come out, and what is read can be written."""
    try:
        checkpoint = decode(content)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert decode(encode(checkpoint)).origin == checkpoint.origin


@hypothesis.settings(max_examples=300)
@hypothesis.given(damages())
def test_no_damage_does_harm(content: bytes) -> None:
    assert_harmless(content, decode(CONTENT))


@hypothesis.settings(max_examples=200)
@hypothesis.given(forgeries())
def test_no_forgery_does_harm(content: bytes) -> None:
    read_only_own_errors(content)


@pytest.mark.nightly
@hypothesis.settings(MANY, max_examples=30_000)
@hypothesis.given(damages())
def test_no_damage_does_harm_many_times(content: bytes) -> None:
    assert_harmless(content, decode(CONTENT))


@pytest.mark.nightly
@hypothesis.settings(MANY, max_examples=10_000)
@hypothesis.given(forgeries())
def test_no_forgery_does_harm_many_times(content: bytes) -> None:
    read_only_own_errors(content)


# Memory

HEADER_MEMORY = 40 * MAX_HEADER  # what Python may make of the JSON of a short header


@pytest.mark.parametrize("kind", ["losses", "parameters"])
def test_reading_takes_no_more_than_three_times_the_file(tmp_path: Path, kind: str) -> None:
    description, tensors = taken_apart()
    if kind == "losses":
        steps = description["origin"]["recipe"]["epochs"] = description["epoch"] = 200_000
        tensors["losses"] = np.zeros(2 * steps)
        tensors["validations"] = np.zeros((steps, 5))
        tensors["validations"][:, 0] = 2 * np.arange(1, steps + 1)
    else:
        description["origin"]["layers"] = [6, 200_000, 3]
        tensors |= {
            name: np.zeros(6 * 200_000 + 200_000 + 600_003, np.float32) for name in ("parameters", "velocities", "best")
        }
    content = put_together(description, tensors)
    path = tmp_path / "checkpoint-1.safetensors"
    path.write_bytes(content)
    read_checkpoint(path)
    assert peak_memory(lambda: read_checkpoint(path)) < 3 * len(content)
    damaged = bytearray(content)
    damaged[-1000] ^= 1
    for bad in (content[:-4], content[: len(content) // 2], b"\xff" * 8 + content[8:], damaged):
        path.write_bytes(bad)
        assert peak_memory(lambda: refused(path)) < 3 * len(content)


def refused(path: Path) -> None:
    """Read a checkpoint that must be refused."""
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize("piece", ["[],", "{},", '{"":0},', '"ab",', "[0],", "1e9,"])
def test_a_hostile_header_takes_no_more_memory_than_a_short_one_can(tmp_path: Path, piece: str) -> None:
    text = '{"a":[' + piece * ((MAX_HEADER - 20) // len(piece)) + "0]}"
    content = len(text).to_bytes(8, "little") + text.encode() + bytes(1000)
    assert peak_memory(lambda: message(content)) < 3 * len(content) + HEADER_MEMORY
    longer = (8 * len(text)).to_bytes(8, "little") + text.encode() * 8
    assert peak_memory(lambda: message(longer)) < 3 * len(longer)
