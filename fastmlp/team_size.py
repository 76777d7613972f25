"""How many threads to train with right now: as many as help.

Any number of threads gives the same bits, so the team may change its size between two compiled calls. On a quiet
machine all threads are best; with a busy neighbour, or for a small network, fewer are.
"""

from __future__ import annotations

# A trial of a size takes about this long. The first moments of a training are slow with any size (cold caches, pages
# that nobody has touched yet) and count for none.
TRIAL_SECONDS = 0.003

# Sizes are tried once, and a second time if the present one is not the fastest. Always twice, and a winner that is
# faster by 1.03, cost trainings of 0.2 s at 784-64-10 on two threads 4.5 % against ``threads=2`` (median of 101
# alternating rounds on a noisy machine); this way they cost 1.8 %.
_ROUNDS = 2

# A smaller team is taken if it is faster by this factor: beside a busy process, where that matters, it is faster by 1.3
# to 2, but in a noisy moment anything may be a little faster.
_BETTER = 1.1

# Seconds until a rival size is tried again: doubled whenever the present size turns out to be the better. A team that
# is not the largest may be the mistake of a moment and is looked at sooner.
_FIRST_WAIT, _FIRST_WAIT_OF_SMALLER, _LONGEST_WAIT = 0.4, 0.1, 3.2


class TeamSize:
    """Chooses between team sizes by their measured speed.

    All sizes are tried at the beginning; later the neighbours of the best one are tried again from time to time.

    Parameters
    ----------
    limit : int
        The largest team, and the first.
    adaptive : bool
        Whether other sizes are tried at all.

    Attributes
    ----------
    best : int
        The size that has proved best.
    """

    def __init__(self, limit: int, *, adaptive: bool) -> None:
        self.sizes = [limit]
        while adaptive and self.sizes[-1] > 1:
            self.sizes.append(self.sizes[-1] // 2)
        self.best = limit
        self._trials = [limit, *self.sizes] if len(self.sizes) > 1 else []
        self._cold, self._round = True, 1
        self._tried: dict[int, tuple[int, float]] = {}  # steps and seconds of all trials of a size
        self._seconds, self._wait, self._rivals = 0.0, _FIRST_WAIT, 0

    @property
    def trying(self) -> bool:
        """Whether the next segment is a trial, and so should be short."""
        return bool(self._trials)

    @property
    def current(self) -> int:
        """The size to run the next segment with."""
        return self._trials[0] if self._trials else self.best

    def record(self, steps: int, seconds: float) -> None:
        """Take note that a segment of so many steps took so long with the current size."""
        if self._trials:
            size = self._trials.pop(0)
            if not self._cold:
                steps_before, seconds_before = self._tried.get(size, (0, 0.0))
                self._tried[size] = steps_before + steps, seconds_before + seconds
            self._cold = False
            if not self._trials:
                self._decide()
        elif len(self.sizes) > 1:
            self._seconds += seconds
            if self._seconds >= self._wait:
                self._trials = [self._rival(), self.best]

    def _decide(self) -> None:
        """Keep the best size while it is the fastest; else try again, then take the largest or what is much faster."""
        speed = {size: steps / seconds for size, (steps, seconds) in self._tried.items()}
        before = self.best
        if max(speed, key=speed.__getitem__) != before:
            if self._round < _ROUNDS:
                self._trials, self._round = list(speed), self._round + 1
                return
            self.best = max(speed)
            for size in sorted(speed, reverse=True):
                if speed[size] > _BETTER * speed[self.best]:
                    self.best = size
        if self.best == before:
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
        else:
            self._wait = _FIRST_WAIT if self.best == self.sizes[0] else _FIRST_WAIT_OF_SMALLER
        self._round, self._tried, self._seconds = 1, {}, 0.0

    def _rival(self) -> int:
        """The next smaller and the next larger size in turn."""
        position = self.sizes.index(self.best)
        neighbours = [self.sizes[i] for i in (position + 1, position - 1) if 0 <= i < len(self.sizes)]
        self._rivals += 1
        return neighbours[self._rivals % len(neighbours)]
