"""Where and with what a report was measured."""

from __future__ import annotations

import datetime
import os
import subprocess
from typing import Any

from bench.implementations import UNSET_IN_WORKERS, missing
from bench.processes import ROOT
from fastmlp import system


def description() -> dict[str, Any]:
    """Return machine, versions, commit, load and what the environment of the workers is cleared of."""
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": system.machine(),
        "versions": system.versions(),
        "missing_peers": missing(),
        "commit": _commit(),
        "load_average_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "unset_in_workers": list(UNSET_IN_WORKERS),
        "set_here": [name for name in UNSET_IN_WORKERS if name in os.environ],
    }


def _commit() -> str | None:
    """Return the commit of the working tree, marked if files that git knows differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def sentence(result: dict[str, Any]) -> str:
    """Return one line for the README: CPU, versions, day."""
    machine, versions = result["machine"], result["versions"]
    vectors = (
        "AVX-512"
        if "avx512f" in machine["cpu_features"]
        else "AVX2"
        if "avx2" in machine["cpu_features"]
        else ""
    )
    parts = [
        f"{machine['usable_cpus']} cores of an {machine['cpu']}" + (f" with {vectors}" if vectors else ""),
        f"Python {versions['python']}",
        f"NumPy {versions['numpy']}",
        f"Numba {versions['numba']}",
        *(f"{name} {version}" for name, version in result.get("peer_versions", {}).items()),
    ]
    return ", ".join(parts) + f"; measured {result['time'][:10]}."
