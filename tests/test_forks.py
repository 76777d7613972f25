"""Forks and worker processes.

Whatever could hang or kill the process runs in a process of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.processes import run_python, run_script
from tests.several_threads import SMALL_RUN

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_thread_is_left", "subnormal_numbers_are_kept"),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 on: threads and fork
def test_children_and_grandchildren_train_and_predict() -> None:
    """With OpenMP a child is killed at its first parallel call, and a grandchild hangs."""
    run_script(
        f"""{SMALL_RUN}
import os
expected = learn(threads=2)

def generation(n):
    child = os.fork()
    if child == 0:
        same = learn(threads=2) == expected == learn()
        os._exit(0 if same and (n == 0 or generation(n - 1) == 0) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert generation(1) == 0
assert learn(threads=2) == expected
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_fork_while_another_thread_trains() -> None:
    run_script(
        f"""{SMALL_RUN}
import os, threading
expected = learn(threads=2)
thread = threading.Thread(target=lambda: [learn(threads=2) for _ in range(20)])
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if learn(threads=2) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
thread.join()
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_child_does_not_wait_for_threads_that_rest_in_its_parent() -> None:
    run_script(
        """
import os, threading
from fastmlp.workers import _resting, run_apart

def call():
    done = threading.Event()
    run_apart([lambda: done.wait(60), done.set], lambda: None)

call()
while not _resting:
    pass
child = os.fork()
if child == 0:
    call()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
call()
""",
        timeout=30,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_fork_waits_for_compiling() -> None:
    """A child would find the lock of a thread that it does not have taken for ever."""
    run_script(
        """
import os, threading, time
from fastmlp.kernels import compiler
begun = threading.Event()

def compile_something():
    with compiler._compiling:
        begun.set()
        time.sleep(0.5)

thread = threading.Thread(target=compile_something)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if compiler._compiling.acquire(timeout=5) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
thread.join()
"""
    )


WORKER = """
import multiprocessing

def work(seed):
    import numpy as np
    from fastmlp.network import Network
    from fastmlp.training import train
    X, y = np.random.default_rng(0).random((60, 8)), np.arange(60) % 3
    network = Network((8, 40, 3), seed=seed)
    train(network, X, y, epochs=2, threads=2)
    return network

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        networks = pool.map(work, [1, 2, 1, 2])
    assert all((a == b).all() for a, b in zip(networks[0].weights, networks[2].weights))
    assert not (networks[0].weights[0] == networks[1].weights[0]).all()
    assert all((a == b).all() for a, b in zip(networks[1].weights, work(2).weights))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_train_and_send_networks_back(method: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(WORKER.replace("{method}", method))
    run_python(str(tmp_path / "main.py"))


JOBLIB = """
import os
import joblib
import numpy as np
from fastmlp.network import Network
from fastmlp.training import train

X, y = np.random.default_rng(0).random((60, 8)), np.arange(60) % 3

def work(seed, network=None):
    network = Network((8, 40, 3), seed=seed)
    train(network, X, y, epochs=2, threads=2)
    return network, network.predict_proba(X)

def work_elsewhere(seed):
    # joblib limits the threads of its workers by this; the cache takes code of other NUMBA_* settings for other
    # code, so that the workers would compile anew
    os.environ.pop("NUMBA_NUM_THREADS", None)
    return work(seed)

for backend in ("loky", "threading"):
    results = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(work_elsewhere)(seed) for seed in (1, 2, 1, 2))
    for seed, (network, probabilities) in zip((1, 2, 1, 2), results):
        expected, expected_probabilities = work(seed)
        assert all((a == b).all() for a, b in zip(network.weights, expected.weights)), backend
        assert (probabilities == expected_probabilities).all()
"""


def test_joblib_trains_in_processes_and_threads(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(JOBLIB)
    run_python(str(tmp_path / "main.py"), JOBLIB_TEMP_FOLDER=str(tmp_path))


def test_numba_starts_no_threads() -> None:
    """There are no parallel loops: which threading layer Numba would choose, or that it has none, does not matter."""
    run_script(
        f"""{SMALL_RUN}
import numba
learn(threads=2)
try:
    numba.threading_layer()
except ValueError:
    pass  # "Threading layer is not initialized."
else:
    raise SystemExit("Numba has started its threads")
"""
    )
