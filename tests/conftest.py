"""What all tests share: the hypothesis profiles, Ctrl-C, and a header that says what machine the results are from."""

from __future__ import annotations

import platform
import signal

import hypothesis
import numba
import numpy as np
from llvmlite import binding

from fastmlp.system import usable_cpus

# the same few examples in every ordinary run; nightly tests ask for more
hypothesis.settings.register_profile("default", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


# Shells let what they start in the background ignore Ctrl-C, and whatever that starts does so too: tests that send it
# would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Name what the numbers of a run depend on."""
    return (
        f"fastmlp: NumPy {np.__version__}, Numba {numba.__version__}, {platform.machine()} "
        f"{binding.get_host_cpu_name()}, {usable_cpus()} CPUs"
    )
