"""The search itself: propose, measure the latency, train rung by rung, confirm, conclude.

It knows no files and no networks: what it needs of them is a `Work`, which tests replace by made-up scores.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from foveate.files import read_json, write_json
from foveate.spec import Metric
from foveate.study.advise.budget import LatencyBudget
from foveate.study.advise.conclude import conclude
from foveate.study.advise.halving import Schedule, mean_gain, survivors
from foveate.study.advise.space import Choice, Space, Tried, propose
from foveate.summary import Advice, Candidate, Rung, Summary, Times, to_json
from foveate.variant import PLAIN, Variant

WAVES = 3  # after the first half of the candidates; the sampler learns from the gains of the waves before
MOST_PROPOSED = 4  # proposals for each candidate, most of which may be over the budget
Latencies = tuple[Times, Times]  # the ratio to plain, and milliseconds of a batch
Scores = Mapping[str, Mapping[int, float]]  # label → seed → score; a run that failed has none


class Work(Protocol):
    """What trains and measures."""

    metric: Metric
    network: str

    def latencies(self, variants: Sequence[Variant]) -> Mapping[str, Latencies | str]:
        """Of each variant by its label, and of plain; a text: why it cannot be inserted."""

    def rung(self, number: int, variants: Sequence[Variant], seeds: tuple[int, ...]) -> Scores:
        """Scores of plain and the variants on the validation part."""

    def confirm(self, variants: Sequence[Variant], seeds: tuple[int, ...]) -> Summary:
        """The study of plain and the variants on the test part."""


class Record:
    """The search's own rows, in search.json: its settings, and each wave of candidates with its latencies.

    A search that goes on takes them from there: a wave that stands there is not proposed or measured again.

    Args:
        path: of the file; None: in memory alone.
        settings: plain values of the search.

    Raises: ValueError: the file holds another search; the first difference is named.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, to_json(settings)
        self.waves: list[list[dict[str, Any]]] = []
        if path is None or not path.is_file():
            return
        kept = read_json(path)
        before = kept.get("settings", {})
        for name, now in self.settings.items():
            if (there := before.get(name)) != now:
                raise ValueError(f"{path.parent} holds another search ({name}: {there!r} there, {now!r} now); "
                                 "use another --out")  # fmt: skip
        self.waves = kept["waves"]

    def add(self, wave: list[dict[str, Any]]) -> None:
        """Keep a wave."""
        self.waves.append(wave)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"settings": self.settings, "waves": self.waves})


def search(
    space: Space | None,
    budget: LatencyBudget,
    plan: Schedule,
    work: Work,
    record: Record,
    *,
    seed: int = 0,
    ask: Callable[[Space, Sequence[Tried], Sequence[Choice], int, int], list[Choice]] = propose,
) -> Advice:
    """Search, confirm, conclude.

    Args:
        space: what may be tried; None: copies of the plain network, a null check of the search.
        budget: of latency; a candidate that is over it is not trained.
        plan: rungs and seeds.
        work: trains and measures.
        record: rows of a search that goes on, and where new ones are kept.
        seed: of the sampler.
        ask: the sampler.

    Raises: ValueError: plain alone is over the budget; and what `work` raises.
    """
    found = _Search(space, budget, plan, work, record, seed, ask)
    finalists = found.rungs()
    confirmed = work.confirm([found.variants[label] for label in finalists], plan.confirming) if finalists else None
    return conclude(
        confirmed,
        metric=work.metric,
        network=work.network,
        budget=budget,
        candidates=found.candidates(),
        rungs=tuple(found.trained),
        confirming=plan.confirming,
        scores=found.scores,
        plain_ms=found.plain_ms,
        null_check=space is None,
    )


