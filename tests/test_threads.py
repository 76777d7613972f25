"""Threads: calls from several of them, and what they share; nothing hangs or leaks."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from fastmlp import engine, placement, workers
from fastmlp.engine import prediction
from fastmlp.kernels import batch, layout
from fastmlp.kernels.layout import Layout, block_width
from fastmlp.system import usable_cpus
from fastmlp.training import train
from tests.processes import run_script
from tests.several_threads import SMALL_RUN, Stopped, trained, wait_until
from tests.small_data import make_network, pixels, same_bits, table

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_thread_is_left", "subnormal_numbers_are_kept"),
]


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


# The threads of predictions


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
