"""The process in which one implementation runs: it waits on a pipe and does what it is asked.

Start it through `bench.processes.Worker`. Requests and answers are pickles on stdin and stdout; only a
parent of the same user on the same machine is ever at the other end.
"""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from bench.implementations import BY_NAME
from bench.peers.base import Measured, Peer
from bench.workload import CHECKED_EPOCHS, Parameters, Workload


class Session:
    """What the parent may ask for; every public method is one request."""

    def __init__(self, name: str) -> None:
        self.implementation = BY_NAME[name]
        self.adapter = self.implementation.adapter()  # all workers import at the same time, before anything is timed
        self.peer: Peer

    def ready(self) -> None:
        """Answer once everything is imported."""

    def build(self, workload: Workload) -> float:
        """Set the implementation up for a workload; return the seconds it spent compiling."""
        self.peer = self.adapter(workload, self.implementation.dtype, self.implementation.threads)
        return self.peer.compile_seconds

    def check(self, seed: int) -> Measured:
        """Train the checked epochs from the initial weights and evaluate on the test part. Also a warm-up."""
        self.peer.reset()
        self.peer.train(CHECKED_EPOCHS, seed)
        return self.peer.evaluate("test")

    def train(self, epochs: int, seed: int, weights_seed: int | None = None) -> float:
        """Train from initial weights, the workload's or others; return the seconds of the training alone."""
        self.peer.reset(weights_seed)
        return self.peer.train(epochs, seed)

    def evaluate(self, part: str) -> Measured:
        """Evaluate the present weights."""
        return self.peer.evaluate(part)

    def parameters(self) -> Parameters:
        """Return the present weights."""
        return self.peer.parameters()

    def input_path(self) -> str:
        """Return which of fastmlp's input layers ran last; empty for all others."""
        return str(getattr(self.peer, "input_path", ""))

    def peak_gflops(self) -> float:
        """Return the arithmetic peak with this implementation's threads and dtype."""
        from bench.limit import peak_gflops

        return peak_gflops(self.implementation.dtype, self.implementation.threads)

    def libraries(self) -> dict[str, Any]:
        """Return the version of the library, and the BLAS and OpenMP libraries loaded."""
        from threadpoolctl import threadpool_info

        module = importlib.import_module(self.implementation.module)
        keys = ("internal_api", "version", "architecture", "num_threads", "threading_layer")
        pools = [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]
        return {
            "version": str(module.__version__),
            "thread_pools": pools,
        }

    def peak_memory_bytes(self) -> int:
        """Return the largest resident size that this process has had."""
        try:
            status = Path("/proc/self/status").read_text()
        except FileNotFoundError:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        # Linux's ru_maxrss begins with the size of the parent at the fork; this mark begins at zero.
        (high_water_mark,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(high_water_mark.split()[1]) * 1024


def serve(session: Session, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent closes its end."""
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(session, method)(*arguments))
        except Exception:
            answer = (False, traceback.format_exc())
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Serve one implementation, named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not end up between the answers
    serve(Session(sys.argv[1]), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
