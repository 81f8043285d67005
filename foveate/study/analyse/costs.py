"""What one network costs more than another."""

from foveate.summary import Cost, CostChange, Ratio, Times


def cost_change(ours: Cost | None, base: Cost | None) -> CostChange:
    """What `ours` costs more than `base`.

    A ratio of times is that of their ratios to the plain network, measured round by round, where both have one; it runs
    from low/high to high/low, which is exact against the plain network itself and else wide.
    """
    if not ours or not base:
        return CostChange()
    parameters, parameters_percent = _added(ours.parameters, base.parameters)
    macs, macs_percent = _added(ours.macs, base.macs)
    return CostChange(
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
