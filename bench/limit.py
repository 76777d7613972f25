"""The dense limit: samples a second if nothing but the dense algorithm's arithmetic took time."""

from __future__ import annotations

from bench.workload import Workload


def dense_limit(workload: Workload, gflops: float) -> float:
    """Return samples/s at `gflops` (10^9 operations a second; a multiply-add counts as two)."""
    return gflops * 1e9 / (2.0 * workload.multiply_adds_per_sample())


def peak_gflops(dtype: str, threads: int) -> float:
    """Return the measured peak of a loop of multiply-adds on registers, in GFLOP/s over all threads."""
    from fastmlp.profiling import peak_gflops as measure

    return float(measure(dtype, threads))
