"""The runs that wait for a place, seed by seed; those of a seed stay on one type of machine."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from foveate.spec import DRAWS, Run


def longest_first(runs: Sequence[Run], costs: Mapping[str, Mapping[str, float]]) -> list[Run]:
    """The runs seed by seed, of each seed those first whose training takes longest: the last places fall free together.

    costs: arm → "train_step_ms"; runs of arms without it come last.
    """
    places = {seed: place for place, seed in enumerate(dict.fromkeys(run.seed % DRAWS for run in runs))}

    def length(run: Run) -> float:
        return run.train.epochs * costs.get(run.arm, {}).get("train_step_ms", 0.0)

    return sorted(runs, key=lambda run: (places[run.seed % DRAWS], -length(run)))


class WaitingRuns:
    """Runs in the order given. A seed belongs to the type of machine that its first run was given to.

    A seed of a null check, which every arm has of its own, counts as the one that it is paired by.
    """

    def __init__(self, runs: Iterable[Run], machines: Mapping[int, str] | None = None) -> None:
        """machines: of seeds that have begun."""
        self._runs: dict[int, deque[Run]] = {}
        self._free: dict[int, None] = {}  # seeds that may go anywhere; the dictionaries are ordered sets
        self._bound: dict[str, dict[int, None]] = {}  # type of machine → its seeds
        self._machine = {seed % DRAWS: machine for seed, machine in (machines or {}).items()}
        for run in runs:
            self.put(run)

    def __len__(self) -> int:
        return sum(map(len, self._runs.values()))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def put(self, run: Run) -> None:
        """The run is to be done, after those of its seed that wait."""
        seed = run.seed % DRAWS
        self._runs.setdefault(seed, deque()).append(run)
        machine = self._machine.get(seed)
        (self._free if machine is None else self._bound.setdefault(machine, {}))[seed] = None

    def take(self, machine: str = "") -> Run | None:
        """The next run for a place on this type of machine; "" where there is one type."""
        bound = self._bound.get(machine) if machine else next((one for one in self._bound.values() if one), None)
        seeds = bound or self._free
        if not seeds:
            return None
        seed = next(iter(seeds))
        if machine and not bound:
            self._machine[seed] = machine
            del self._free[seed]
            seeds = self._bound.setdefault(machine, {})
            seeds[seed] = None
        runs = self._runs[seed]
        run = runs.popleft()
        if not runs:
            del self._runs[seed]
            del seeds[seed]
        return run

    def release(self) -> list[int]:
        """Let the seeds that wait go to any type of machine, as theirs is gone; returns those."""
        seeds = sorted({seed for bound in self._bound.values() for seed in bound})
        for seed in seeds:
            self._machine.pop(seed, None)
            self._free[seed] = None
        self._bound.clear()
        return seeds
