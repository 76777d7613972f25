"""Model files: what is written comes back; all else is refused in one sentence, without harm."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from fastmlp import model_file
from fastmlp.errors import ModelFormatError
from fastmlp.network import Network
from fastmlp.runs import write_json
from tests import old_files
from tests.processes import ROOT, run_python
from tests.small_data import ACTIVATIONS, Array, make_network, pixels, same_bits, table

# Round trip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("hidden", [(), (5,), (7, 1, 3)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_saved_comes_back(
    tmp_path: Path, activation: str, hidden: tuple[int, ...], per_feature: bool, dtype: str
) -> None:
    samples = table(20, 6, 4)
    statistics: dict[str, Any] = {} if per_feature else {"mean": 3.0, "std": 2.0}
    network = make_network(samples, *hidden, activation=activation, dtype=dtype, seed=9, **statistics)
    network.skip_background = per_feature
    network.save(tmp_path / "model.safetensors")
    other = Network.load(tmp_path / "model.safetensors")
    assert same_bits(network, other)
    for name in ("layers", "activation", "init", "dtype", "seed", "skip_background"):
        assert getattr(network, name) == getattr(other, name), name
    np.testing.assert_array_equal(network.mean, other.mean)
    np.testing.assert_array_equal(network.std, other.std)
    assert network.predict_proba(samples.X).tobytes() == other.predict_proba(samples.X).tobytes()


OLD_MODELS = sorted(old_files.FOLDER.glob("model-format-*.safetensors"))


@pytest.mark.parametrize("path", OLD_MODELS, ids=lambda path: path.stem)
def test_models_of_every_release_are_read(path: Path) -> None:
    network, expected = Network.load(path), old_files.network()
    assert same_bits(network, expected)
    for name in ("layers", "activation", "init", "dtype", "seed"):
        assert getattr(network, name) == getattr(expected, name)
    assert network.mean.tolist() == expected.mean.tolist()
    assert network.std.tolist() == expected.std.tolist()


def test_a_model_of_the_format_of_today_is_kept() -> None:
    assert f"model-format-{model_file.FORMAT}" in [path.stem for path in OLD_MODELS]


def test_a_network_with_one_feature_comes_back(tmp_path: Path) -> None:
    network = Network((1, 2), mean=[4.0], std=[3.0])
    network.save(tmp_path / "model")
    assert Network.load(tmp_path / "model").predict_proba([[5.0]]).tobytes() == network.predict_proba([[5.0]]).tobytes()


# Writing


def test_a_file_is_replaced_whole_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for seed in (1, 2):
        Network((4, 2), seed=seed).save(path)
    assert same_bits(Network.load(path), Network((4, 2), seed=2))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions_are_those_that_the_user_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask is not touched: with two threads saving at once it could stay open for the rest of the process."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            Network((4, 2)).save(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)  # what was made private stays so, at every moment
    fsync = os.fsync

    def look(descriptor: int) -> None:
        assert stat.S_ISDIR(os.fstat(descriptor).st_mode) or stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    Network((4, 2)).save(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


@pytest.mark.parametrize(("place", "kind"), [("", IsADirectoryError), ("no/model", FileNotFoundError)])
def test_a_place_that_is_none_is_named(tmp_path: Path, place: str, kind: type[OSError]) -> None:
    with pytest.raises(kind) as caught:
        Network((4, 2)).save(tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)
    assert not list(tmp_path.iterdir())


WRITERS: dict[str, Callable[[Path], object]] = {
    "model": lambda path: Network((4, 2)).save(path),
    "record": lambda path: write_json(path, {"a": 1}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="a folder can be synchronised on Linux")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    """A power cut after the renaming must not find an empty file, nor the folder without the new name.

    Checkpoints are written as models are.
    """
    steps: list[tuple[str, int, int]] = []
    fsync, replace = os.fsync, os.replace

    def log_fsync(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        steps.append(("synchronised", status.st_ino, status.st_size if stat.S_ISREG(status.st_mode) else 0))

    def log_replace(source: Path, target: Path) -> None:
        replace(source, target)
        steps.append(("renamed", target.stat().st_ino, target.stat().st_size))

    path = tmp_path / "file"
    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(Path, "replace", log_replace)
    WRITERS[writer](path)
    status = path.stat()
    assert steps == [
        ("synchronised", status.st_ino, status.st_size),
        ("renamed", status.st_ino, status.st_size),
        ("synchronised", tmp_path.stat().st_ino, 0),
    ]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), OSError(errno.EIO, "I/O"), MemoryError()])
@pytest.mark.parametrize("step", ["fsync", "replace", "chmod", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    path = tmp_path / "model.safetensors"
    Network((4, 2), seed=1).save(path)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if step in ("fsync", "fdopen"):
            patch.setattr(os, step, fail)
        else:
            patch.setattr(Path, step, fail)
        with pytest.raises(type(error)):
            Network((4, 2), seed=2).save(path)
    assert same_bits(Network.load(path), Network((4, 2), seed=1))
    assert list(tmp_path.iterdir()) == [path]


SAVE_AGAIN_AND_AGAIN = """
import sys
from fastmlp.network import Network

