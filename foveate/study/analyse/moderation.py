"""On what a gain depends: one mixed model of an arm's paired differences over data sets, with the plain network's score
as moderator.

Sources: H. van Houwelingen, L. Arends and T. Stijnen, Advanced Methods in Meta-Analysis: Multivariate Approach and
Meta-Regression, Stat. Med. 21 (2002), for the model; G. Knapp and J. Hartung, Improved Tests for a Random Effects
Meta-Regression with a Single Covariate, Stat. Med. 22 (2003), for its intervals; S. Sharp, S. Thompson and D. Altman,
The Relation between Treatment Benefit and Underlying Risk in Meta-Analysis, BMJ 313 (1996), for the noise that gain and
base have in common.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foveate.spec import Metric
from foveate.study.analyse.inference import ROUNDING, Array
from foveate.summary import ALPHA, Comparison, Moderated, Moderation, Summary, p_text, signed

LEAST = 6  # data sets


@dataclass(frozen=True)
class MixedLine:
    """y = intercept + slope·(x − mean x) + b_group + e: the coefficients, their standard errors with `freedom` degrees
    of freedom, and the standard deviations between groups, beside the line, and within them."""

    intercept: float
    slope: float
    errors: tuple[float, float]
    freedom: int
    between_sd: float
    within_sd: float


def mixed_line(groups: Sequence[ArrayLike], x: ArrayLike) -> MixedLine:
    """The mixed model by restricted maximum likelihood, x one value a group; three groups or more, of any sizes.

    For groups of one size it is the line of least squares through their means, with its t intervals.

    Raises: ValueError: fewer than three groups, or all at one x.
    """
    from scipy import optimize

    values, at = [np.asarray(group, dtype=float) for group in groups], np.asarray(x, dtype=float)
    if len(values) < 3 or np.ptp(at) <= ROUNDING * np.abs(at).max():
        raise ValueError(f"wanted three groups or more, at different x; got {len(values)} at {at.tolist()}")
    sizes, means = np.array([len(one) for one in values]), np.array([one.mean() for one in values])
    design = np.stack([np.ones(len(values)), at - at.mean()], 1)
    inside, total = sum(float(((one - one.mean()) ** 2).sum()) for one in values), int(sizes.sum())
    freedom = len(values) - 2

    def fitted(share: float) -> tuple[Array, Array, Array, float]:
        """Weights, coefficients, their information and the means' sum of squares where a share of the variance of one
        value lies between groups."""
        weights = sizes / (1 + sizes * share / (1 - share))
        information = design.T @ (weights[:, None] * design)
        found = np.linalg.solve(information, design.T @ (weights * means))
        return weights, found, information, float((weights * (means - design @ found) ** 2).sum())

    def cost(share: float) -> float:
        _, _, information, squares = fitted(share)
        spread = float(np.log1p(sizes * share / (1 - share)).sum())
        return (total - 2) * math.log(inside + squares) + spread + float(np.linalg.slogdet(information)[1])

    most = 1 - 1e-9
    if total == len(values) or inside <= ROUNDING * float((means**2).sum()):
        share = most  # no spread within groups is known
    else:
        share = float(optimize.minimize_scalar(cost, bounds=(0.0, most), method="bounded").x)
        share = min((0.0, share), key=cost)
    _, found, information, squares = fitted(share)
    errors = np.sqrt(np.diag(np.linalg.inv(information)) * squares / freedom)
    within = (inside + squares) / (total - 2)
    return MixedLine(
        intercept=float(found[0]),
        slope=float(found[1]),
        errors=(float(errors[0]), float(errors[1])),
        freedom=freedom,
        between_sd=math.sqrt(within * share / (1 - share)),
        within_sd=math.sqrt(within),
    )


def moderation(datasets: Mapping[str, Summary], label: str) -> Moderation | None:
    """How the gain of an arm depends on the plain network's score; None: fewer than six data sets, all with one score,
    or failed runs, without which the others are no sample."""
    found = [(name, summary, summary.arm(label).against_plain) for name, summary in datasets.items()]
    compared = [(name, summary, one) for name, summary, one in found if one and not (one.failed or one.failed_other)]
    if len(compared) < max(LEAST, len(datasets)):
        return None
    metric = compared[0][1].metric
    gains = [np.array([metric.gain(value, 0.0) for value in one.differences]) for _, _, one in compared]
    scores = [_plain_scores(summary, one) for _, summary, one in compared]
    base = np.array([values.mean() for values in scores])
    if np.ptp(base) <= ROUNDING * np.abs(base).max():
        return None
    line = mixed_line(gains, base)
    shared = [_covariance(mine, plain) / len(plain) for mine, plain in zip(gains, scores, strict=True)]
    coupled = float(np.mean(shared)) / float(base.var(ddof=1))
    half, p = _half_width(line.errors[1], line.freedom), _p(line.slope - coupled, line.errors[1], line.freedom)
    sets = tuple(_of_set(name, metric, one, float(x)) for (name, _, one), x in zip(compared, base, strict=True))
    return Moderation(
        label=label,
        sets=sets,
        base=float(base.mean()),
        gain=line.intercept,
        slope=line.slope,
        low=line.slope - half,
        high=line.slope + half,
        p=p,
        between_sd=line.between_sd,
        coupled=coupled,
        text=_in_words(label, metric, line, half, coupled, p, len(sets)),
    )


def _plain_scores(summary: Summary, one: Comparison) -> Array:
    """The plain network's scores in the seeds of a comparison."""
    score = summary.arm(summary.plain).score
    assert score is not None, "a comparison has two scored arms"
    of_seed = dict(score.of_seeds())
    return np.array([of_seed[seed] for seed in one.seeds])


def _covariance(gains: Array, plain: Array) -> float:
    return float(np.cov(gains, plain)[0, 1]) if len(plain) > 1 else 0.0


def _of_set(name: str, metric: Metric, one: Comparison, base: float) -> Moderated:
    ends = None if one.low is None or one.high is None else sorted(metric.gain(end, 0.0) for end in (one.low, one.high))
    low, high = ends or (None, None)
    return Moderated(name, base, one.gain, low, high)


def _half_width(error: float, freedom: int) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, 1 - ALPHA / 2)) * error


def _p(difference: float, error: float, freedom: int) -> float:
    if error == 0:
        return float(difference == 0)
    from scipy import special

    return float(2 * special.stdtr(freedom, -abs(difference / error)))


def _in_words(label: str, metric: Metric, line: MixedLine, half: float, coupled: float, p: float, sets: int) -> str:
    """For ten points (or one unit) more of the plain network."""
    step = 0.1 if metric.shown == "percent" else 1.0
    ends = (line.slope, line.slope - half, line.slope + half)
    slope, low, high = signed(metric, [step * one for one in ends])
    (noise,) = signed(metric, [step * coupled])
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    more = "ten points" if metric.shown == "percent" else f"1 {metric.unit}".strip()
    clear = "depends on" if p < ALPHA else "does not detectably depend on"
    return (
        f"the gain of {label} {clear} the plain network's {metric.name}: {slope}{unit} ({low} to {high}) for {more} "
        f"more, over {sets} data sets; {p_text(p)} against {noise}, the slope of the noise that both share"
    )
