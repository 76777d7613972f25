"""The run folder is claimed before training and never harmed by what goes wrong later."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from fastmlp.errors import FastmlpError
from fastmlp.runs import RunFolder, RunFolderError, json_ready, network_name, replacing, write_json


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ((784, 64, 10), "784-64-10"),
        ((784, 10), "784-10"),
        ((784, 64, 64, 10), "784-64-64-10"),
        ((784, *[64] * 10, 10), "784-64x10-10"),
        ((784, *range(100, 150), 10), "784-50layers-10"),
    ],
)
def test_network_name(layers: tuple[int, ...], name: str) -> None:
    assert network_name(layers) == name


# The folder


def test_default_folders_are_fresh_also_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [RunFolder.create(None, (784, 64, 10)).path for _ in range(3)]
    assert len(set(made)) == 3
    for path in made:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}-784-64-10(-\d)?", path.name)
        assert json.loads((path / "config.json").read_text()) == {"status": "running"}


def test_a_folder_with_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        RunFolder.create(tmp_path, (2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_runs_cannot_claim_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    winners, losers = [], []

    def claim() -> None:
        try:
            winners.append(RunFolder.create(folder, (2, 2)))
        except RunFolderError as error:
            losers.append(error)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 7)


def test_overwriting_keeps_the_record_until_the_new_one_is_written(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"status": "finished"}')
    (tmp_path / "notes.txt").write_text("mine")
    run = RunFolder.create(tmp_path, (2, 2), overwrite=True)
    run.abandon()
    assert (tmp_path / "config.json").read_text() == '{"status": "finished"}'
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_abandoned_claim_leaves_nothing_new(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "new", (2, 2)).abandon()
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    RunFolder.create(tmp_path / "mine", (2, 2)).abandon()
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(("place", "words"), [("file", "is not a folder"), ("file/below", "is not a folder")])
def test_a_file_is_no_folder(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=words):
        RunFolder.create(tmp_path / place, (2, 2))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr(Path, "open", refuse)  # not chmod: root may write anywhere
    with pytest.raises(RunFolderError, match="permission denied"):
        RunFolder.create(tmp_path / "run", (2, 2))


def test_a_disk_without_room_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunFolderError, match=r"disk full: the run needs 5\.0 MB, 1\.0 MB are free"):
        RunFolder.create(tmp_path / "run", (2, 2), needed_bytes=5_000_000)
    assert not (tmp_path / "run").exists()


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    leftovers = [
        ".model.safetensors.12ab.tmp",
        "..model.safetensors.12ab.tmp.x_1y",  # of the file that is written atomically to that temporary one
        ".history.csv.12ab.tmp",
    ]
    kept = [".model.safetensors", "model.safetensors.tmp", ".other.tmp", "notes.txt"]
    for name in leftovers + kept:
        (tmp_path / name).write_text("half")
    with RunFolder.create(tmp_path, (2, 2), overwrite=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "config.json"])


# Replacing a file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_half_way_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_at_any_step_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", full)
    expected = pytest.raises(FastmlpError, match="no space left on device; the previous file is kept")
    with expected, replacing(path) as temporary:
        temporary.write_text("new")
        if call == "write":
            full()
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# JSON


def test_json_takes_numpy_and_replaces_what_json_cannot_say(tmp_path: Path) -> None:
    document = {
        "array": np.arange(3, dtype=np.float32),
        "scalar": np.int64(7),
        "flag": np.bool_(True),
        "bad": [float("nan"), np.float64("inf")],
        "path": Path("a") / "b",
        "tuple": (1, None, "x"),
    }
    write_json(tmp_path / "x.json", document)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "array": [0.0, 1.0, 2.0],
        "scalar": 7,
        "flag": True,
        "bad": [None, None],
        "path": os.path.join("a", "b"),  # noqa: PTH118 - the system's own separator
        "tuple": [1, None, "x"],
    }


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON: object"):
        json_ready({"x": object()})
