"""What the analysis found, as frozen values."""

from dataclasses import dataclass
from typing import Any

from foveate.published import Published
from foveate.spec import Metric
from foveate.summary.attention import AttentionFound
from foveate.summary.convergence import Convergence
from foveate.summary.details import ArmDetails
from foveate.summary.machines import MachineFound
from foveate.summary.robustness import CorruptedScores
from foveate.summary.rows import Arm, Claim, Cost, Failure, Setting

SCHEMA = 3
ALPHA = 0.05  # of what a study claims, all claims and looks together; intervals are 95 %


@dataclass(frozen=True)
class Estimate:
    """A metric of one arm over its seeds: mean, sample sd and 95 % Student-t interval (None with one seed)."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]

    def of_seeds(self) -> list[tuple[int, float]]:
        """Each seed with its value."""
        return list(zip(self.seeds, self.values, strict=True))


@dataclass(frozen=True)
class Interval:
    """An interval and the p that belongs to it; None where it does not exist."""

    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """Differences of one metric between two arms, ours minus theirs, paired by seed.

    Attributes:
        seeds, differences: pairs that both finished.
        gain: the mean difference, positive where ours is better.
        low, high: 95 % interval of the mean over new seeds, and over new items where their scores are known; of this
            comparison alone. None where it does not exist, as after failed runs.
        p: of `test`: "seeds", "seeds and items", "seeds and divisions", "exact sign flip", "none needed" or "signed
            rank with failed runs as the worst"; None with one seed.
        seeds_only: the same on these very items.
        items, item_share: number of items (of groups where items have groups; 0: not known) and their share of the
            variance.
        overlap: test over training items, where each seed has its own division of them; else 0.
        sampled_share: share of the seeds' variance that drawing a division's test items explains; None: not known.
        p_exact, p_exact_floor: of the exact sign-flip test, and the least p that it can give with these seeds.
        failed, failed_other: seeds that failed here and on the other side.
        missing: seeds that only one side has, without having failed.
        comparisons: claims of the study, those ever planned; 0: this comparison is none and is described alone.
        p_holm: p corrected for the looks and, with Holm's method, for the claims; None where it is no claim.
        claim_low, claim_high: interval that holds for all claims and looks at once.
        word: better, worse, equivalent, undecided, identical, too few seeds, unfinished, or descriptive.
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
    seeds_only: Interval
    items: int
    item_share: float | None
    item_variance: float
    p_exact: float
    p_exact_floor: float
    overlap: float = 0.0
    sampled_share: float | None = None
    failed: tuple[int, ...] = ()
    failed_other: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    comparisons: int = 0
    p_holm: float | None = None
    claim_low: float | None = None
    claim_high: float | None = None
    word: str = "descriptive"
    text: str = ""

    @property
    def significant(self) -> bool:
        """Is the corrected p below 0.05?"""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def runs(self) -> int:
        """Pairs whose outcome is known, failed ones included."""
        return len({*self.seeds, *self.failed, *self.failed_other})


@dataclass(frozen=True)
class ItemComparison:
    """On how many held-out items an arm is better, worse or equal to plain, each item's score averaged over seeds."""

    items: int
    seeds: tuple[int, ...]
    better: int
    worse: int
    equal: int


@dataclass(frozen=True)
class Ratio:
    """A time to another time; distinguishable: its range leaves out 1."""

    ratio: float
    low: float
    high: float
    distinguishable: bool


@dataclass(frozen=True)
class CostChange:
    """What one network costs more than another; activations: bytes that a batch keeps for the backward pass."""

    parameters: int | None = None
    parameters_percent: float | None = None
    macs: int | None = None
    macs_percent: float | None = None
    activations: int | None = None
    activations_percent: float | None = None
    latency: Ratio | None = None
    train_step: Ratio | None = None


@dataclass(frozen=True)
class CostMatch:
    """What a control adds to the plain network, and what the variant adds that it is for.

    Attributes:
        variant: label of the variant.
        what: "parameters", "multiply-adds" (of one item), "latency" (ms a batch) or "training time" (times that of the
            plain network in the study's epochs).
        added, wanted: by the control and by the variant.
        percent: by how much `added` differs from `wanted`; None where that is 0.
        matched: is this what the control is to have the same of?
        text: "+1,024 parameters for +1,032, −0.8 %"; the percentage where it is matched.
    """

    variant: str
    what: str
    added: float
    wanted: float
    percent: float | None
    matched: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """`word`: that of the arm's comparison with plain (of its primary one, where `[[compare]]` names it), no runs,
    failed where every run failed, or plain for the reference itself."""

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
        against_controls: by label, of all controls of this arm; those beyond the first are described.
        descriptive: the other metrics against plain, by name; part of no family and no verdict.
        items: the metric's values of each item against plain; None where a study keeps none.
        control: label of the first of its controls, which it is judged against.
        control_cost: what the control costs more than this arm.
        cost_matches: of a control: how far its cost is from that of each variant that it is for, what is matched first.
        failed: seeds whose run failed.
        attention: its state at the end of training; None for an arm without, and where no run kept it.
        convergence: None where no run logged the metric epoch by epoch.
    """

    score: Estimate | None
    estimates: dict[str, Estimate]
    against_plain: Comparison | None
    against_control: Comparison | None
    against_controls: dict[str, Comparison]
    descriptive: dict[str, Comparison]
    items: ItemComparison | None
    cost: Cost
    cost_change: CostChange
    control: str | None
    control_cost: CostChange | None
    cost_matches: tuple[CostMatch, ...]
    failed: tuple[int, ...]
    verdict: Verdict
    attention: AttentionFound | None = None
    convergence: Convergence | None = None


@dataclass(frozen=True)
class CurvePoint:
    """Mean of a logged value over seeds after an epoch, lowest and highest seed, number of seeds."""

    epoch: int
    mean: float
    low: float
    high: float
    seeds: int


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
        sd_high, smallest_high: upper end of the one-sided 80 % interval of sd, and the smallest difference with it;
            None where sd is not known from three seeds or more.
        level: of the test of one of the comparisons.
        needed, needed_high: seeds that show a difference that matters, with sd and with sd_high; None: not known, or
            more than 200.
        items_alone: a difference that the test items hide however many seeds there are.
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
    sd_high: float | None
    smallest: float | None
    smallest_high: float | None
    level: float
    needed: int | None
    needed_high: int | None
    items_alone: float
    useful: bool
    ladder: tuple[SeedStep, ...]
    text: str


@dataclass(frozen=True)
class Answer:
    """The study's question and its answer.

    `short`: "Yes", "No", "Not detectably", "Equivalent", "Undecided" or "Too few seeds".

    Attributes:
        about: what the verdict is about and where its uncertainty comes from.
        risk: what the number of runs leaves open about runs that fail.
        looks: how often the study was judged, and what that costs.
    """

    question: str
    short: str
    text: str
    about: str = ""
    risk: str = ""
    looks: str = ""


@dataclass(frozen=True)
class Margin:
    """The smallest difference that matters, in the metric's unit (None: unknown), whether it was stated, in words."""

    value: float | None
    stated: bool
    text: str


