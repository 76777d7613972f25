"""What of the code no test runs: ``python -m tests.coverage`` (some ten minutes).

Two parts, because compiled code does not run Python's lines:

1. Python: lines and branches of the whole suite, child processes included, by coverage.py. The bodies of kernels are
   left out, not counted as run; compiling starts from an empty cache, so that the code that emits code counts.
2. Kernels: blocks that compiled kernels run, see ``tests.kernel_coverage``, under the tests of the arithmetic.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent

# These run every kernel in the tests' own process, with every option and shape, and stop some half-way.
KERNEL_TESTS = [
    "tests/test_twin.py",
    "tests/test_network.py",
    "tests/test_training.py",
    "tests/test_profiling.py",
    "tests/test_determinism.py::test_a_large_batch_that_is_interrupted_is_done_wholly_or_not_at_all",
    "tests/test_interruption.py::test_ctrl_c_while_threads_are_started_leaves_none_waiting",
]


def run(*arguments: str, **variables: str) -> int:
    """Run a Python module in the checkout and return its exit code."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=os.environ | variables, check=False
    ).returncode


def main() -> int:
    """Run both parts and print their reports; fails if a test does."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"FASTMLP_CACHE_DIR": f"{folder}/cache", "COVERAGE_FILE": f"{folder}/coverage"}
        failed = run("coverage", "run", "-m", "pytest", "-q", "tests", **variables)
        run("coverage", "combine", "--quiet", **variables)
        run("coverage", "report", "--show-missing", "--skip-covered", **variables)
    return failed or run("pytest", "-q", "-p", "tests.kernel_coverage", *KERNEL_TESTS)


if __name__ == "__main__":
    sys.exit(main())
