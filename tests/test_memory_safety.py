"""No kernel reads or writes outside its arrays: see ``tests.guarded``."""

from __future__ import annotations

import os

import pytest

from tests.processes import run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs mmap, mprotect and fork")

# Where the cache is empty, all kernels for both dtypes and both kinds of data are compiled first: 100 s here.
TIMEOUT = 300


def test_the_guard_catches_reads_and_writes_beyond_either_end() -> None:
    run_python("-m", "tests.guarded", "self-test")


@pytest.mark.parametrize("placement", ["end", "start"])
def test_kernels_stay_within_their_arrays(placement: str) -> None:
    run_python("-m", "tests.guarded", placement, timeout=TIMEOUT)


@pytest.mark.nightly
@pytest.mark.parametrize("shift", range(1, 30))
@pytest.mark.parametrize("placement", ["end", "start"])
def test_kernels_stay_within_their_arrays_for_other_shapes(placement: str, shift: int) -> None:
    run_python("-m", "tests.guarded", placement, str(shift), timeout=TIMEOUT)
