"""Python scripts in processes of their own, for what would end the process of the tests if it went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent


def run_python(
    *arguments: str,
    expect: int | None = 0,
    timeout: float = 100,
    cwd: Path | None = None,
    **variables: str | None,
) -> str:
    """Run Python with arguments in an environment with some variables changed (None removes one).

    Returns what it printed; fails if it ends otherwise than expected, or hangs.
    """
    environment = {
        name: value for name, value in (os.environ | {"PYTHONPATH": str(ROOT)} | variables).items() if value is not None
    }
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    if expect is not None:
        assert result.returncode == expect, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def run_script(script: str, *, expect: int | None = 0, timeout: float = 100, **variables: str | None) -> str:
    """Run a script given as text, as ``run_python`` does; warnings are errors."""
    arguments = "-W", "error", "-c", textwrap.dedent(script)
    return run_python(*arguments, expect=expect, timeout=timeout, cwd=None, **variables)
