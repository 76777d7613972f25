"""What all tests share: the hypothesis profiles, Ctrl-C, and a header that says what machine the results are from."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Iterator

import hypothesis
import numba
import numpy as np
import pytest
from llvmlite import binding

from fastmlp.system import usable_cpus
from tests.several_threads import subnormals_work

# the same few examples in every ordinary run; nightly tests ask for more
hypothesis.settings.register_profile("default", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


# Shells let what they start in the background ignore Ctrl-C, and whatever that starts does so too: tests that send it
# would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """See that a test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


@pytest.fixture
def subnormal_numbers_are_kept() -> Iterator[None]:
    """Kernels flush subnormal numbers to zero; it must not stay so in the caller's thread."""
    yield
    assert subnormals_work()


def pytest_report_header() -> str:
    """Name what the numbers of a run depend on."""
    return (
        f"fastmlp: NumPy {np.__version__}, Numba {numba.__version__}, {platform.machine()} "
        f"{binding.get_host_cpu_name()}, {usable_cpus()} CPUs"
    )
