"""How many threads to train with right now: as many as help.

Any number of threads gives the same bits, so the team may change its size between two compiled calls. On a quiet
machine all threads are best; with a busy neighbour, or for a small network, fewer are.
"""

from __future__ import annotations

# A rival size is tried again after this many segments, and taken if it is faster by this factor.
_RETRY = 16
_BETTER = 1.03


class TeamSize:
    """Chooses between team sizes by their measured speed.

    Every size is tried in the first segments, which should be short; later the neighbours of the best one are tried
    again from time to time.

    Parameters
    ----------
    limit : int
        The largest team, and the first.
    adaptive : bool
        Whether other sizes are tried at all.
    """

    def __init__(self, limit: int, *, adaptive: bool) -> None:
        self.sizes = [limit]
        while adaptive and self.sizes[-1] > 1:
            self.sizes.append(self.sizes[-1] // 2)
        self.best = self.current = limit
        self._speed = dict.fromkeys(self.sizes, 0.0)
        self._segments = 0

    @property
    def probing(self) -> bool:
        """Whether some size has not been tried yet."""
        return self._segments < len(self.sizes)

    def record(self, size: int, speed: float) -> None:
        """Take note that a segment ran at a speed (steps per second) with a size, and choose the next size."""
        self._segments += 1
        self._speed[size] = speed
        if size != self.best and speed > _BETTER * self._speed[self.best]:
            self.best = size
        if self.probing:
            self.current = self.sizes[self._segments]
        elif self._segments % _RETRY == 0 and len(self.sizes) > 1:
            self.current = self._rival()
        else:
            self.current = self.best

    def _rival(self) -> int:
        """The next smaller and the next larger size in turn."""
        position = self.sizes.index(self.best)
        neighbours = [self.sizes[i] for i in (position + 1, position - 1) if 0 <= i < len(self.sizes)]
        return neighbours[self._segments // _RETRY % len(neighbours)]
