"""The summary of a study as frozen values: the analysis writes it, the report, the pages and `--json` read it.

Scores and differences are in the metric's own unit, ours minus theirs; times are milliseconds. Everything called `text`
or `short` is ready to print. None stands for a number that does not exist.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from foveate.spec import Metric, significant

SCHEMA = 2
ALPHA = 0.05  # of every test; intervals are 95 %
Kind = Literal["plain", "attention", "control"]


@dataclass(frozen=True)
class Arm:
    """One row of the report: the plain network, a variant, or a widened plain network as control.

    Attributes:
        label: unique within a study.
        kind: "plain" for the one arm that the others are compared with; a copy of it is an "attention" arm without
            insertions.
        variant: what is inserted and how it is trained, as plain values.
        width: factor by which the plain network is widened.
        matches: labels of the variants whose cost a control has.
    """

    label: str
    kind: Kind
    variant: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    matches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A metric of one finished run, in the metric's unit; None or nan: the run ended without one."""

    label: str
    seed: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Logged:
    """A value that a run logged after an epoch: train_loss, train_PART, held_out_loss, test_METRIC or any other."""

    label: str
    seed: int
    epoch: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Setting:
    """What was compared.

    Attributes:
        network: empty where it is not known, as for results that were trained elsewhere.
        seeds: as planned.
        control: what the controls have in common with their variants.
        epochs: of one training; None: not known.
        question: title of the page; empty: made from the network and the data.
        reference: what sentences call the plain arm.
    """

    name: str = "study"
    network: str = ""
    seeds: tuple[int, ...] = ()
    control: Literal["size", "latency", "none"] = "none"
    epochs: int | None = None
    question: str = ""
    reference: str = "the plain network"


@dataclass(frozen=True)
class Estimate:
    """A metric of one arm over its seeds: mean, sample sd and 95 % Student-t interval (None with one seed)."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Differences of one metric between two arms, ours minus theirs, paired by seed.

    Attributes:
        gain: the mean difference, positive where ours is better.
        low, high: 95 % paired-t interval of the mean, not corrected; None where it does not exist.
        p: of `test`: "paired t", "exact sign flip" or "none needed"; None with one seed.
        p_holm: p after Holm's correction over `comparisons` comparisons; None where it is part of no family.
        p_exact, p_exact_floor: of the exact sign-flip test, and the least p that it can give with these seeds.
        text: "+1.3 (+0.4 to +2.2)", in the unit that `metric.difference_unit` names.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    mean: float
    gain: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    test: str | None
    p_exact: float
    p_exact_floor: float
    p_holm: float | None = None
    comparisons: int = 0
    text: str = ""

    @property
    def significant(self) -> bool:
        """Is the corrected p below 0.05?"""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class ItemComparison:
    """On how many held-out items an arm is better, worse or equal to plain, each item's score averaged over seeds."""

    items: int
    seeds: tuple[int, ...]
    better: int
    worse: int
    equal: int


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


@dataclass(frozen=True)
class Ratio:
    """A time to another time; distinguishable: its range leaves out 1."""

    ratio: float
    low: float
    high: float
    distinguishable: bool


@dataclass(frozen=True)
class CostChange:
    """What one network costs more than another."""

    parameters: int | None = None
    parameters_percent: float | None = None
    macs: int | None = None
    macs_percent: float | None = None
    latency: Ratio | None = None
    train_step: Ratio | None = None


@dataclass(frozen=True)
class Verdict:
    """`word`: better, worse, suggestive, none, identical, one seed, no runs, or plain for the reference itself."""

    word: str
    short: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ArmSummary(Arm):
    """An arm with what was found.

    Attributes:
        score: the metric that the verdict is about.
        estimates: every metric that has a value, by name.
        against_plain, against_control: of that metric; None where no seed has finished on both sides.
        descriptive: the other metrics against plain, by name; part of no family and no verdict.
        items: the metric's values of each item against plain; None where a study keeps none.
        control: label of the control that has this arm's cost.
        control_cost: what the control costs more than this arm.
        failed: seeds whose run failed.
    """

    score: Estimate | None
    estimates: dict[str, Estimate]
    against_plain: Comparison | None
    against_control: Comparison | None
    descriptive: dict[str, Comparison]
    items: ItemComparison | None
    cost: Cost
    cost_change: CostChange
    control: str | None
    control_cost: CostChange | None
    failed: tuple[int, ...]
    verdict: Verdict


