"""Where the threads of a team run, and how many of them."""

from __future__ import annotations

import os
import threading
from collections import defaultdict

import pytest

from fastmlp import placement
from fastmlp.team_size import TeamSize
from fastmlp.training import train
from tests.small_data import make_network, pixels

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_thread_is_left", "subnormal_numbers_are_kept"),
]


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