@dataclass(frozen=True)
class Claimed:
    """A primary comparison that `[[compare]]` names, and what came of it."""

    claim: Claim
    metric: Metric
    found: Comparison | None
    text: str


@dataclass(frozen=True)
class Tried:
    """One combination of listed values in one arm.

    Attributes:
        values, text: of [train], and in words.
        score: the judged metric on the validation part, over the seeds that finished.
        chosen: seeds in which it was the best.
        failed: seeds in which it failed.
    """

    values: dict[str, Any]
    text: str
    score: Estimate | None
    chosen: tuple[int, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True)
class ArmTuning:
    """What was tried in an arm; `text`: what was chosen, `at_an_end`: where that is an end of its list, or ""."""

    label: str
    tried: tuple[Tried, ...]
    text: str
    at_an_end: str


@dataclass(frozen=True)
class Tuning:
    """The choice of values that a study lists: names of [train], the metric, items of the validation part, the arms."""

    names: tuple[str, ...]
    metric: Metric
    items: int | None
    arms: tuple[ArmTuning, ...]
    text: str

    def of(self, label: str) -> ArmTuning:
        """What was tried in an arm. Raises: KeyError: there is none of this label."""
        return {arm.label: arm for arm in self.arms}[label]


@dataclass(frozen=True)
class ClassFound:
    """A class of a task that has one for every position: arm → values over seeds, and difference to plain; described,
    not judged."""

    name: str
    metric: Metric
    estimates: dict[str, Estimate]
    against_plain: dict[str, Comparison]


@dataclass(frozen=True)
class NullRate:
    """How often studies of two arms of one network claim a difference: the rate among the drawn studies with this many
    seeds, and its 95 % interval over new runs."""

    seeds: int
    studies: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class NullCheck:
    """What a study of identical arms shows.

    Attributes:
        arms, runs: of the study.
        expected: the rate of a first look.
        rates: by number of seeds; () where there are too few runs.
    """

    arms: int
    runs: int
    expected: float
    rates: tuple[NullRate, ...]
    text: str


@dataclass(frozen=True)
class Summary:
    """Everything that is known of a study.

    Attributes:
        metric: the one that the verdict is about; the first of `metrics`.
        plain: label of the arm that the others are compared with.
        margin: of the metric that the verdict is about.
        claims: number of comparisons that the study is judged by, those dropped since included.
        primary: those that `[[compare]]` names.
        pending: runs that are planned and not done; while there are any there is no verdict.
        look: number of this look, counted from 1; weight: the share of the error rate that it may spend.
        curves: arm → logged name → a point an epoch.
        about: data, machine, versions, command, notes: shown, never computed with.
        tuning: what was chosen among listed values; None: nothing is listed.
        null_check: of a study whose arms are all the plain network.
        corrupted: the scores on corrupted test images; None: nothing was corrupted.
        details: of the arms whose runs kept more than metrics.
        by_class: of a task that has a class for every position: the classes that occur in its held-out items.
        published: a paper's figures, shown beside. machines: latencies on other machines.
    """

    schema: int
    setting: Setting
    metric: Metric
    metrics: tuple[Metric, ...]
    plain: str
    arms: tuple[ArmSummary, ...]
    margin: Margin
    claims: int
    primary: tuple[Claimed, ...]
    pending: tuple[tuple[str, int], ...]
    look: int
    weight: float
    curves: dict[str, dict[str, tuple[CurvePoint, ...]]]
    seeds_can_show: SeedsCanShow
    failed: tuple[Failure, ...]
    about: dict[str, Any]
    answer: Answer
    tuning: Tuning | None = None
    null_check: NullCheck | None = None
    corrupted: CorruptedScores | None = None
    details: tuple[ArmDetails, ...] = ()
    by_class: tuple[ClassFound, ...] = ()
    published: Published | None = None
    machines: tuple[MachineFound, ...] = ()

    def arm(self, label: str) -> ArmSummary:
        """The arm of this label. Raises: KeyError: there is none."""
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise KeyError(label)
