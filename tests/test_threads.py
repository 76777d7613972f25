"""Threads: calls from several of them, forks, exceptions and Ctrl-C; nothing hangs, leaks or stays changed.

Whatever could hang or kill the process runs in a process of its own.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import engine, placement, workers
from fastmlp.engine import prediction
from fastmlp.errors import TrainingInterrupted
from fastmlp.kernels import batch, layout
from fastmlp.kernels.layout import Layout, block_width
from fastmlp.network import Network
from fastmlp.system import usable_cpus
from fastmlp.team_size import TeamSize
from fastmlp.training import Progress, train
from tests.processes import run_python, run_script
from tests.small_data import Samples, make_network, pixels, same_bits, table

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """See that a test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


@pytest.fixture(autouse=True)
def subnormal_numbers_are_kept() -> Iterator[None]:
    """Kernels flush subnormal numbers to zero; it must not stay so in the caller's thread."""
    yield
    assert subnormals_work()


def subnormals_work() -> bool:
    """Whether this thread computes with subnormal numbers."""
    tiny = np.array([np.finfo(np.float32).tiny])
    return bool((tiny / 2 > 0).all() and (tiny / 2 * 2 == tiny).all())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Stopped(Exception):  # noqa: N818 - it is no error
    """What a callback raises."""


# Several callers


def test_concurrent_predictions_on_one_network() -> None:
    samples = pixels(1500, 300)
    network = make_network(samples, 64)
    expected = network.copy().predict_proba(samples.X, threads=1).tobytes()

    def predict(threads: int) -> bool:
        return network.predict_proba(samples.X, threads=1 + threads % 3).tobytes() == expected

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(predict, range(40)))


def test_concurrent_trainings() -> None:
    samples = pixels(200, 60)
    expected = trained(samples)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(trained, samples, threads=1 + i % 3) for i in range(12)]
        assert all(same_bits(future.result(), expected) for future in futures)


def trained(samples: Samples, **options: Any) -> Network:
    """Train a network of its own for each call."""
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    train(network, samples.X, samples.y, **({"epochs": 2, "threads": 1} | options))
    return network


def test_predicting_while_training_sees_the_network_before_or_after() -> None:
    samples = table(400, 60)
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    before = network.predict_proba(samples.X[:50]).tobytes()
    seen: set[bytes] = set()
    done = threading.Event()

    def predict() -> None:
        while not done.is_set():
            seen.add(network.predict_proba(samples.X[:50]).tobytes())

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(predict) for _ in range(2)]
        train(network, samples.X, samples.y, epochs=20, threads=2)
        done.set()
        for future in futures:
            future.result()
    assert seen <= {before, network.copy().predict_proba(samples.X[:50]).tobytes()}


def test_two_trainings_of_one_network_do_not_crash() -> None:
    """Which result stays is not defined, but it is one of a training."""
    samples = pixels(200, 60)
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    start = network.copy()
    options: dict[str, Any] = {"epochs": 5, "threads": 2}
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(train, network, samples.X, samples.y, **options) for _ in range(2)]:
            future.result()
    once, twice = start.copy(), start.copy()
    train(once, samples.X, samples.y, **options)
    for _ in range(2):
        train(twice, samples.X, samples.y, **options)
    assert same_bits(network, once) or same_bits(network, twice)


# The number of threads


def test_more_threads_than_processors() -> None:
    samples = pixels(200, 100)
    network = make_network(samples, 600, 40)
    threads = usable_cpus() + 5
    history = train(network, samples.X, samples.y, epochs=1, threads=threads)
    assert history.threads == min(threads, Layout((100, 600, 40, 3), network.dtype, 1).useful_threads)
    assert network.predict(samples.X, threads=1000).shape == (200,)


def test_threads_without_work_are_not_started() -> None:
    samples = table(20, 3, 2)
    network = make_network(samples, 2)
    assert train(network, samples.X, samples.y, epochs=1, threads=64).threads == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(40, 70, 3), (150, 40)], ids=str)
