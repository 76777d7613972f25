"""``fastmlp info``."""

from __future__ import annotations

from typing import Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.cache import cache_state, describe_cache
from fastmlp.cli.options import json_option
from fastmlp.cli.output import print_fields, print_json
from fastmlp.memory import human_bytes


@click.command(
    cls=Command,
    examples=[("fastmlp info", ""), ("fastmlp info --json", "for a bug report")],
)
@json_option()
def info(as_json: bool) -> None:
    """Show the machine, the versions and the kernel cache.

    What the kernels were shaped for, how many threads a training will use and why, and where the compiled
    machine code is kept.
    """
    from fastmlp.system import cpu_limits, machine, versions

    document: dict[str, Any] = {
        "command": "info",
        "machine": machine(),
        "cpu_limits": cpu_limits(),
        "kernels": _kernels(),
        "cache": cache_state(),
        "versions": versions(),
    }
    if as_json:
        print_json(document)
    else:
        print_fields(_fields(document))


def _kernels() -> dict[str, Any]:
    """Return what the kernels are compiled for: SIMD lanes per number type."""
    import llvmlite.binding
    import numpy as np

    from fastmlp.kernels.layout import block_width, lanes

    kernels: dict[str, Any] = {"target": llvmlite.binding.get_host_cpu_name()}
    for dtype in ("float32", "float64"):
        kernels[dtype] = {"lanes": lanes(np.dtype(dtype)), "block": block_width(np.dtype(dtype))}
    return kernels


def _fields(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the information for people."""
    machine, limits, kernels = document["machine"], document["cpu_limits"], document["kernels"]
    memory = machine["available_memory_bytes"]
    return [
        ("System", f"{machine['system']} on {machine['architecture']}"),
        ("CPU", f"{machine['cpu']} ({kernels['target']})"),
        ("Features", " ".join(machine["cpu_features"]) or "unknown"),
        ("Lanes", ", ".join(f"{kernels[dtype]['lanes']} x {dtype}" for dtype in ("float32", "float64"))),
        (
            "Threads",
            f"{machine['usable_cpus']} (of {machine['cpus']} CPUs; "
            + ", ".join(f"{name} {limit}" for name, limit in limits.items())
            + ")",
        ),
        ("Thread team", "fastmlp's own; no OpenMP or TBB needed"),
        ("Memory", "unknown" if memory is None else f"{human_bytes(memory)} available"),
        ("Kernel cache", describe_cache(document["cache"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in document["versions"].items())),
    ]
