"""Exceptions in callbacks, signals and Ctrl-C; nothing hangs, and what was learnt is kept.

Whatever could hang or kill the process runs in a process of its own.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fastmlp.errors import TrainingInterrupted
from fastmlp.network import Network
from fastmlp.training import Progress, train
from tests.processes import run_script
from tests.several_threads import Stopped, subnormals_work, trained
from tests.small_data import make_network, pixels, same_bits

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_thread_is_left", "subnormal_numbers_are_kept"),
]


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