@pytest.mark.parametrize("batch_size", [5, 32, 150])
def test_skipping_what_a_relu_has_switched_off_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, hidden: tuple[int, ...], dtype: str
) -> None:
    samples = pixels(300, 100)
    trained = []
    for fewest in (1, 1000):
        monkeypatch.setattr(layout, "WIDE", fewest)
        monkeypatch.setattr(layout, "NARROW", fewest)
        for threads in (1, 2, 3):
            network = make_network(samples, *hidden, activation="relu", dtype=dtype)
            train(network, samples.X, samples.y, epochs=2, batch_size=batch_size, threads=threads)
            trained.append(network)
    assert all(same_bits(each, trained[0]) for each in trained)


@pytest.mark.parametrize("narrow", [1, 4, 8])
@pytest.mark.parametrize(("threads", "bounds"), [(1, ()), (2, ()), (3, ()), (4, ()), (2, (0.0, 0.7, 1.0))])
def test_threads_agree_on_which_layers_skip(
    monkeypatch: pytest.MonkeyPatch, narrow: int, threads: int, bounds: tuple[float, ...]
) -> None:
    """Where a layer is wide, or some thread owns enough of it."""
    monkeypatch.setattr(layout, "NARROW", narrow)
    dtype = np.dtype(np.float32)
    blocks = np.array([1, 2, 3, 4, 7, 8, 12])
    whole = Layout((50, *(blocks * block_width(dtype)).tolist(), 10), dtype, 32)
    owned = [whole.owned(thread, threads, bounds) for thread in range(threads)]
    most = np.max([layers["last_block"] - layers["first_block"] for layers in owned], axis=0)
    expected = (most[:-1] >= narrow) | (blocks >= layout.WIDE)
    for layers in owned:
        assert layers["skips"][:-1].tolist() == expected.tolist()


