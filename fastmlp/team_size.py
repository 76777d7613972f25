"""How many threads to train with right now: as many as help.

Any number of threads gives the same bits, so the team may change its size between two compiled calls. On a quiet
machine all threads are best; with a busy neighbour, or for a small network, fewer are.
"""

from __future__ import annotations

# A trial of a size takes about this long, and each size has so many of them in turn. The first moments of a training
# are slow with any size (cold caches, pages that nobody has touched yet) and count for none.
TRIAL_SECONDS = 0.003
_TRIALS = 2

# A rival size is taken if it is faster by this factor.
_BETTER = 1.03

# Seconds until a rival size is tried again: doubled whenever the present size turns out to be the better.
_FIRST_WAIT, _LONGEST_WAIT = 0.4, 3.2


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
        self._speed: dict[int, float] = {}
        self._trials = [limit, *self.sizes * _TRIALS] if len(self.sizes) > 1 else []
        self._cold = True
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
                self._speed[size] = max(self._speed.get(size, 0.0), steps / seconds)
            self._cold = False
            if not self._trials:
                self._decide()
        elif len(self.sizes) > 1:
            self._seconds += seconds
            if self._seconds >= self._wait:
                self._trials = [self._rival(), self.best] * _TRIALS

    def _decide(self) -> None:
        """Take the fastest of the sizes that were tried."""
        before = self.best
        for size, speed in self._speed.items():
            if speed > _BETTER * self._speed[self.best]:
                self.best = size
        self._wait = min(2 * self._wait, _LONGEST_WAIT) if self.best == before else _FIRST_WAIT
        self._speed, self._seconds = {}, 0.0

    def _rival(self) -> int:
        """The next smaller and the next larger size in turn."""
        position = self.sizes.index(self.best)
        neighbours = [self.sizes[i] for i in (position + 1, position - 1) if 0 <= i < len(self.sizes)]
        self._rivals += 1
        return neighbours[self._rivals % len(neighbours)]
