"""The machine that fastmlp runs on: processors, memory, versions. Imports neither Numba nor NumPy."""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")

# What decides how wide our register tiles are, in the words of Linux; the rest of the flags would only be
# noise.
_TELLING_FEATURES = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512vl",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "asimd",
    "sve",
)

_FILE_CACHE = ("inactive_file", "active_file")

_REPORTED_PACKAGES = ("numpy", "numba", "llvmlite", "click", "matplotlib", "safetensors")


def usable_cpus() -> int:
    """Return how many CPUs this process may keep busy, the default number of threads.

    Returns
    -------
    int
        At least 1: the smallest of the limits that `cpu_limits` lists.

    Raises
    ------
    ValueError
        If ``NUMBA_NUM_THREADS`` is set to something other than a whole number >= 1 (Numba would refuse to
        start).
    """
    return max(1, min(cpu_limits().values()))


def cpu_limits(proc: Path = _PROC, cgroup: Path = _CGROUP) -> dict[str, int]:
    """Return every known limit on the number of CPUs, by its source.

    Numba looks at the affinity alone; a container with half a CPU would get a thread for every CPU of the
    host.

    Parameters
    ----------
    proc, cgroup : Path
        Where the process and the control-group file systems are mounted (other places: for tests).

    Returns
    -------
    dict of str to int
        Keys among ``"CPU affinity"``, ``"cgroup quota"``, ``"OMP_NUM_THREADS"``, ``"NUMBA_NUM_THREADS"``.

    Raises
    ------
    ValueError
        If ``NUMBA_NUM_THREADS`` is set to something other than a whole number >= 1.
    """
    limits = {"CPU affinity": _affinity()}
    quota = _quota_in_second(int(time.monotonic()), proc, cgroup)
    if quota is not None:
        limits["cgroup quota"] = max(1, math.ceil(quota))
    # OpenMP allows a list, one number per nesting level; a value that it could not read it ignores, and so do
    # we.
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if _is_count(outermost):
        limits["OMP_NUM_THREADS"] = int(outermost)
    numba_threads = os.environ.get("NUMBA_NUM_THREADS", "").strip()
    if numba_threads:
        if not _is_count(numba_threads):
            raise ValueError(f"NUMBA_NUM_THREADS: must be a whole number >= 1 (got {numba_threads!r})")
        limits["NUMBA_NUM_THREADS"] = int(numba_threads)
    return limits


def _is_count(text: str) -> bool:
    """Tell whether `text` is a whole number >= 1 in ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1


def _affinity() -> int:
    """Return how many CPUs the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _quota_in_second(second: int, proc: Path, cgroup: Path) -> float | None:  # noqa: ARG001 - part of the key
    """Return the quota as read once a second: reading takes 0.15 to 0.5 ms, and an evaluation takes five."""
    return cgroup_cpu_quota(proc, cgroup)


def cgroup_cpu_quota(proc: Path = _PROC, cgroup: Path = _CGROUP) -> float | None:
    """Return the CPU quota of the process's control group in CPUs (0.5: half of one); None without a limit.

    Every group up to the root can set a limit and the tightest one holds, so all of them are read; versions 1
    and 2.
    """
    quotas = []
    for folder in _cgroup_folders("cpu", proc, cgroup):
        try:
            if (folder / "cpu.max").is_file():
                quota, period = (folder / "cpu.max").read_text().split()[:2]
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            if quota != "max" and int(quota) > 0 and int(period) > 0:
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return min(quotas, default=None)


def _cgroup_folders(controller: str, proc: Path, cgroup: Path) -> list[Path]:
    """Return the folders of the process's control groups for one controller, from its own up to the root."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, names, path = ([*line.split(":", 2), "", ""])[:3]
        if names == "":
            roots = [cgroup, cgroup / "unified"]
        elif controller in names.split(","):
            roots = [cgroup / controller, cgroup / names]
        else:
            continue
        # Inside a container the path may be the host's and not exist here: its parents then still may.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            folders += [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return folders


def available_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Return how many bytes may be allocated before the system swaps or kills, if known."""
    amounts = []
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError, IndexError):
        pass
    for folder in _cgroup_folders("memory", proc, cgroup):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            try:
                limit = (folder / limit_name).read_text().strip()
                if limit != "max":
                    used = int((folder / used_name).read_text()) - _file_cache(folder)
                    amounts.append(max(0, int(limit) - max(0, used)))
            except (OSError, ValueError):
                continue
    amounts += _address_space(proc)
    if not amounts and hasattr(os, "sysconf"):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
    return min(amounts, default=None)


def _file_cache(folder: Path) -> int:
    """Return how many bytes a control group counts as used for files that it read, which it gives up when asked to."""
    try:
        entries = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # version 1 has those of the groups below under other names
        names = ("total_inactive_file", "total_active_file") if "total_active_file" in entries else _FILE_CACHE
        return sum(int(entries[name]) for name in names)
    except (OSError, ValueError, KeyError):
        return 0


def _address_space(proc: Path) -> list[int]:
    """Return what ``ulimit -v`` leaves to the process, if it sets a limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int((proc / "self" / "statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        return []
    return [] if limit == resource.RLIM_INFINITY else [max(0, limit - used)]


def cpu_name(proc: Path = _PROC) -> str:
    """Return the processor's name, such as ``"AMD Ryzen 9 7950X 16-Core Processor"``."""
    for key in ("model name", "Model", "Hardware"):
        value = _cpuinfo(proc).get(key, "")
        if value:
            return " ".join(value.split())
    if platform.system() == "Darwin":
        try:
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return platform.processor() or platform.machine() or "unknown"


def cpu_features(proc: Path = _PROC) -> tuple[str, ...]:
    """Return the vector instruction sets that matter to the kernels, in Linux's words; empty if unknown."""
    information = _cpuinfo(proc)
    flags = set((information.get("flags") or information.get("Features") or "").split())
    return tuple(feature for feature in _TELLING_FEATURES if feature in flags)


@functools.cache  # to read and split it takes a quarter of a millisecond, and each training asks twice
def _cpuinfo(proc: Path) -> dict[str, str]:
    """Return the first processor's entries of /proc/cpuinfo."""
    try:
        text = (proc / "cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            entries.setdefault(key.strip(), value.strip())
    return entries


def versions() -> dict[str, str]:
    """Return the versions of fastmlp, Python and the packages that results depend on."""
    from fastmlp import __version__

    found = {"fastmlp": __version__, "python": platform.python_version()}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, object]:
    """Return what a record says about the machine: system, CPU and its features, usable CPUs, memory."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "cpu_features": list(cpu_features()),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": usable_cpus(),
        "available_memory_bytes": available_memory(),
    }