@pytest.mark.parametrize("hidden", [(20,), (100, 20)], ids=["sharing inputs", "sharing units"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("batch_size", "done"), [(32, 1), (200, 0)], ids=["small batches", "batches in pieces"])
def test_who_is_asked_to_stop_does_so_in_the_midst_of_a_large_batch(
    batch_size: int, done: int, threads: int, hidden: tuple[int, ...]
) -> None:
    samples = pixels(400, 100)
    network = make_network(samples, *hidden)
    memory = engine.TrainingMemory(
        network.model(skip_background=True), network.weights, network.biases,
        batch_size=batch_size, steps_per_epoch=400 // batch_size,
        rule=engine.rule_of(0.0, nesterov=False), momentum=0.0, l2=0.0, threads=threads,
    )  # fmt: skip
    memory.take(samples.X, samples.y.astype(np.int32))
    order = np.arange(400, dtype=np.uint32)
    calls = memory.calls(order, np.full(400, 0.1), np.zeros(400), 0, 400 // batch_size, threads)
    memory.stop()
    with ThreadPoolExecutor(threads) as pool:
        for call in [pool.submit(call) for call in calls]:
            call.result(timeout=60)
    assert memory.steps_done == done


@pytest.mark.parametrize(
    ("busy", "waiting", "expected"),
    [
        ((100, 100), (0, 0), [2, 2]),
        ((100, 300), (200, 0), [3, 1]),
        ((300, 100), (0, 200), [1, 3]),
        ((100, 150), (50, 0), [2, 2]),  # not worth it
        ((0, 100), (0, 0), [2, 2]),  # nothing is known
    ],
)
def test_who_is_much_faster_gets_more_groups(
    busy: tuple[int, int], waiting: tuple[int, int], expected: list[int]
) -> None:
    samples = table(40, 100, dtype="float32")
    network = make_network(samples, 16 * block_width(np.dtype(np.float32)))  # in four groups
    memory = engine.TrainingMemory(
        network.model(skip_background=False), network.weights, network.biases, batch_size=32, steps_per_epoch=1,
        rule=engine.rule_of(0.0, nesterov=False), momentum=0.0, l2=0.0, threads=2,
    )  # fmt: skip
    memory.take(samples.X, samples.y.astype(np.int32))
    for _ in range(2):  # even, and once more as they are dealt now
        calls = memory.calls(np.arange(40, dtype=np.uint32), np.zeros(1), np.zeros(1), 0, 1, 2)
        layers = [call.args[0] for call in calls]  # type: ignore[attr-defined]
        groups = [int(each[0]["last_group"] - each[0]["first_group"]) for each in layers]
        memory.times[:, batch.BACKWARD] += np.array(busy) * groups
        memory.times[:, batch.WAITING] += waiting
        memory.collect(2)
    assert groups == expected
    assert [each[1]["last_block"] - each[1]["first_block"] for each in layers] == [4 * count for count in expected]


def test_threads_that_cannot_be_started_are_an_error_and_leave_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for one that never comes would wait for ever."""
    start, count = threading.Thread.start, 0

    def start_two(self: threading.Thread) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise RuntimeError("can't start new thread")
        start(self)

    samples = pixels(200, 100)
    network = make_network(samples, 600)
    before = network.copy()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_two)
        with pytest.raises(RuntimeError, match="could not start 4 threads at the same time; ask for fewer"):
            train(network, samples.X, samples.y, epochs=1, threads=4)
    assert same_bits(network, before)


class Processors:
    """Stands in for a system with three of them, on which every thread begins on the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running = 1  # number of the thread that runs
        self.allowed: dict[int, set[int]] = defaultdict(lambda: {0, 1, 2})
        self.place: dict[int, int] = defaultdict(int)
        monkeypatch.setattr(placement, "_current_processor", lambda: self.place[self.running])
        monkeypatch.setattr(os, "sched_getaffinity", lambda thread: self.allowed[thread or self.running])
        monkeypatch.setattr(os, "sched_setaffinity", self.bind)

    def bind(self, thread: int, processors: set[int]) -> None:
        """Let a thread, 0 for the one that runs, run on these only; it moves if it has to."""
        thread = thread or self.running
        self.allowed[thread] = processors
        if self.place[thread] not in processors:
            self.place[thread] = min(processors)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to processors")
def test_threads_of_a_team_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts where another of the team runs is moved to a free processor, but not bound to it."""
    system = Processors(monkeypatch)
    seats = placement.Seats()
    for system.running in range(1, 5):  # one more than there are processors
        seats.take()
    assert system.place == {1: 0, 2: 1, 3: 2, 4: 0}
    assert all(allowed == {0, 1, 2} for allowed in system.allowed.values())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to processors")
def test_threads_that_sleep_wake_up_on_free_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they wake up is their place, and they may go anywhere from then on."""
    system = Processors(monkeypatch)
    seats = placement.Seats()
    seats.take()
    seats.keep_for(2)
    assert (system.place[2], system.allowed[2]) == (1, {1, 2})
    system.running, system.place[2] = 2, 2
    seats.take()
    assert (system.place[2], system.allowed[2]) == (2, {0, 1, 2})
    system.running = 3
    seats.take()
    seats.keep_for(4)  # no processor is left
    assert (system.place[3], system.place[4], system.allowed[4]) == (1, 0, {0, 1, 2})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to processors")
def test_a_system_that_moves_no_threads_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox may forbid it: nobody may be left waiting for a thread that never began."""

    def forbidden(*_: object) -> None:
        raise PermissionError("not permitted")

    monkeypatch.setattr(placement, "_current_processor", lambda: min(os.sched_getaffinity(0)))
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    samples = pixels(200, 100)
    history = train(make_network(samples, 200), samples.X, samples.y, epochs=2, threads=2)
    assert history.epochs == 2


def test_threads_may_go_anywhere_after_a_training() -> None:
    samples = pixels(200, 100)
    affinities: list[set[int]] = []

    def look(*_: object) -> None:
        if hasattr(os, "sched_getaffinity"):
            threads = [each.native_id for each in threading.enumerate() if each.name.startswith("fastmlp")]
            affinities.extend(os.sched_getaffinity(thread) for thread in threads if thread)

    options = {"epochs": 3, "threads": 2, "validation": (samples.X, samples.y), "progress": look}
    train(make_network(samples, 200), samples.X, samples.y, **options)  # type: ignore[arg-type]
    expected = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    assert all(each == expected for each in affinities)
    assert affinities or not expected


def test_team_size_follows_the_speed() -> None:
    """All threads to begin with; other sizes are tried now and then, and taken if they are faster."""
    quiet, busy, fixed = TeamSize(8, adaptive=True), TeamSize(8, adaptive=True), TeamSize(8, adaptive=False)
    tried = {quiet.current}
    quiet.record(100, 100.0)  # the first moments, which are slow, do not count
    for _ in range(300):
        for team, speed in ((quiet, quiet.current), (busy, 1 / busy.current), (fixed, 1.0)):
            tried.add(team.current)
            team.record(100, 0.1 / speed)
    assert (quiet.best, busy.best, fixed.best) == (8, 1, 8)
    assert (fixed.current, fixed.trying) == (8, False)
    assert tried == {8, 4, 2, 1}
    for _ in range(300):  # the neighbour is gone
        busy.record(100, 0.1 / busy.current)
    assert busy.best == 8


def decide(team: TeamSize, *seconds: float) -> int:
    """The size that a team has after trials of some durations, in their order."""
    for duration in seconds:
        assert team.trying
        team.record(100, duration)
    assert not team.trying
    return team.current


def test_team_size_in_a_noisy_moment() -> None:
    """Another size has to be faster twice, and a smaller one clearly."""
    cold = 9.0
    assert decide(TeamSize(2, adaptive=True), cold, 1.0, 1.1) == 2
    assert decide(TeamSize(2, adaptive=True), cold, 3.0, 1.1, 0.9, 1.1) == 1
    assert decide(TeamSize(2, adaptive=True), cold, 1.3, 1.1, 1.0, 1.1) == 2
    assert decide(TeamSize(2, adaptive=True), cold, 1.1, 1.0, 1.1, 1.05) == 2
    assert decide(TeamSize(4, adaptive=True), cold, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0) == 2


def test_smaller_team_is_doubted_soon() -> None:
    team = TeamSize(2, adaptive=True)
    assert decide(team, 9.0, 3.0, 1.0, 3.0, 1.0) == 1
    team.record(1000, 0.2)
    assert decide(team, 0.95, 1.0, 0.95, 1.0) == 2
    team.record(1000, 0.2)
    assert not team.trying


def test_trials_of_team_sizes_become_rare() -> None:
    team, trials = TeamSize(2, adaptive=True), 0
    for _ in range(1000):
        trials += team.trying
        team.record(100, 0.1)
    assert team.best == 2
    assert 8 < trials < 200


SMALL_RUN = """
import numpy as np
from fastmlp.network import Network
from fastmlp.training import train
from fastmlp.system import usable_cpus

random = np.random.default_rng(0)
X, y = random.integers(0, 256, (300, 100), np.uint8), random.integers(0, 10, 300)
network = Network((100, 200, 40, 10), mean=127.0, std=70.0, activation="tanh")

def learn(**options):
    network = Network((100, 200, 40, 10), mean=127.0, std=70.0, activation="tanh")
    history = train(network, X, y, epochs=2, validation=(X, y), **options)
    network.predict_proba(np.resize(X, (3000, 100)))
    return b"".join(array.tobytes() for array in network.weights)

"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to processors")
def test_one_processor_by_affinity() -> None:
    run_script(
        f"""{SMALL_RUN}
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
assert usable_cpus() == 1
assert learn() == learn(threads=1) == learn(threads=2) == learn(threads=4)
"""
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1"},
        {"OMP_DYNAMIC": "true", "OMP_NUM_THREADS": "16"},
    ],
    ids=["limit", "dynamic"],
)
def test_other_libraries_settings_of_threads_do_no_harm(variables: dict[str, Any]) -> None:
    """The team is of threads of our own, so no limit of OpenMP can leave it waiting for one that never comes."""
    run_script(f"{SMALL_RUN}\nassert learn() == learn(threads=1) == learn(threads=3)", **variables)


