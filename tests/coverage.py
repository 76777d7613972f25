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

# These run every kernel in the tests' own process, with every option and shape.
KERNEL_TESTS = ["twin", "network", "training", "tile", "profiling"]


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
    files = [f"tests/test_{name}.py" for name in KERNEL_TESTS]
    return failed or run("pytest", "-q", "-p", "tests.kernel_coverage", *files)


if __name__ == "__main__":
    sys.exit(main())
