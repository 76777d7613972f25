"""Where and with what a report was measured."""

from __future__ import annotations

import datetime
import os
import subprocess
from typing import Any

from bench.implementations import BY_NAME, UNSET_IN_WORKERS, missing
from bench.processes import ROOT
from fastmlp import system

_PEERS = {"numpy": "NumPy", "jax": "JAX", "torch": "PyTorch", "sklearn": "scikit-learn"}


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
    """Return one line for the README from the results of the training section: CPU, versions, day."""
    machine, versions = result["machine"], result["versions"]
    features = machine["cpu_features"]
    vectors = " with AVX-512" if "avx512f" in features else " with AVX2" if "avx2" in features else ""
    contenders = result["rows"][0]["results"].values()
    loaded = {BY_NAME[each["implementation"]].module: each["libraries"] for each in contenders}
    parts = [
        f"{machine['cpu']}{vectors}, {machine['usable_cpus']} cores",
        f"Python {versions['python']}",
        f"Numba {versions['numba']}",
        *(f"{_PEERS[module]} {libraries['version']}" for module, libraries in loaded.items() if module in _PEERS),
        *sorted({f"OpenBLAS kernel {kernel}" for kernel in _openblas_kernels(loaded["numpy"])}),
    ]
    return f"{', '.join(parts)}; measured on {result['time'][:10]}"


def _openblas_kernels(libraries: dict[str, Any]) -> list[str]:
    pools = libraries["thread_pools"]
    return [pool["architecture"] for pool in pools if pool["internal_api"] == "openblas"]
