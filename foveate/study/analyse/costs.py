"""What one network costs more than another."""

from collections.abc import Mapping

from foveate.metric import significant
from foveate.summary import Arm, Cost, CostChange, CostMatch, Ratio, Setting, Times

MATCHED = {"size": "parameters", "macs": "multiply-adds", "latency": "latency"}


def cost_change(ours: Cost | None, base: Cost | None) -> CostChange:
    """What `ours` costs more than `base`.

    A ratio of times is that of their ratios to the plain network, measured round by round, where both have one; it runs
    from low/high to high/low, which is exact against the plain network itself and else wide.
    """
    if not ours or not base:
        return CostChange()
    parameters, parameters_percent = _added(ours.parameters, base.parameters)
    macs, macs_percent = _added(ours.macs, base.macs)
    activations, activations_percent = _added(ours.activation_bytes, base.activation_bytes)
    return CostChange(
        activations=activations,
        activations_percent=activations_percent,
        parameters=parameters,
        parameters_percent=parameters_percent,
        macs=macs,
        macs_percent=macs_percent,
        latency=_ratio((ours.latency_ratio, base.latency_ratio), (ours.latency_ms, base.latency_ms)),
        train_step=_ratio((ours.train_step_ratio, base.train_step_ratio), (ours.train_step_ms, base.train_step_ms)),
    )


def _added(ours: int | None, base: int | None) -> tuple[int | None, float | None]:
    if ours is None or base is None:
        return None, None
    return ours - base, 100 * (ours - base) / base if base else None


def _ratio(ratios: tuple[Times | None, Times | None], times: tuple[Times | None, Times | None]) -> Ratio | None:
    mine, other = ratios if all(ratios) else times
    if mine is None or other is None or min(other.low, other.median) <= 0:
        return None
    low, high = mine.low / other.high, mine.high / other.low
    return Ratio(mine.median / other.median, low, high, distinguishable=low > 1 or high < 1)


def cost_matches(arm: Arm, costs: Mapping[str, Cost], plain: str, setting: Setting) -> tuple[CostMatch, ...]:
    """How far a control's cost is from those of its variants: parameters, multiply-adds, and what is matched beside
    them. Empty for other arms and where costs are not known."""
    matches: list[CostMatch] = []
    for variant in arm.matches:
        ours, theirs, base = (costs.get(label) for label in (arm.label, variant, plain))
        if not ours or not theirs or not base:
            continue
        wanted = "training time" if arm.form == "longer" else MATCHED.get(setting.control, "parameters")
        found: list[CostMatch] = []
        for what, field in (("parameters", "parameters"), ("multiply-adds", "macs")):
            numbers = [getattr(one, field) for one in (ours, theirs, base)]
            if None not in numbers:
                control, attention = numbers[0] - numbers[2], numbers[1] - numbers[2]
                text = f"{control:+,} {what} for {attention:+,}"
                found.append(_match(variant, what, control, attention, text, wanted))
        if wanted == "latency" and ours.latency_ratio and theirs.latency_ratio and base.latency_ms:
            control, attention = (
                base.latency_ms.median * (one.latency_ratio.median - 1) for one in (ours, theirs) if one.latency_ratio
            )
            text = f"{control:+.3g} ms of latency for {attention:+.3g} ms"
            found.append(_match(variant, wanted, control, attention, text, wanted))
        if wanted == "training time" and theirs.train_step_ratio and arm.epochs and setting.epochs:
            control, attention = arm.epochs / setting.epochs, theirs.train_step_ratio.median
            step = significant(attention)
            text = f"{arm.epochs} epochs for {setting.epochs} of steps {step} times as long"
            found.append(_match(variant, wanted, control, attention, text, wanted))
        matches += sorted(found, key=lambda one: not one.matched)
    return tuple(matches)


def _match(variant: str, what: str, added: float, wanted: float, text: str, matched: str) -> CostMatch:
    percent = 100 * (added - wanted) / wanted if wanted else None
    if what == matched and percent is not None:
        off = f"{percent:+,.1f}"
        text += f", {off[1:] if abs(percent) < 0.05 else off} %"
    return CostMatch(variant, what, added, wanted, percent, what == matched, text.replace(" -", " −"))
