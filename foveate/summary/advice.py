"""What a search for what to insert where found, as frozen values."""

from dataclasses import dataclass, field
from typing import Any

from foveate.spec import Metric
from foveate.summary.findings import Comparison, Summary
from foveate.summary.rows import Times


@dataclass(frozen=True)
class Rung:
    """Of a search: how many candidates are trained, each with these seeds."""

    candidates: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """What was tried.

    Attributes:
        variant: as of a study, plain values.
        latency_ratio, latency_ms: measured, to the plain network's and of a batch; None where it was not.
        dropped: why it was not trained: it cannot be inserted, or it is over the budget; "" where it was.
        rung: the last in which it was trained, from 1; 0: in none.
        gains: seed → gain over the plain network on the validation part; None for a failed run.
        gain: their mean; None where there is none.
        on_front: is no other candidate that was trained at least as good and as fast?
    """

    label: str
    variant: dict[str, Any]
    latency_ratio: Times | None = None
    latency_ms: Times | None = None
    dropped: str = ""
    rung: int = 0
    gains: dict[int, float | None] = field(default_factory=dict)
    gain: float | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Advice:
    """The end of a search.

    Attributes:
        short: "Insert" or "Nothing helped".
        text: the sentence.
        chosen: label of what to insert; None: nothing helped.
        found: the chosen candidate against the plain network, on the test part with fresh seeds; where nothing helped
            that of the candidate that came nearest; None: none went to confirmation.
        latency_ratio: of the chosen candidate, measured anew with the confirmation.
        budget: in words.
        null_check: were the candidates copies of the plain network?
        candidates: in the order proposed.
        rungs, confirming: of the search; seeds of the confirmation.
        trainings: in all, the plain network's included.
        searched: all scores of the search on the validation part, for pictures; nothing in it is a verdict.
        confirmed: the study of the confirmation.
        notes: for the reader.
    """

    short: str
    text: str
    chosen: str | None
    found: Comparison | None
    latency_ratio: Times | None
    metric: Metric
    network: str
    budget: str
    null_check: bool
    candidates: tuple[Candidate, ...]
    rungs: tuple[Rung, ...]
    confirming: tuple[int, ...]
    trainings: int
    searched: Summary | None
    confirmed: Summary | None
    notes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
