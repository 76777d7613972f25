"""The cache of machine code: never old, never wrong, never somebody else's, and never in the way.

Most tests run a tiny kernel of their own in a copy of the package, where its helper can be edited.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

import fastmlp
from fastmlp.kernels import compiler
from fastmlp.kernels.compiler import CHECKSUMS
from tests import probe_kernels
from tests.processes import run_python

POSIX = pytest.mark.skipif(os.name != "posix", reason="owners and permissions are those of POSIX")

HELPER = """
from fastmlp.kernels.compiler import kernel

@kernel
def changed(x):
    return x + 1
"""

PROBE = """
import json
import sys

import numpy as np

from fastmlp.kernels.compiler import EntryKernel, cache_folder, entry_kernel
from fastmlp.kernels.probe_helper import changed

@entry_kernel
def probe(x):
    x[0] = changed(x[0])

def run(dtype="float64"):
    # a kernel of its own each time, as in a new process
    kernel, x = EntryKernel(probe.python), np.zeros(1, dtype)
    compiled, _ = kernel.prepare(x)
    compiled(x)
    loaded = sum(kernel._dispatcher.stats.cache_hits.values())
    return {"result": float(x[0]), "loaded": loaded, "reason": cache_folder()[1]}

if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
"""


class Copy:
    """A copy of the package with a kernel of the tests' own, and a folder for its cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "cache"
        source = Path(fastmlp.__file__).parent
        shutil.copytree(source, folder / "fastmlp", ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
        self.kernels = folder / "fastmlp" / "kernels"
        (self.kernels / "probe.py").write_text(PROBE)
        self.edit_helper("x + 1")

    def edit_helper(self, expression: str) -> None:
        """Let the helper compute something else."""
        (self.kernels / "probe_helper.py").write_text(HELPER.replace("x + 1", expression))

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process uses this copy and its cache."""
        return {"PYTHONPATH": str(self.folder), "FASTMLP_CACHE_DIR": str(self.root)}

    def run(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """Run the kernel in a process of its own."""
        changed: dict[str, Any] = {**self.environment, **variables}
        printed = run_python("-m", "fastmlp.kernels.probe", *arguments, cwd=self.folder, **changed)
        return dict(json.loads(printed))

    def script(self, text: str, *, expect: int = 0, timeout: float = 100, **variables: str) -> str:
        """Run a script that uses the copy."""
        changed: dict[str, str | None] = {**self.environment, **variables}
        return run_python("-c", text, expect=expect, timeout=timeout, cwd=self.folder, **changed)

    def code_files(self) -> list[Path]:
        """Return the files of machine code and their indices."""
        return sorted(self.root.rglob("*.nb?"))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Give a copy with an empty cache."""
    return Copy(tmp_path)


# Old code


def test_what_was_compiled_is_loaded(copy: Copy) -> None:
    assert copy.run() == {"result": 1, "loaded": 0, "reason": ""}
    assert copy.run() == {"result": 1, "loaded": 1, "reason": ""}
    assert len(copy.code_files()) == 2


def test_after_a_helper_is_edited_the_new_code_runs(copy: Copy) -> None:
    """Numba's own cache looks only at the file of the kernel that Python calls."""
    assert copy.run()["result"] == 1
    copy.edit_helper("x + 2")
    assert copy.run() == {"result": 2, "loaded": 0, "reason": ""}
    copy.edit_helper("x + 1")
    assert copy.run() == {"result": 1, "loaded": 1, "reason": ""}


def test_without_the_key_the_old_code_would_run(copy: Copy) -> None:
    """What the test before is about does happen."""
    path = copy.kernels / "compiler.py"
    text = path.read_text()
    assert "folder = root / _key()" in text
    path.write_text(text.replace("folder = root / _key()", 'folder = root / ("0" * 32)'))
    assert copy.run()["result"] == 1
    copy.edit_helper("x + 2")
    assert copy.run()["result"] == 1


def test_other_flags_have_other_code(copy: Copy) -> None:
    """Numba's own cache does not tell code of other flags apart."""
    copy.run()
    assert copy.run(NUMBA_OPT="1")["loaded"] == 0
    assert copy.run()["loaded"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setenv("NUMBA_BOUNDSCHECK", "1"),
        lambda patch: patch.setenv("NUMBA_ANYTHING", "new"),
        lambda patch: patch.setattr(numba, "__version__", "0.0"),
        lambda patch: patch.setattr(llvmlite, "__version__", "0.0"),
        lambda patch: patch.setattr(np, "__version__", "0.0"),
        lambda patch: patch.setattr(sys, "version", "0.0"),
        lambda patch: patch.setattr(llvmlite.binding, "get_host_cpu_name", lambda: "z80"),
        lambda patch: patch.setattr(Path, "read_bytes", lambda path: path.name.encode()),
    ],
)
def test_everything_that_shapes_the_code_is_in_the_key(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = compiler._key()
    assert compiler._key() == before
    change(monkeypatch)
    assert compiler._key() != before


def test_another_signature_does_not_disturb_the_first(copy: Copy) -> None:
    copy.run()
    assert copy.run("int64") == {"result": 1, "loaded": 0, "reason": ""}
    assert copy.run()["loaded"] == copy.run("int64")["loaded"] == 1


# Damaged code

HEAL = """
from fastmlp.kernels import probe
from fastmlp.kernels.compiler import cache_folder

damages = {
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "deleted": lambda content: None,
    "a bit flipped": lambda content: content[:60] + bytes([content[60] ^ 4]) + content[61:],
    "last bit flipped": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "zeros": lambda content: bytes(len(content)),
}
assert probe.run()["loaded"] == 0
folder = cache_folder()[0]
for name, damage in damages.items():
    for pattern in ("*.nbi", "*.nbc", "checksums.json"):
        assert probe.run()["loaded"] == 1, (name, pattern, "it is whole before")
        path, = folder.rglob(pattern)
        content = damage(path.read_bytes())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        assert probe.run() == {"result": 1, "loaded": 0, "reason": ""}, (name, pattern)
"""


def test_damaged_files_are_compiled_anew(copy: Copy) -> None:
    """With Numba's own cache some of these end in an exception, others in LLVM aborting the process."""
    copy.script(HEAL)


KILLED = """
import os, signal
from numba.core import caching
from fastmlp.kernels import compiler, probe

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

{target} = die
probe.run()
"""


@POSIX
@pytest.mark.parametrize(
    "moment",
    ["caching.IndexDataCacheFile._save_index", "caching.IndexDataCacheFile._save_data", "compiler._record"],
)
def test_a_kill_while_writing_leaves_nothing_that_is_believed(copy: Copy, moment: str) -> None:
    """Numba writes the index before the code it points to, and uses file names again."""
    copy.run()
    copy.edit_helper("x + 2")
    copy.script(KILLED.format(target=moment), expect=-signal.SIGKILL)
    assert copy.run() == {"result": 2, "loaded": 0, "reason": ""}
    assert copy.run() == {"result": 2, "loaded": 1, "reason": ""}


def test_a_planted_file_is_not_loaded(copy: Copy, tmp_path: Path) -> None:
    """The index is a pickle, and loading a pickle runs code."""
    copy.run()
    index = next(copy.root.rglob("*.nbi"))
    index.write_bytes(index.read_bytes()[:40] + pickle.dumps(Bomb(tmp_path / "exploded")))
    (index.parent / "other.nbi").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert copy.run() == {"result": 1, "loaded": 0, "reason": ""}
    assert not (tmp_path / "exploded").exists()
    assert not (index.parent / "other.nbi").exists()


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


# Several at once


def test_cold_processes_at_once_compile_once(copy: Copy) -> None:
    """Numba's own cache can mix up the code of two signatures that are compiled at the same time."""
    command = [sys.executable, "-m", "fastmlp.kernels.probe"]
    environment = os.environ | copy.environment
    processes = [
        subprocess.Popen([*command, dtype], env=environment, cwd=copy.folder, stdout=subprocess.PIPE, text=True)
        for dtype in ("float64", "int64", "float64", "int64")
    ]
    results = [json.loads(process.communicate(timeout=100)[0]) for process in processes]
    assert [result["result"] for result in results] == [1, 1, 1, 1]
    assert sorted(result["loaded"] for result in results) == [0, 0, 1, 1]
    assert copy.run()["loaded"] == copy.run("int64")["loaded"] == 1


# No cache

HOMELESS = {
    "FASTMLP_CACHE_DIR": "",
    "HOME": "/dev/null",
    "XDG_CACHE_HOME": "/dev/null/cache",
    "LOCALAPPDATA": "",
}


@POSIX
def test_without_a_writable_home_kernels_are_compiled_in_every_process(copy: Copy) -> None:
    for _ in range(2):
        result = copy.run(**HOMELESS)
        assert (result["result"], result["loaded"]) == (1, 0)
        assert "cannot write to /dev/null/cache/fastmlp" in result["reason"]
    assert not copy.code_files()


AS_NOBODY = """
import json, os
from fastmlp.kernels import compiler, probe

# import what compiling and what caching need, which the other user might not be allowed to read
for os.environ["FASTMLP_CACHE_DIR"] in (os.environ["FASTMLP_CACHE_DIR"], "off"):
    compiler._folder = None
    probe.run()
del os.environ["FASTMLP_CACHE_DIR"]
compiler._folder = None
os.umask(0o022)
os.setuid(65534)
print(json.dumps(probe.run()))
"""


@POSIX
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only the superuser can become another user")
@pytest.mark.parametrize("home", ["writable", "not writable"])
def test_a_read_only_installation_is_no_obstacle(copy: Copy, home: str) -> None:
    """As another user, who may write neither to the package nor, perhaps, to a home.

    Numba's own cache ends in "no locator available" at import then.
    """
    place = copy.folder / "home"
    place.mkdir()
    if home == "writable":
        os.chown(place, 65534, 65534)
    for path in (*copy.folder.parents[:3], copy.folder):
        path.chmod(path.stat().st_mode | 0o011)
    variables = {"HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
    results = [json.loads(copy.script(AS_NOBODY, **variables)) for _ in range(2)]
    assert [result["result"] for result in results] == [1, 1]
    assert [result["loaded"] for result in results] == ([0, 1] if home == "writable" else [0, 0])
    assert not list((copy.folder / "fastmlp").rglob("*.nb?"))


def test_the_cache_can_be_switched_off(copy: Copy) -> None:
    copy.run()
    result = copy.run(FASTMLP_CACHE_DIR="off")
    assert result == {"result": 1, "loaded": 0, "reason": "switched off by FASTMLP_CACHE_DIR=off"}
    assert not (copy.folder / "off").exists()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give this process another cache, in a folder that does not exist yet."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "root"))
    monkeypatch.setattr(compiler, "_folder", None)
    yield tmp_path / "root"


@POSIX
def test_folders_are_our_own(root: Path) -> None:
    folder, reason = compiler.cache_folder()
    assert folder is not None
    assert (folder.parent, reason) == (root, "")
    for path in (root, folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@POSIX
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
@pytest.mark.parametrize("which", ["root", "folder"])
def test_a_folder_that_others_may_write_to_is_refused(root: Path, which: str, mode: int) -> None:
    """Whoever can write there can run code as us."""
    folder, _ = compiler.cache_folder()
    assert folder is not None
    path = root if which == "root" else folder
    path.chmod(mode)
    compiler._folder = None
    assert compiler.cache_folder() == (None, f"{path} is writable by others (chmod go-w it)")


@POSIX
def test_a_folder_of_another_user_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.cache_folder()
    compiler._folder = None
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert compiler.cache_folder() == (None, f"{root} belongs to another user")


@POSIX
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_no_cache(root: Path) -> None:
    root.mkdir(mode=0o500)
    folder, reason = compiler.cache_folder()
    assert folder is None
    assert reason.startswith(f"cannot write to {root}")


@POSIX
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only the superuser can become another user")
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_read_only_folder_is_no_cache_for_another_user(root: Path, owner: int) -> None:
    """As the test above, where the tests are run by the superuser."""
    root.mkdir(mode=0o555)
    os.chown(root, owner, owner)
    for path in root.parents[:3]:
        path.chmod(path.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        folder, reason = compiler.cache_folder()
        os._exit(0 if folder is None and reason.startswith(f"cannot write to {root}") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_in_the_place_of_the_folder_is_no_cache(root: Path) -> None:
    root.write_text("not a folder")
    folder, reason = compiler.cache_folder()
    assert folder is None
    assert reason.startswith("cannot write to")


# Keeping house


def test_importing_makes_no_folder(copy: Copy) -> None:
    copy.script("import fastmlp.kernels.batch, fastmlp.training, fastmlp.kernels.probe")
    assert not copy.root.exists()


def test_numbas_own_settings_stay_as_they_are(root: Path) -> None:
    """Users' own cached functions must not end up in our folder."""
    config: Any = numba.config
    before = config.CACHE_DIR
    kernel = compiler.EntryKernel(probe_kernels.write_to.python)
    kernel.prepare(np.zeros(64), 0)
    assert before == config.CACHE_DIR
    assert list(root.rglob("*.nbc"))


def test_clearing_deletes_what_is_ours_and_tells_how_much(root: Path) -> None:
    kernel = compiler.EntryKernel(probe_kernels.write_to.python)
    kernel.prepare(np.zeros(64), 0)
    folder, _ = compiler.cache_folder()
    assert folder is not None
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    keep = [root / "notes.txt", root / "project" / "lock", root / ("a" * 32) / "no lock here"]
    for path in keep:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert compiler.clear_cache() == size > 0
    assert not folder.exists()
    assert all(path.read_text() == "mine" for path in keep)
    kernel.prepare(np.zeros(64, np.float32), 0)  # goes on as if nothing had happened
    assert list(folder.rglob("*.nbc"))
    assert json.loads((folder / CHECKSUMS).read_text())


def test_folders_that_nobody_used_for_a_month_are_deleted(root: Path) -> None:
    root.mkdir(mode=0o700)
    folders = {name: root / name for name in ("a" * 32, "b" * 32, "project")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "lock").touch()
    month = 31 * 24 * 3600
    for name in ("a" * 32, "project"):
        os.utime(folders[name], (time.time() - month,) * 2)
    current, _ = compiler.cache_folder()
    assert {path.name for path in root.iterdir()} == {"b" * 32, "project", current.name if current else ""}


@pytest.mark.parametrize(
    "place",
    [
        (IndexDataCacheFile, "_save_index"),
        (IndexDataCacheFile, "_save_data"),
        (compiler, "_record"),
        (compiler, "_locked"),
        (Path, "write_text"),
    ],
    ids=lambda place: place[1],
)
def test_a_full_disk_costs_the_cache_but_no_training(
    root: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def loaded() -> int:
        kernel = compiler.EntryKernel(probe_kernels.write_to.python)
        target = np.ones(64)
        kernel.prepare(target, 0)[0](target, 0)
        assert not target.all()
        return sum(kernel._dispatcher.stats.cache_hits.values())

    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        assert loaded() == 0
    assert not list(root.rglob(f"{CHECKSUMS}.*"))
    assert [loaded(), loaded()] == [0, 1]


def test_what_another_process_clears_is_compiled_anew(root: Path) -> None:
    kernel = compiler.EntryKernel(probe_kernels.write_to.python)
    kernel.prepare(np.zeros(64), 0)
    folder, _ = compiler.cache_folder()
    assert folder is not None
    shutil.rmtree(root)
    kernel.prepare(np.zeros(64, np.float32), 0)
    assert list(folder.rglob("*.nbc"))
    assert json.loads((folder / CHECKSUMS).read_text())
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, folder)] == [0o700, 0o700]


# The real kernels

TRAIN = """
import hashlib
import numpy as np
from fastmlp.network import Network
from fastmlp.training import train

X, y = np.arange(600).reshape(100, 6) % 7, np.arange(100) % 3
network = Network((6, 5, 3), activation="scaled_tanh", mean=3.0, std=2.0)
history = train(network, X.astype(np.uint8), y, epochs=1, threads=2)
print(hashlib.sha256(b"".join(array.tobytes() for array in network.weights)).hexdigest())
"""


def test_a_warm_start_compiles_nothing() -> None:
    """Kernels that cannot be cached, such as some closures, would be compiled in each process and fill the disk."""
    folder, reason = compiler.cache_folder()
    if folder is None:
        pytest.skip(reason)
    run_python("-c", TRAIN)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}
    run_python("-c", TRAIN)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")} == before


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_results_do_not_depend_on_the_cache(copy: Copy) -> None:
    """Cold, warm and off; and after a constant of a kernel is edited, another result."""
    cold = copy.script(TRAIN, timeout=300)
    assert copy.script(TRAIN) == cold
    assert copy.script(TRAIN, timeout=300, FASTMLP_CACHE_DIR="off") == cold
    path = copy.kernels / "activation.py"
    path.write_text(path.read_text().replace("AMPLITUDE = 1.7159", "AMPLITUDE = 1.7158"))
    assert copy.script(TRAIN, timeout=300) != cold
