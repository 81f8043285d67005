"""What the analysis is given: the arms of a study, the rows of its runs, what it compares and what it remembers."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["plain", "attention", "control"]


@dataclass(frozen=True)
class Arm:
    """One row of the report: the plain network, a variant, or a control.

    Attributes:
        label: unique within a study.
        kind: "plain" for the one arm that the others are compared with; a copy of it is an "attention" arm without
            insertions.
        variant: what is inserted and how it is trained, as plain values.
        width: factor by which the plain network is widened.
        matches: labels of the variants that a control is for.
        form: of a control: conv, wider, block, longer, frozen or shuffled, as `foveate.spec.Study.controls` has them.
        epochs: of a control that trains longer than the study says.
        domain: what its attention works on, as "channel" or "channel + spatial"; "": it has none, or none that is
            known.
    """

    label: str
    kind: Kind
    variant: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    matches: tuple[str, ...] = ()
    form: str = ""
    epochs: int | None = None
    domain: str = ""


class Score(NamedTuple):
    """A metric of one finished run, in the metric's unit; None or nan: the run ended without one."""

    label: str
    seed: int
    metric: str
    value: float | None


class Logged(NamedTuple):
    """A value that a run logged after an epoch: train_loss, train_PART, held_out_loss, test_METRIC or any other."""

    label: str
    seed: int
    epoch: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Claim:
    """A comparison that a study is judged by: an arm against "plain", its "control" or the arm of another label.

    metric: None: the one that the verdict is about.
    """

    arm: str
    against: str = "plain"
    metric: str | None = None

    @property
    def name(self) -> str:
        """ "se against control", "se against plain in loss" """
        return f"{self.arm} against {self.against}" + (f" in {self.metric}" if self.metric else "")


@dataclass(frozen=True)
class Setting:
    """What was compared.

    Attributes:
        network: empty where it is not known, as for results that were trained elsewhere.
        seeds: as planned.
        control: what the controls have in common with their variants.
        epochs: of one training; None: not known.
        epochs_ran: the fewest and the most that finished runs took; None: not known.
        question: title of the page; empty: made from the network and the data.
        reference: what sentences call the plain arm.
        matters: the smallest difference that matters, as a person reads the metric (points, px); None: by the metric.
        overlap: test over training items, where each seed has its own division of them; 0: one division for all.
        compare: the primary comparisons, named before the runs; (): each variant with plain and with its control.
    """

    name: str = "study"
    network: str = ""
    seeds: tuple[int, ...] = ()
    control: Literal["size", "macs", "latency", "none"] = "none"
    epochs: int | None = None
    question: str = ""
    reference: str = "the plain network"
    matters: float | None = None
    overlap: float = 0.0
    compare: tuple["Claim", ...] = ()
    epochs_ran: tuple[int, int] | None = None


@dataclass(frozen=True)
class Failure:
    """A run that ended without a score, and why."""

    label: str
    seed: int
    error: str


@dataclass(frozen=True)
class Look:
    """A time at which a study was judged: its number of seeds, and of claims ever planned by then."""

    seeds: int
    claims: int


@dataclass(frozen=True)
class Ledger:
    """What a study remembers, so that looking, extending and dropping do not raise the rate of false claims.

    Attributes:
        claims: names of the claims ever planned.
        seeds: ever planned.
        looks: in their order.
        most: the most seeds that the study may take, declared before the first look; None: not declared.
    """

    claims: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()
    most: int | None = None


@dataclass(frozen=True)
class Times:
    """A median and the 95 % interval of it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """What one arm's network costs; multiply-adds of one sample, the other counts of one batch."""

    parameters: int | None = None
    macs: int | None = None
    bytes_moved: int | None = None
    activation_bytes: int | None = None
    elementwise: int | None = None
    reductions: int | None = None
    launches: int | None = None
    latency_ms: Times | None = None
    latency_ratio: Times | None = None
    train_step_ms: Times | None = None
    train_step_ratio: Times | None = None
