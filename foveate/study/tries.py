"""How often a run's worker may end without a result before the run counts as failed."""

from collections import Counter


class Tries:
    """A run is tried again while it gets further: a start that begins after a later step than the one before, from a
    newer checkpoint, counts as the first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._starts: Counter[str] = Counter()  # since it last got further
        self._from: dict[str, int] = {}  # first step that this start reported
        self._before: dict[str, int] = {}  # and that of the start before

    def begin(self, key: str) -> None:
        """The run starts."""
        self._starts[key] += 1
        if key in self._from:
            self._before[key] = self._from.pop(key)

    def reached(self, key: str, step: int) -> None:
        """The run has done this many steps."""
        if key not in self._from:
            self._from[key] = step
            if step > self._before.get(key, step):
                self._starts[key] = 1

    def forgive(self, key: str) -> None:
        """This start ended through no doing of the run's."""
        self._starts[key] -= 1

    def left(self, key: str) -> bool:
        """May it start again?"""
        return self._starts[key] < self.most