# Forks and processes


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


# Exceptions and Ctrl-C


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("at_step", [0, 1, 4, 11])
def test_an_exception_in_the_callback_stops_the_training_and_keeps_what_was_learnt(at_step: int, threads: int) -> None:
    samples = pixels(200, 60)
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    before = network.copy()
    reports: list[int] = []

    def stop(progress: Progress) -> None:
        reports.append(progress.step)
        if progress.step >= at_step:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            network, samples.X, samples.y, epochs=100, batch_size=50, threads=threads, progress=stop,
            validation=(samples.X, samples.y), validations_per_epoch=4,
        )  # fmt: skip
    assert reports[-1] >= at_step
    assert same_bits(network, before) == (reports[-1] == 0)
    for array in network.weights:
        assert np.isfinite(array).all()
    assert np.isfinite(train(network, samples.X, samples.y, epochs=1, threads=threads).batch_loss).all()


def test_a_callback_may_train_and_predict() -> None:
    samples = pixels(100, 30)
    inner: list[Network] = []

    def nested(progress: Progress) -> None:
        if not inner:
            inner.append(trained(samples, threads=2))
            assert len(inner[0].predict(samples.X)) == 100

    outer = trained(samples, threads=2, progress=nested)
    assert same_bits(outer, inner[0])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_signal_handler_may_train_and_predict() -> None:
    """It runs in the midst of whatever the caller's thread is doing, mostly waiting for the team."""
    samples = pixels(400, 30)
    expected = trained(samples, threads=2, epochs=1)
    handled: list[bool] = []

    def handle(*_: object) -> None:
        inner = trained(samples, threads=2, epochs=1)
        handled.append(same_bits(inner, expected) and len(inner.predict(samples.X, threads=2)) == 400)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.05)
        outer = trained(samples, threads=2, epochs=200)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    assert all(handled)
    assert same_bits(outer, trained(samples, threads=1, epochs=200))