class _Search:
    def __init__(
        self,
        space: Space | None,
        budget: LatencyBudget,
        plan: Schedule,
        work: Work,
        record: Record,
        seed: int,
        ask: Callable[[Space, Sequence[Tried], Sequence[Choice], int, int], list[Choice]],
    ) -> None:
        self.space, self.budget, self.plan, self.work = space, budget, plan, work
        self.record, self.seed, self.ask = record, seed, ask
        self.known: list[Choice] = []
        self.entries: dict[str, Candidate] = {}
        self.variants: dict[str, Variant] = {}
        self.choices: dict[str, Choice] = {}
        self.scores: dict[str, dict[int, float]] = {PLAIN: {}}
        self.gains: dict[str, dict[int, float]] = {}  # −inf for a failed run
        self.last: dict[str, int] = {}  # the last rung in which it was trained
        self.plain_ms: Times | None = None
        self.trained: list[Rung] = []

    def rungs(self) -> list[str]:
        """The finalists that scored above plain, the best first."""
        going = self._first_rung()
        for number, rung in enumerate(self.plan.rungs[1:], 2):
            going = survivors(self._of(going), rung.candidates)
            if len(going) <= self.plan.finalists:
                break
            self._train(number, going, rung.seeds)
        best = survivors(self._of(going), self.plan.finalists)
        return [label for label in best if mean_gain(self.gains[label].values()) > 0]

    def candidates(self) -> tuple[Candidate, ...]:
        found = []
        for label, entry in self.entries.items():
            gains = self.gains.get(label, {})
            mean = mean_gain(gains.values())
            shown = {seed: None if gain == -math.inf else gain for seed, gain in gains.items()}
            mean_shown = None if mean == -math.inf else mean
            found.append(dataclasses.replace(entry, rung=self.last.get(label, 0), gains=shown, gain=mean_shown))
        return tuple(found)

    def _first_rung(self) -> list[str]:
        rung = self.plan.rungs[0]
        if self.space is None:
            for number in range(1, rung.candidates + 1):
                label = f"copy {number}"
                self.variants[label] = Variant(label=label)
                self.entries[label] = Candidate(label, self.variants[label].short())
            self._train(1, list(self.variants), rung.seeds)
            return list(self.variants)
        going, untrained = list[str](), False
        for number, size in enumerate(_waves(rung.candidates)):
            if number == len(self.record.waves):
                self.record.add(self._wave(self.space, size, going))
            taken = self._take(self.space, self.record.waves[number])
            going += taken
            untrained = untrained or bool(taken)
            if untrained and number + 1 == len(self.record.waves):  # earlier waves of a search that goes on are trained
                self._train(1, going, rung.seeds)
                untrained = False
        return going

    def _wave(self, space: Space, size: int, going: Sequence[str]) -> list[dict[str, Any]]:
        """New candidates until `size` of them keep the budget, those that do not beside them, as plain values."""
        tried, rows, keeping, proposed = self._tried(going), list[dict[str, Any]](), 0, list(self.known)
        while keeping < size and len(rows) < MOST_PROPOSED * size:
            new = self.ask(space, tried, proposed, size - keeping, self.seed + len(proposed))
            if not new:
                break  # the space is at its end
            proposed += new
            measured = self.work.latencies([space.variant(choice) for choice in new])
            plain = measured[PLAIN]
            assert not isinstance(plain, str), "the plain network can be built"
            self.budget.check_plain(plain[1].median)
            for choice in new:
                found = measured[space.variant(choice).label]
                row: dict[str, Any] = {"choice": to_json(choice), "plain_ms": to_json(plain[1]), "dropped": ""}
                if isinstance(found, str):
                    row["dropped"] = f"cannot be inserted: {found}"
                else:
                    ratio, ms = found
                    row |= {"latency_ratio": to_json(ratio), "latency_ms": to_json(ms)}
                    if not self.budget.keeps(ratio.median, ms.median):
                        row["dropped"] = f"over the budget: {ratio.median:.3f} times the plain network's latency"
                keeping += not row["dropped"]
                rows.append(row)
        return rows

    def _take(self, space: Space, wave: Sequence[Mapping[str, Any]]) -> list[str]:
        """The labels of a wave's candidates that keep the budget."""
        for row in wave:
            choice = Choice(**row["choice"])
            self.known.append(choice)
            variant = space.variant(choice)
            ratio, ms = (Times(**row[name]) if name in row else None for name in ("latency_ratio", "latency_ms"))
            entry = Candidate(variant.label, variant.short(), ratio, ms, row["dropped"])
            self.entries[entry.label], self.choices[entry.label] = entry, choice
            self.variants[entry.label] = variant
            self.plain_ms = self.plain_ms or Times(**row["plain_ms"])
        return [space.variant(Choice(**row["choice"])).label for row in wave if not row["dropped"]]

    def _tried(self, going: Sequence[str]) -> list[Tried]:
        """What the sampler learns from; a candidate that failed or was dropped counts as the worst."""
        means = {label: mean_gain(gains.values()) for label, gains in self._of(going).items()}
        finite = [gain for gain in means.values() if gain > -math.inf]
        if not finite:
            return []
        worst = min(finite)
        return [(choice, max(means.get(label, worst), worst)) for label, choice in self.choices.items()]

    def _train(self, number: int, going: Sequence[str], seeds: tuple[int, ...]) -> None:
        self.trained[number - 1 :] = [Rung(len(going), seeds)]
        scores = self.work.rung(number, [self.variants[label] for label in going], seeds)
        for label in (PLAIN, *going):
            self.scores.setdefault(label, {}).update(scores.get(label, {}))
        for label in going:
            self.last[label] = number
            for seed, plain in scores.get(PLAIN, {}).items():
                ours = scores.get(label, {}).get(seed)
                gain = -math.inf if ours is None else self.work.metric.gain(ours, plain)
                self.gains.setdefault(label, {})[seed] = gain

    def _of(self, labels: Sequence[str]) -> dict[str, dict[int, float]]:
        return {label: self.gains.get(label, {}) for label in labels}


def _waves(count: int) -> list[int]:
    """Half of the candidates first, then the rest in a few parts."""
    first = (count + 1) // 2
    rest = count - first
    parts = min(WAVES, rest)
    return [first, *(rest * (part + 1) // parts - rest * part // parts for part in range(parts))]