@dataclass(frozen=True)
class CurvePoint:
    """Mean of a logged value over seeds after an epoch, lowest and highest seed, number of seeds."""

    epoch: int
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Failure:
    """A run that ended without a score, and why."""

    label: str
    seed: int
    error: str


@dataclass(frozen=True)
class SeedStep:
    """The smallest true difference that this number of seeds shows in 4 studies of 5."""

    seeds: int
    smallest_sd: float
    smallest: float | None


@dataclass(frozen=True)
class SeedsCanShow:
    """What a number of paired seeds can show, before any is run.

    Attributes:
        exact_floor: 2/2^seeds, the least p of an exact sign-flip test.
        holm_allows: comparisons that such a test allows at 0.05.
        seeds_for_exact: seeds with which it can reach 0.05 for all comparisons.
        smallest_sd_one, smallest_sd: smallest difference seen with 80 % power for one comparison and for all, in
            standard deviations of the paired differences; None below two seeds.
        sd, smallest: that standard deviation and the smallest difference, in the metric's unit; None where unknown.
        useful: can a difference of this metric be large enough to be seen?
        ladder: the same for other numbers of seeds.
    """

    seeds: int
    comparisons: int
    exact_floor: float
    exact_can_reach: bool
    holm_allows: int
    seeds_for_exact: int
    smallest_sd_one: float | None
    smallest_sd: float | None
    sd: float | None
    smallest: float | None
    useful: bool
    ladder: tuple[SeedStep, ...]
    text: str


@dataclass(frozen=True)
class Answer:
    """The study's question and its answer.

    `short`: "Yes", "No", "Not detectably", "Undecided" or "Too few seeds".
    """

    question: str
    short: str
    text: str


@dataclass(frozen=True)
class Summary:
    """Everything that is known of a study.

    Attributes:
        metric: the one that the verdict is about; the first of `metrics`.
        plain: label of the arm that the others are compared with.
        curves: arm → logged name → a point an epoch.
        about: data, machine, versions, command, notes: shown, never computed with.
    """

    schema: int
    setting: Setting
    metric: Metric
    metrics: tuple[Metric, ...]
    plain: str
    arms: tuple[ArmSummary, ...]
    curves: dict[str, dict[str, tuple[CurvePoint, ...]]]
    seeds_can_show: SeedsCanShow
    failed: tuple[Failure, ...]
    about: dict[str, Any]
    answer: Answer

    def arm(self, label: str) -> ArmSummary:
        """The arm of this label. Raises: KeyError: there is none."""
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise KeyError(label)


def to_json(value: Any) -> Any:
    """A summary, or any part of it, as values for `json.dumps(..., allow_nan=False)`: None for nan and infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_json(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return to_json(value.item()) if hasattr(value, "item") else str(value)


def signed(metric: Metric, values: Sequence[float]) -> list[str]:
    """Differences as a person reads them: signed, with equal decimals, nothing but zero shown as zero."""
    scaled = [metric.factor * value for value in values]
    sizes = [abs(value) for value in scaled if value]
    if sizes and metric.shown == "plain" and not 1e-4 <= max(sizes) < 1e7:
        texts = [f"{value:+.2e}" if value else "0" for value in scaled]
    else:
        digits = _decimals(sizes, metric)
        texts = [f"{value:+.{digits}f}" for value in scaled]
        texts = [text.lstrip("+-") if float(text) == 0 else text for text in texts]
    return [text.replace("-", "−") for text in texts]


def _decimals(sizes: list[float], metric: Metric) -> int:
    """One to three decimals of points; of plain numbers three digits of the largest, more where the least needs it."""
    if not sizes:
        return 1 if metric.shown == "percent" else 0
    smallest, largest = min(sizes), max(sizes)
    least = 1 if metric.shown == "percent" else max(0, 2 - math.floor(math.log10(largest)))
    return next((digits for digits in (least, least + 1) if smallest >= 0.5 * 10.0**-digits), least + 2)


def size_of(metric: Metric, size: float) -> str:
    """A difference without its sign, with its unit: "1.1 points", "0.31 px"."""
    size = abs(size) * metric.factor
    if metric.shown == "percent":
        text = f"{size:.0f}" if size >= 10 else f"{size:.{_decimals([size] if size else [], metric)}f}"
    else:
        text = significant(size, 2)
    return f"{text} {metric.difference_unit}".strip()