networks = [Network((200, 300, 10), seed=seed) for seed in (1, 2)]
while True:
    for network in networks:
        network.save(sys.argv[1])
        print("saved", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    networks = [Network((200, 300, 10), seed=seed) for seed in (1, 2)]
    for i in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_AGAIN_AND_AGAIN, str(path)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"saved\n"
        time.sleep(0.0037 * i)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        loaded = Network.load(path)
        assert any(same_bits(loaded, network) for network in networks)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_every_call_to_the_system_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Fail the first call, then the second, and so on until saving succeeds: the old file is there each time."""
    path = tmp_path / "model.safetensors"
    old, new = (Network((4, 2), seed=seed) for seed in (1, 2))
    old.save(path)
    failing, calls = 0, 0
    calls_of = {"open": os, "fdopen": os, "fsync": os, "chmod": Path, "replace": Path}  # not through os in Python 3.10
    failed: set[str] = set()

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                failed.add(name)
                raise OSError(error, os.strerror(error))
            return function(*arguments, **options)

        return call

    for number in range(1, 20):
        failing, calls = number, 0
        with monkeypatch.context() as patch:
            for name, owner in calls_of.items():
                patch.setattr(owner, name, wrapped(name, getattr(owner, name)))
            try:
                new.save(path)
            except OSError as caught:
                assert caught.errno == error
                replaced = same_bits(Network.load(path), new)
                assert replaced or same_bits(Network.load(path), old)
                assert list(tmp_path.iterdir()) == [path]
            else:
                break
    assert failed == set(calls_of)
    assert same_bits(Network.load(path), new)


# Files that are no files


def message(path: Path) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(ModelFormatError) as caught:
        Network.load(path)
    text = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 500
    return text.removeprefix(f"{path}: ")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert message(tmp_path / "missing") == "no such file"
    assert message(tmp_path).startswith("is a directory")
    (tmp_path / "empty").touch()
    assert message(tmp_path / "empty") == "file is empty"
    assert message(tmp_path / "empty" / "inside") == "not a directory"
    assert message(Path("/dev/zero")) == "not a regular file"
    os.mkfifo(tmp_path / "fifo")
    assert message(tmp_path / "fifo") == "not a regular file"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "symbolic links" in message(tmp_path / "loop")
    with pytest.raises(ModelFormatError, match=r"^'a.x00b': cannot be opened: (stat: )?embedded null (byte|char)"):
        Network.load("a\0b")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    Network((2, 2)).save(tmp_path / "model")
    (tmp_path / "model").chmod(0)
    assert message(tmp_path / "model") == "permission denied"


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    Network((4, 2)).save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].ljust(length)
    (tmp_path / "model").write_bytes(length.to_bytes(8, "little") + header + content[end:])
    assert same_bits(Network.load(tmp_path / "model"), Network((4, 2)))


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_not_loaded(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "model").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded"), protocol))
    text = message(tmp_path / "model")
    if protocol >= 2:  # older ones are text and have no mark
        assert text == "this is a pickle file; fastmlp does not load pickles because they can run code"
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04", "this is a zip archive, as PyTorch and NumPy write"),
        (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file, as Keras writes"),
        (b"\x08\x07\x12\x07pytorch", "not a valid model file"),
        (b"\x93NUMPY\x01\x00", "not a valid model file"),
        (b'{"layers": [2, 2]}', "not a valid model file"),
        (b"\x00" * 64, "not a valid model file"),
        (b"\xff" * 64, "not a valid model file"),
        (b"x", "not a valid model file"),
    ],
)
def test_other_kinds_of_files(tmp_path: Path, start: bytes, words: str) -> None:
    (tmp_path / "model").write_bytes(start + b"\x01\x02" * 50)
    assert message(tmp_path / "model").startswith(words)


# Damaged safetensors


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file of a header that need not be right."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def tensor(dtype: str = "F32", shape: object = (1,), begin: object = 0, end: object = 4) -> str:
    """Return the description of a tensor in the header."""
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})


DAMAGED: dict[str, bytes] = {
    "length beyond the file": raw(b"{}", length=1000),
    "length of 2^63": raw(b"{}", length=2**63),
    "length of 2^64 - 1": raw(b"{}", length=2**64 - 1),
    "length of 200 MB": raw(b"{}", length=200_000_000),
    "no header": raw(b""),
    "no JSON": raw(b"hello"),
    "a list": raw(b"[]"),
    "bad UTF-8": raw(b'{"\xff\xfe": 1}'),
    "half a header": raw(b'{"weight.0":'),
    "deep JSON": raw(b"[" * 100_000 + b"]" * 100_000),
    "deep objects": raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep metadata": raw(b'{"__metadata__":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001),
    "endless number": raw(b'{"a":' + b"1" * 100_000 + b"}"),
    "duplicate key": raw(f'{{"a":{tensor()},"a":{tensor()}}}'.encode(), bytes(4)),
    "overlap": raw(f'{{"a":{tensor()},"b":{tensor()}}}'.encode(), bytes(4)),
    "hole": raw(f'{{"a":{tensor(begin=4, end=8)}}}'.encode(), bytes(8)),
    "trailing bytes": raw(f'{{"a":{tensor()}}}'.encode(), bytes(8)),
    "too few bytes": raw(f'{{"a":{tensor()}}}'.encode(), bytes(3)),
    "shape overflows": raw(f'{{"a":{tensor(shape=[2**32, 2**32])}}}'.encode(), bytes(4)),
    "shape disagrees": raw(f'{{"a":{tensor(shape=[2])}}}'.encode(), bytes(4)),
    "negative size": raw(f'{{"a":{tensor(shape=[-1])}}}'.encode(), bytes(4)),
    "fractional size": raw(f'{{"a":{tensor(shape=[1.0])}}}'.encode(), bytes(4)),
    "negative offset": raw(f'{{"a":{tensor(begin=-4, end=0)}}}'.encode(), bytes(4)),
    "offsets reversed": raw(f'{{"a":{tensor(begin=4, end=0)}}}'.encode(), bytes(4)),
    "unknown dtype": raw(f'{{"a":{tensor("F31")}}}'.encode(), bytes(4)),
    "dtype without NumPy": raw(f'{{"a":{tensor("BF16", [2])}}}'.encode(), bytes(4)),
    "metadata of numbers": raw(b'{"__metadata__":{"fastmlp":5}}'),
    "metadata a string": raw(b'{"__metadata__":"fastmlp"}'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").write_bytes(DAMAGED[name])
    text = message(tmp_path / "model")
    assert text.startswith(("not a valid model file: ", "unexpected tensor", "not a fastmlp model")), text


# Valid safetensors, but no network of ours

DESCRIPTION: dict[str, Any] = {
    "format": 1, "version": "0.1.0", "layers": [3, 4, 2], "activation": "relu", "init": "he",
    "dtype": "float32", "seed": 0, "skip_background": False,
}  # fmt: skip


def tensors() -> dict[str, Array]:
    """Return the tensors of a good file."""
    return {
        "weight.0": np.ones((3, 4), np.float32),
        "bias.0": np.zeros(4, np.float32),
        "weight.1": np.ones((4, 2), np.float32),
        "bias.1": np.zeros(2, np.float32),
        "mean": np.zeros(1),
        "std": np.ones(1),
    }


def write(path: Path, changed: dict[str, Any], removed: str = "", **description: Any) -> Path:
    """Write a file that is good but for some tensors and entries of the description."""
    arrays = {name: array for name, array in (tensors() | changed).items() if name != removed}
    entries = {name: value for name, value in (DESCRIPTION | description).items() if name != removed}
    path.write_bytes(save(arrays, {"fastmlp": json.dumps(entries)}))
    return path


def test_the_file_that_the_others_are_made_from_is_good(tmp_path: Path) -> None:
    assert Network.load(write(tmp_path / "model", {})).layers == (3, 4, 2)


F32, F64 = np.float32, np.float64
WRONG_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "extra": ({"weight.2": np.zeros(1, F32)}, "unexpected tensor 'weight.2'"),
    "shape": ({"weight.1": np.ones((4, 3), F32)}, "tensor 'weight.1' has shape (4, 3), expected (4, 2)"),
    "transposed": ({"weight.0": np.ones((4, 3), F32)}, "tensor 'weight.0' has shape (4, 3), expected (3, 4)"),
    "flat": ({"weight.0": np.ones(12, F32)}, "tensor 'weight.0' has shape (12,), expected (3, 4)"),
    "empty": ({"bias.0": np.zeros(0, F32)}, "tensor 'bias.0' has shape (0,), expected (4,)"),
    "float16": ({"bias.1": np.zeros(2, np.float16)}, "tensor 'bias.1' has dtype float16, expected float32"),
    "float64": ({"weight.1": np.ones((4, 2))}, "tensor 'weight.1' has dtype float64, expected float32"),
    "integers": (
        {"weight.0": np.ones((3, 4), np.int32)},
        "tensor 'weight.0' has dtype int32, expected float32",
    ),
    "NaN": ({"weight.0": np.full((3, 4), np.nan, F32)}, "tensor 'weight.0' contains NaN or infinity"),
    "infinity": ({"bias.1": np.array([0, np.inf], F32)}, "tensor 'bias.1' contains NaN or infinity"),
    "mean shape": ({"mean": np.zeros(2)}, "tensor 'mean' has shape (2,), expected (3,)"),
    "mean dtype": ({"mean": np.zeros(1, F32)}, "tensor 'mean' has dtype float32, expected float64"),
    "mean NaN": ({"mean": np.full(1, np.nan)}, "tensor 'mean' contains NaN or infinity"),
    "std shape": ({"std": np.ones((1, 3))}, "tensor 'std' has shape (1, 3), expected (3,)"),
    "std 0": ({"std": np.zeros(1)}, "std must be > 0 for every feature; use 1 for a constant feature"),
    "std negative": ({"std": np.array([1.0, -1, 1])}, "std must be > 0"),
    "std too small": ({"std": np.full(1, 1e-300)}, "std is too small for float32"),
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_wrong_tensors_are_refused(tmp_path: Path, name: str) -> None:
    changed, expected = WRONG_TENSORS[name]
    assert message(write(tmp_path / "model", changed)).startswith(expected)


@pytest.mark.parametrize("name", tensors())
def test_missing_and_renamed_tensors_are_refused(tmp_path: Path, name: str) -> None:
    assert message(write(tmp_path / "model", {}, removed=name)) == f"tensor {name!r} is missing"
    renamed = {name.upper(): tensors()[name]}
    assert message(write(tmp_path / "model", renamed, removed=name)) == f"tensor {name!r} is missing"


WRONG_DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "newer format": ({"format": 2}, "model was written in format 2, this version reads 1; upgrade fastmlp"),
    "format text": ({"format": "1"}, "model was written in format '1'"),
    "format True": ({"format": True}, "model was written in format True"),
    "format 1e400": ({"format": float("inf")}, "model was written in format inf"),
    "activation": ({"activation": "gelu"}, "activation must be one of relu"),
    "activation list": ({"activation": ["relu"]}, "activation must be one of relu"),
    "long activation": ({"activation": "a" * 500_000}, "activation must be one of relu"),
    "alias": ({"activation": "improved_sigmoid"}, "activation must be one of relu"),
    "init": ({"init": "xavier"}, "init must be one of he"),
    "dtype": ({"dtype": "float16"}, "dtype must be one of float32, float64"),
    "other dtype": ({"dtype": "float64"}, "tensor 'weight.0' has dtype float32, expected float64"),
    "seed": ({"seed": -1}, "seed must be a whole number from 0"),
    "seed text": ({"seed": "0"}, "seed must be a whole number from 0"),
    "no layers": ({"layers": []}, "layers: need at least input and output size"),
    "layers text": ({"layers": "342"}, "layers must be a sequence of sizes"),
    "layers null": ({"layers": None}, "layers must be a sequence of sizes"),
    "a layer too many": ({"layers": [3, 4, 2, 2]}, "tensor 'bias.2' is missing"),
    "layer 0": ({"layers": [3, 0, 2]}, "each size of layers must be a whole number from 1"),
    "layer 4.0": ({"layers": [3, 4.0, 2]}, "each size of layers must be a whole number from 1"),
    "layer true": ({"layers": [3, True, 2]}, "each size of layers must be a whole number from 1"),
    "absurd layer": ({"layers": [3, 10**15, 2]}, "each size of layers must be a whole number from 1"),
    "a million layers": ({"layers": [1] * 10**5}, "layers: at most 1000 (got 100000)"),
    "other layers": ({"layers": [3, 5, 2]}, "tensor 'weight.0' has shape (3, 4), expected (3, 5)"),
    "skip_background": ({"skip_background": "yes"}, "skip_background must be true or false"),
    "huge": ({"version": "x" * 2_000_000}, "not a valid model file: header of 2000"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DESCRIPTIONS)
def test_wrong_descriptions_are_refused(tmp_path: Path, name: str) -> None:
    description, expected = WRONG_DESCRIPTIONS[name]
    assert message(write(tmp_path / "model", {}, **description)).startswith(expected)


@pytest.mark.parametrize("name", [name for name in DESCRIPTION if name != "format"])
def test_missing_entries_are_named(tmp_path: Path, name: str) -> None:
    assert message(write(tmp_path / "model", {}, removed=name)) == f"the description lacks {name}"


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (None, "not a fastmlp model"),
        ("", "Expecting value"),
        ("[1, 2]", "the description is not a JSON object"),
        ("nonsense", "Expecting value"),
        ("[" * 100_000, "maximum recursion depth"),
        ('{"a":' * 50_000, "maximum recursion depth"),
        ('{"a":' * 100_000, "header of 700392 bytes, at most 524288 are read"),
        ('{"format": ' + "1" * 10_000 + "}", "Exceeds the limit"),
    ],
)
def test_descriptions_that_are_none(tmp_path: Path, description: str | None, words: str) -> None:
    metadata = None if description is None else {"fastmlp": description}
    (tmp_path / "model").write_bytes(save(tensors(), metadata))
    assert words in message(tmp_path / "model")


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    text = message(write(tmp_path / "model", {"\x1b[2J\n\x07": np.zeros(1, F32)}, activation="\x1b[31m"))
    assert text.isprintable()


# Resources


def test_loading_needs_little_more_than_the_file(tmp_path: Path) -> None:
    """What a header claims is never allocated; what a good file holds, at most three times."""
    path = tmp_path / "model"
    Network((1000, 1000, 10)).save(path)
    size = path.stat().st_size
    Network.load(path)  # imports
    assert peak_memory(lambda: Network.load(path)) < 3 * size
    content = path.read_bytes()
    for damage in (content[:-4], content[: size // 2], b"\xff" * 8 + content[8:]):
        path.write_bytes(damage)
        assert peak_memory(lambda: message(path)) < 3 * size


def test_the_kind_and_the_size_of_a_file_are_looked_at_before_it_is_read(tmp_path: Path) -> None:
    """These files take no room on the disk, but would take more memory than there is."""
    path = tmp_path / "model"
    starts = {
        b"\x80\x04\x95": "this is a pickle",
        b"PK\x03\x04": "this is a zip archive",
        b"\x89HDF": "this is an HDF5",
    }
    for start, words in (starts | {(100).to_bytes(8, "little"): "a file of 8.8 TB needs 26 TB to load, "}).items():
        path.write_bytes(start)
        os.truncate(path, 1 << 43)
        assert peak_memory(lambda: message(path)) < 1_000_000
        assert message(path).startswith(words)


HOSTILE_HEADERS = """
import json, pathlib, sys
from fastmlp.errors import ModelFormatError
from fastmlp.model_file import MAX_HEADER, read_model
import safetensors.numpy, fastmlp.network

def memory(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

def growth(content):
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(4))
    del content
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    try:
        read_model(path)
    except ModelFormatError as error:
        assert len(str(error)) < 500
    else:
        raise SystemExit("was not refused")
    return (memory("VmHWM") - before) / path.stat().st_size

path = pathlib.Path(sys.argv[1])
growth(b"{}")
entry = '"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
for count in (1, 20):
    size = count * MAX_HEADER
    headers = {
        "lists": b'{"a":[' + b"[]," * (size // 3) + b"[]]}",
        "objects": b'{"a":[' + b"{}," * (size // 3) + b"{}]}",
        "tensors": ("{" + ",".join(entry % i for i in range(size // 58)) + "}").encode(),
        "shape": b'{"a":{"dtype":"F32","shape":[' + b"1," * (size // 2) + b'1],"data_offsets":[0,4]}}',
        "metadata": ('{"__metadata__":{' + ",".join(f'"{i:x}":""' for i in range(size // 10)) + "}}").encode(),
        "text": b'{"a":"' + b"\\\\u1234" * (size // 6) + b'"}',
    }
    for name, header in headers.items():
        times = growth(header)
        # a small file may take more times its size, as that is little: at most 40 MB
        assert times < 3 if count > 1 else times * size < 40e6, (name, times)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the memory is read from /proc")
def test_no_header_takes_more_than_three_times_the_file(tmp_path: Path) -> None:
    """Twelve megabytes of "[]," would become half a gigabyte of lists; counted is the memory of the process."""
    run_python("-c", HOSTILE_HEADERS, str(tmp_path / "model"))


def peak_memory(call: Callable[[], object]) -> int:
    """Return the most bytes that a call had allocated."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Every truncation

CONTENT = save(tensors(), {"fastmlp": json.dumps(DESCRIPTION)})


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(1, len(CONTENT)):
        (tmp_path / "model").write_bytes(CONTENT[:length])
        with pytest.raises(ModelFormatError):
            Network.load(tmp_path / "model")


def test_a_network_of_bytes_trained_and_saved_predicts_from_raw_values(tmp_path: Path) -> None:
    samples = pixels(50, 8, 3)
    network = make_network(samples, 4)
    network.skip_background = True
    network.save(tmp_path / "model")
    loaded = Network.load(tmp_path / "model")
    assert loaded.skip_background
    assert loaded.predict_proba(samples.X).tobytes() == network.predict_proba(samples.X).tobytes()
    assert model_file.FORMAT == 1, "an older file must still be read when the format changes"
