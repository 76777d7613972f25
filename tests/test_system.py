"""What fastmlp believes about the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmlp import system


@pytest.fixture
def no_thread_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def files(root: Path, contents: dict[str, str]) -> Path:
    """Write small files below `root`, which is returned."""
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_usable_cpus_is_within_the_affinity(no_thread_variables: None) -> None:
    assert 1 <= system.usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_affinity_limits_usable_cpus(no_thread_variables: None) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert system.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("value", "limit"), [("1", 1), ("1,4", 1), (" 3 ", 3)])
def test_omp_num_threads_is_a_limit(
    no_thread_variables: None, monkeypatch: pytest.MonkeyPatch, value: str, limit: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert system.cpu_limits()["OMP_NUM_THREADS"] == limit


@pytest.mark.parametrize("value", ["", "many", "0", "-1"])
def test_unreadable_omp_num_threads_is_ignored(
    no_thread_variables: None, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert "OMP_NUM_THREADS" not in system.cpu_limits()


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5", "²"])
def test_numba_num_threads_that_numba_would_refuse_is_named(
    no_thread_variables: None, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    with pytest.raises(ValueError, match="NUMBA_NUM_THREADS: must be a whole number >= 1"):
        system.usable_cpus()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param({"cpu.max": "max 100000"}, None, id="no limit"),
        pytest.param({"a/b/cpu.max": "150000 100000"}, 1.5, id="own group"),
        pytest.param({"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, 0.5, id="parent is tighter"),
        pytest.param({"cpu.max": "200000 100000"}, 2.0, id="only the root, as in a container"),
        pytest.param({"a/b/cpu.max": "nonsense"}, None, id="unreadable"),
    ],
)
def test_cgroup_v2_quota_is_the_tightest_up_to_the_root(
    tmp_path: Path, groups: dict[str, str], expected: float | None
) -> None:
    proc = files(tmp_path / "proc", {"self/cgroup": "0::/a/b\n"})
    cgroup = files(tmp_path / "cgroup", groups)
    assert system.cgroup_cpu_quota(proc, cgroup) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("250000", 2.5)])
def test_cgroup_v1_quota(tmp_path: Path, quota: str, expected: float | None) -> None:
    proc = files(tmp_path / "proc", {"self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/1\n0::/\n"})
    files(
        tmp_path / "cgroup/cpu/docker/1",
        {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"},
    )
    assert system.cgroup_cpu_quota(proc, tmp_path / "cgroup") == expected


def test_part_of_a_cpu_is_rounded_up(tmp_path: Path, no_thread_variables: None) -> None:
    proc = files(tmp_path / "proc", {"self/cgroup": "0::/\n"})
    cgroup = files(tmp_path / "cgroup", {"cpu.max": "150000 100000"})
    assert system.cpu_limits(proc, cgroup)["cgroup quota"] == 2


def test_a_quota_that_changes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_thread_variables: None
) -> None:
    now = 10.0
    monkeypatch.setattr(system, "time", SimpleNamespace(monotonic=lambda: now))
    proc = files(tmp_path / "proc", {"self/cgroup": "0::/\n"})
    for number in (1, 2):
        cgroup = files(tmp_path / "cgroup", {"cpu.max": f"{number}00000 100000"})
        now += 1.0
        assert system.cpu_limits(proc, cgroup)["cgroup quota"] == number


def test_memory_is_the_smaller_of_the_machine_and_the_group(tmp_path: Path) -> None:
    proc = files(tmp_path / "proc", {"self/cgroup": "0::/a\n", "meminfo": "MemTotal: 64 kB\nMemAvailable:  8192 kB\n"})
    assert system.available_memory(proc, tmp_path / "cgroup") == 8192 * 1024
    files(tmp_path / "cgroup/a", {"memory.max": "1000000", "memory.current": "400000"})
    assert system.available_memory(proc, tmp_path / "cgroup") == 600_000


@pytest.mark.parametrize(
    ("version", "statistics", "available"),
    [
        (2, "anon 100\ninactive_file 200000\nactive_file 100000\nfile 350000\n", 400_000),
        (1, "inactive_file 1\nactive_file 1\ntotal_inactive_file 250000\ntotal_active_file 50000\n", 400_000),
        (2, "inactive_file 900000\nactive_file 900000\n", 1_000_000),
        (2, "inactive_file many\n", 100_000),
        (2, "", 100_000),
    ],
)
def test_files_that_were_read_take_no_memory(tmp_path: Path, version: int, statistics: str, available: int) -> None:
    """A group counts the cache of its files as used, which grows with every file read but is given up when needed."""
    limit, used = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    proc = files(tmp_path / "proc", {"self/cgroup": "0::/a\n" if version == 2 else "4:memory:/a\n"})
    group = {f"memory.{limit}": "1000000", f"memory.{used}": "900000", "memory.stat": statistics}
    files(tmp_path / ("cgroup/a" if version == 2 else "cgroup/memory/a"), group)
    assert system.available_memory(proc, tmp_path / "cgroup") == available


def test_cpu_name_and_features_are_read_from_cpuinfo(tmp_path: Path) -> None:
    text = "model name\t: Some  CPU @ 2 GHz\nflags\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t: x\n"
    proc = files(tmp_path, {"cpuinfo": text})
    assert system.cpu_name(proc) == "Some CPU @ 2 GHz"
    assert system.cpu_features(proc) == ("fma", "avx2")


def test_a_machine_without_proc_still_has_a_description(tmp_path: Path) -> None:
    assert system.cpu_name(tmp_path / "none")
    assert system.cpu_features(tmp_path / "none") == ()
    assert system.cgroup_cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_versions_name_what_results_depend_on() -> None:
    import numpy

    import fastmlp

    found = system.versions()
    assert found["fastmlp"] == fastmlp.__version__
    assert found["numpy"] == numpy.__version__
    assert {"python", "numba", "llvmlite"} <= found.keys()


def test_asking_for_cpus_does_not_load_numba_or_numpy() -> None:
    code = (
        "import sys, fastmlp.system as s; s.machine(); s.versions(); "
        "print([m for m in ('numba', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