def test_subnormals_are_kept_in_callbacks() -> None:
    samples = pixels(100, 30)
    kept: list[bool] = []
    trained(samples, progress=lambda _: kept.append(subnormals_work()))
    assert kept
    assert all(kept)


def test_a_keyboard_interrupt_is_told_as_what_it_is() -> None:
    samples = pixels(200, 60)
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)

    def interrupt(progress: Progress) -> None:
        if progress.step > 0:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as caught:
        train(
            network, samples.X, samples.y, epochs=100, batch_size=50, progress=interrupt,
            validation=(samples.X, samples.y), validations_per_epoch=4,
        )  # fmt: skip
    history = caught.value.history
    assert isinstance(caught.value, KeyboardInterrupt)
    assert history.interrupted
    assert 0 < len(history.batch_loss) < 400
    assert np.isfinite(history.batch_loss).all()
    assert history.epochs == len(history.batch_loss) // 4
    assert history.samples == 50 * len(history.batch_loss)


INTERRUPTED = """
import faulthandler, os, signal, threading, time
import numpy as np
from fastmlp.errors import TrainingInterrupted
from fastmlp.network import Network
from fastmlp.training import train

faulthandler.dump_traceback_later(90, exit=True)
random = np.random.default_rng(0)
X, y = random.integers(0, 256, (4000, 784), np.uint8), random.integers(0, 10, 4000)
work_at_signal = None

def handle(number, frame):
    global work_at_signal
    work_at_signal = time.process_time()
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, handle)

def interrupted(layers, delay, threads, **options):
    network = Network(layers, mean=127.0, std=70.0)
    before = network.copy()
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        train(network, X, y, epochs=1000, learning_rate=1e-3, threads=threads, **options)
    except TrainingInterrupted as stopped:
        work = time.process_time() - work_at_signal
        history = stopped.history
    timer.join()
    assert threading.active_count() == 1
    # in seconds of work, not of waiting for a busy machine: half a second of each thread
    assert work < 0.5 * threads, work
    assert history.interrupted and np.isfinite(history.batch_loss).all()
    assert all(np.isfinite(weight).all() for weight in network.weights)
    same = all((a == b).all() for a, b in zip(network.weights, before.weights))
    assert same == (len(history.batch_loss) == 0)
    return len(history.batch_loss)

train(Network((784, 8, 10)), X[:64], y[:64], epochs=1, validation=(X[:64], y[:64]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs os.kill")
@pytest.mark.parametrize("layers", [(784, 64, 10), (784, 512, 512, 10), (784, 10)], ids=str)
def test_ctrl_c_stops_within_half_a_second_of_work(layers: tuple[int, ...]) -> None:
    run_script(
        f"""{INTERRUPTED}
