"""What several data sets say together, as frozen values."""

from dataclasses import dataclass

from foveate.spec import Metric
from foveate.summary.findings import Answer, Margin, Summary, Verdict


@dataclass(frozen=True)
class Effect:
    """An arm's mean difference to plain over data sets, ours minus theirs, in the metric's unit.

    Attributes:
        gain: positive where ours is better.
        error: standard error of the mean over new data sets. low, high: its 95 % interval. p: of no difference.
        p_holm: corrected for the number of arms.
        between_sd, within_sd: of the data sets' true differences, and of the seeds within one.
    """

    mean: float
    gain: float
    error: float
    low: float
    high: float
    p: float
    p_holm: float
    between_sd: float
    within_sd: float


@dataclass(frozen=True)
class RankedArm:
    """ranks: on each data set, 1 is the best; equal scores share their mean rank. against_plain: None for plain itself,
    and where runs failed."""

    label: str
    ranks: tuple[float, ...]
    mean_rank: float
    against_plain: Effect | None
    verdict: Verdict


@dataclass(frozen=True)
class Moderated:
    """A data set: the plain network's mean score, and an arm's gain, positive where it is better, with its interval."""

    name: str
    base: float
    gain: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Moderation:
    """How an arm's gain depends on the plain network's score, by one mixed model over data sets.

    Attributes:
        label: of the arm.
        base, gain: mean of the plain network's scores, and the model's gain there.
        slope: what a unit more of the plain network's score adds to the gain. low, high: its 95 % interval; p: of
            no other slope than `coupled`; not corrected for the number of arms.
        between_sd: of the data sets' true gains, beside the line.
        coupled: the slope that would come of the noise that gain and score have in common, as the gain is a difference
            to that score, if no true gain depended on it.
    """

    label: str
    sets: tuple[Moderated, ...]
    base: float
    gain: float
    slope: float
    low: float
    high: float
    p: float
    between_sd: float
    coupled: float
    text: str


@dataclass(frozen=True)
class Across:
    """Arms over several data sets.

    Attributes:
        datasets: name → what the data set says alone.
        arms: best mean rank first.
        friedman_p: of equal ranks; None for two arms.
        critical_difference: of two mean ranks, at 0.05 for all pairs at once (Nemenyi).
        alike: labels of arms whose mean ranks do not differ by as much, each largest such group.
        moderation: of each arm that ran on six data sets or more without a failed run.
        pairs: (arm, other, p) of Wilcoxon's signed-rank test over data sets, corrected with Holm's method.
    """

    metric: Metric
    plain: str
    margin: Margin
    datasets: dict[str, Summary]
    arms: tuple[RankedArm, ...]
    friedman_p: float | None
    critical_difference: float
    alike: tuple[tuple[str, ...], ...]
    pairs: tuple[tuple[str, str, float], ...]
    notes: tuple[str, ...]
    answer: Answer
    moderation: tuple[Moderation, ...] = ()
