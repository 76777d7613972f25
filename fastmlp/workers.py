"""Threads that run compiled calls: a team whose members wait for each other, or each on its own.

Ctrl-C reaches the caller's thread only, so that is no member of a team, and makes only short calls.
"""

from __future__ import annotations

import _thread
import concurrent.futures
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial

from fastmlp.placement import Seats


class Workers:
    """Threads that run one compiled call together.

    The threads are shown to run at the same time before they are given work that makes them wait for each other.

    Parameters
    ----------
    count : int
        Number of threads.

    Raises
    ------
    RuntimeError
        If the system does not give us so many threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="fastmlp")
        together = threading.Barrier(count)
        try:
            started = [self._pool.submit(together.wait, 60.0) for _ in range(count)]
            for future in started:
                future.result()
        except BaseException as error:
            together.abort()
            self._pool.shutdown()
            if isinstance(error, RuntimeError | threading.BrokenBarrierError):
                message = f"could not start {count} threads at the same time; ask for fewer: {error}"
                raise RuntimeError(message) from error
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, calls: list[Callable[[], object]], stop: Callable[[], None], poll: Callable[[], None]) -> None:
        """Make one call per thread and return when all are done; at most ``count`` calls.

        Parameters
        ----------
        calls : list of callable
            What the threads do.
        stop : callable
            Asks the running calls to return soon; used before an exception of ``poll`` or Ctrl-C is passed on.
        poll : callable
            Called about 20 times a second meanwhile.
        """
        together = _Launch(self._pool, calls)
        try:
            self._pool.submit(together)
            while not together.done.wait(0.05):
                poll()
        except BaseException:
            stop()
            self._pool.submit(together)  # if Ctrl-C came before it was submitted; a second time it does nothing
            together.done.wait()
            raise
        if together.error is not None:
            raise together.error


class _Launch:
    """Starts one call per thread from a thread of the pool.

    A Ctrl-C reaches the caller's thread between any two instructions. If it did the starting, some calls could be
    left waiting at a barrier for one that was never started; the threads of the pool are not interrupted.
    """

    def __init__(self, pool: concurrent.futures.Executor, calls: list[Callable[[], object]]) -> None:
        self._pool, self._calls = pool, calls
        self._lock = threading.Lock()
        self.done = threading.Event()
        self.error: BaseException | None = None

    def __call__(self) -> None:
        """Start the others, make the first call and wait for the rest."""
        if not self._lock.acquire(blocking=False):
            return
        others: list[concurrent.futures.Future[object]] = []
        try:
            seats = Seats()
            seats.take()
            others += [self._pool.submit(_seated, seats, call) for call in self._calls[1:]]
            self._calls[0]()
            for future in others:
                future.result()
        except BaseException as error:  # raised by the caller's thread
            self.error = error
            concurrent.futures.wait(others)
        self.done.set()


def _seated(seats: Seats, call: Callable[[], object]) -> None:
    seats.take()
    call()


# A helper ends after so long without a call.
_REST_SECONDS = 1.0


class _Helper:
    """A thread that makes a call, and then rests until it is asked for another.

    Parameters
    ----------
    resting : list
        Where it is to be found while it rests.
    call : callable

    Raises
    ------
    RuntimeError
        If the system gives us no thread.
    """

    def __init__(self, resting: list[_Helper], call: Callable[[], None]) -> None:
        self._resting = resting
        self._call: Callable[[], None] | None = call
        self._asked = threading.Lock()
        self._asked.acquire()
        self.native_id = 0  # known once it runs
        # ``threading.Thread`` would wait until it runs
        _thread.start_new_thread(self._run, ())

    def ask(self, call: Callable[[], None]) -> None:
        """Make this call; only for who has taken the helper out of the list."""
        self._call = call
        self._asked.release()

    def _run(self) -> None:
        self.native_id = threading.get_native_id()
        while self._call is not None:
            self._call()
            self._call = None  # what it refers to may be large
            self._resting.append(self)
            if not self._asked.acquire(timeout=_REST_SECONDS):
                try:
                    self._resting.remove(self)
                except ValueError:  # somebody has taken it just now
                    self._asked.acquire()


_resting: list[_Helper] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # a child has none of its parent's threads


def run_apart(calls: Sequence[Callable[[], object]], stop: Callable[[], None]) -> None:
    """Make calls that share out work among them but do not wait for each other; return when all work is done.

    The first is made in the caller's thread, in parts, so that Ctrl-C is heeded; each of the others in a thread of its
    own, which is kept for a while: only a thread that exists can be told where to wake up. Against threads for all, an
    evaluation of 20,000 samples by 784-64-10, which takes four milliseconds, neither waits for the first to start
    (0.1 ms; 2 to 3 ms whenever that took the processor of the caller, who was to start the second) nor for the last to
    end (0.1 ms).

    Parameters
    ----------
    calls : sequence of callable
        The first is made again and again until it returns true: no work is left, nor being done. Of the others, those
        that the system gives no thread for are left out.
    stop : callable
        Asks the running calls to return soon; used before an exception, Ctrl-C for example, is passed on.
    """
    seats, errors = Seats(), []
    started: list[threading.Event] = []

    def run(call: Callable[[], object], done: threading.Event) -> None:
        try:
            _seated(seats, call)
        except BaseException as error:  # raised by the caller's thread
            errors.append(error)
        finally:
            done.set()

    seats.take()
    try:
        for call in calls[1:]:
            done = threading.Event()
            try:
                helper = _resting.pop()
            except IndexError:
                try:
                    _Helper(_resting, partial(run, call, done))
                except RuntimeError:
                    break
            else:
                seats.keep_for(helper.native_id)
                helper.ask(partial(run, call, done))
            started.append(done)
        while not calls[0]():
            if errors:  # work may be lost; if none is, the result is right nevertheless
                raise errors[0]
    except BaseException:
        stop()
        for done in started:
            # not without a limit, which could not be interrupted on Windows
            while not done.wait(0.05):
                pass
        raise