layers = {layers}
steps = [interrupted(layers, 0.05 * i, 1 + i % 3, batch_size=32) for i in range(1, 7)]
steps.append(interrupted(layers, 0.3, 2, batch_size=128, validation=(X, y), validations_per_epoch=2))
assert max(steps) > 0
"""
    )


@pytest.mark.skipif(os.name != "posix", reason="needs os.kill")
def test_ctrl_c_stops_a_prediction() -> None:
    """Also on one thread: a kernel in the caller's own thread could not be interrupted."""
    run_script(
        f"""{INTERRUPTED}
network = Network((784, 1024, 1024, 10))
many = np.resize(X, (200_000, 784))
for threads in (1, 2):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        network.predict(many, threads=threads)
        raise SystemExit("was not interrupted")
    except KeyboardInterrupt:
        work = time.process_time() - work_at_signal
    timer.join()
    assert threading.active_count() == 1
    assert work < 0.5 * threads, work
"""
    )


def test_a_program_may_end_during_a_training_in_another_thread() -> None:
    """The interpreter waits for the training's threads, or takes them down; it must not hang or crash."""
    run_script(
        """
import os, signal, threading, time
import numpy as np
from fastmlp.network import Network
from fastmlp.training import train

X, y = np.random.default_rng(0).random((2000, 100)), np.arange(2000) % 10
network = Network((100, 64, 64, 10))
started = threading.Event()
thread = threading.Thread(
    target=train, args=(network, X, y), daemon=True,
    kwargs={"epochs": 10**4, "threads": 2, "learning_rate": 1e-4, "progress": lambda p: p.step and started.set()},
)
thread.start()
assert started.wait(60)
""",
        timeout=60,
    )


def test_a_program_may_end_during_a_prediction_in_another_thread() -> None:
    run_script(
        """
import threading, time
import numpy as np
from fastmlp.network import Network

X = np.random.default_rng(0).random((20_000, 100))
network = Network((100, 256, 256, 10))
network.predict(X[:100], threads=2)
started = threading.Event()

def predict():
    started.set()
    for _ in range(1000):
        network.predict(X, threads=2)

threading.Thread(target=predict, daemon=True).start()
assert started.wait(60)
time.sleep(0.1)
""",
        timeout=60,
    )


@pytest.mark.parametrize("at_submission", range(6))
def test_ctrl_c_while_threads_are_started_leaves_none_waiting(
    monkeypatch: pytest.MonkeyPatch, at_submission: int
) -> None:
    """Interrupt the caller's thread at each of the moments when it hands work to the threads."""
    samples = pixels(200, 60)
    network = make_network(samples, 70, 40, activation="tanh", n_classes=10)
    submit, count, caller = ThreadPoolExecutor.submit, 0, threading.current_thread()

    def interrupted(self: ThreadPoolExecutor, *arguments: Any) -> Any:
        nonlocal count
        if threading.current_thread() is caller:
            count += 1
            if count == at_submission + 1:
                if at_submission % 2:
                    submit(self, *arguments)
                raise KeyboardInterrupt
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(TrainingInterrupted):
        train(network, samples.X, samples.y, epochs=1000, batch_size=20, threads=3)
    assert count > at_submission


@pytest.mark.parametrize("given", [0, 1])
def test_predictions_need_one_thread_only(monkeypatch: pytest.MonkeyPatch, given: int) -> None:
    """Where the system gives no more threads, those that run do all the work."""
    samples = pixels(1500, 300)
    network = make_network(samples, 64)
    expected = network.predict_proba(samples.X, threads=1)
    start, left = _thread.start_new_thread, given

    def refuse(*arguments: Any) -> int:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        return start(*arguments)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    monkeypatch.setattr(workers, "_resting", [])
    assert network.predict_proba(samples.X, threads=3).tobytes() == expected.tobytes()
    assert left == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_of_a_prediction_give_the_same(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """The caller's thread takes piece by piece, the others all that they can get."""
    samples = pixels(1500, 300)
    network = make_network(samples, 64)
    expected = network.predict_proba(samples.X, threads=1), network.evaluate(samples.X, samples.y, threads=1)
    monkeypatch.setattr(prediction, "_CALL_WORK", 1)
    found = network.predict_proba(samples.X, threads=threads), network.evaluate(samples.X, samples.y, threads=threads)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_predictions_use_their_threads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that rests is woken up, another is only started if none does, and none rests for ever."""
    start, runs = _thread.start_new_thread, 0

    def count(*arguments: Any) -> int:
        nonlocal runs
        runs += 1
        return start(*arguments)

    def run_apart(*others: Callable[[], object]) -> None:
        finished = [threading.Event() for _ in others]

        def finish(call: Callable[[], object], event: threading.Event) -> None:
            call()
            event.set()

        calls = [partial(finish, *each) for each in zip(others, finished, strict=True)]
        workers.run_apart([lambda: all(event.wait(60) for event in finished), *calls], lambda: None)

    resting: list[Any] = []
    late = threading.Event()
    workers.run_apart([lambda: True, partial(late.wait, 60)], lambda: None)
    monkeypatch.setattr(workers, "_resting", resting)
    late.set()  # whoever has been busy before rests elsewhere
    monkeypatch.setattr(_thread, "start_new_thread", count)
    threads: list[int] = []
    sent: list[int] = []
    monkeypatch.setattr(placement.Seats, "keep_for", lambda _, native_id: sent.append(native_id))
    for _ in range(3):
        run_apart(lambda: threads.append(threading.get_native_id()))
        wait_until(lambda: len(resting) == 1)
    assert (runs, len(set(threads))) == (1, 1)
    assert threads[0] != threading.get_native_id()
    assert sent == threads[1:]  # whoever sleeps is told where to wake up
    together = threading.Barrier(2)
    run_apart(lambda: together.wait(60), lambda: together.wait(60))
    wait_until(lambda: len(resting) == 2)
    assert runs == 2
    monkeypatch.setattr(workers, "_REST_SECONDS", 0.01)
    run_apart(lambda: together.wait(60), lambda: together.wait(60))
    wait_until(lambda: not resting)
    run_apart(lambda: threads.append(threading.get_native_id()))
    assert runs == 3


def test_an_error_in_a_thread_of_a_prediction_is_raised() -> None:
    def fail() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        workers.run_apart([lambda: False, fail, lambda: True], lambda: None)


def test_workers_report_the_error_of_a_call() -> None:
    def fail() -> None:
        raise Stopped

    calls: list[Callable[[], object]] = [fail, lambda: None]
    with workers.Workers(2) as team:
        with pytest.raises(Stopped):
            team.run(calls, lambda: None, lambda: None)
        team.run([lambda: None], lambda: None, lambda: None)  # and go on
