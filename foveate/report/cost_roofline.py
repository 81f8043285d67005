"""The arms of a study under the roof of the machine: operations a second against operations a byte of a whole pass."""

import math

from foveate.report.drawing import Drawing, shorten
from foveate.report.labels import Box, place
from foveate.report.roofline import BELOW, HEIGHT, LEFT, RIGHT, SIZE, TOP, WIDTH, logarithmic, rate_axes, roof_line
from foveate.summary import ArmSummary, Summary


def cost_roofline(summary: Summary) -> Drawing | None:
    """A mark an arm whose operations, traffic and latency are known; None where there is none, or no roof was
    measured."""
    roofs = summary.about.get("roofs")
    batch = (summary.about.get("latency") or {}).get("batch_size")
    if not roofs or not batch:
        return None
    found = [(arm, *point) for arm in summary.arms if (point := _point(arm, batch)) is not None]
    if not found:
        return None
    peak, cache, memory = roofs["gmacs_s"], roofs["cache_gb_s"], roofs["memory_gb_s"]
    drawing = Drawing("cost-roofline", WIDTH, HEIGHT, "Operations a second under the roof of the machine")
    x = logarithmic([i for _, i, _ in found] + [peak / memory * 4, 0.1], LEFT, WIDTH - RIGHT)
    y = logarithmic([r for *_, r in found] + [peak * 3], HEIGHT - BELOW, TOP)
    rate_axes(drawing, x, y)
    drawing.clip(LEFT, TOP, WIDTH - RIGHT - LEFT, HEIGHT - BELOW - TOP)
    roof_line(drawing, x, y, cache, peak, "reference")
    roof_line(drawing, x, y, memory, peak, "axis")
    drawing.unclip()
    points = [(x(math.log10(i)), y(math.log10(r))) for _, i, r in found]
    names = [shorten(arm.label, 280, SIZE) for arm, *_ in found]
    frame = Box(LEFT + 2, TOP, WIDTH - RIGHT, HEIGHT - BELOW - 2)
    for (arm, intensity, rate), at in zip(found, points, strict=True):
        hint = f"{arm.label}: {rate:.3g} G operations/s at {intensity:.3g} operations a byte"
        drawing.mark(*at, arm.kind, hint)
    for (arm, *_), name, at, spot in zip(found, names, points, place(points, names, [], frame, SIZE), strict=True):
        if spot.leader:
            near = min(max(at[0], spot.box.left), spot.box.right), min(max(at[1], spot.box.top), spot.box.bottom)
            drawing.line(*at, *near, "leader")
        drawing.text(spot.x, spot.y, name, size=SIZE, anchor=spot.anchor, style=f"{arm.kind} halo")
    roof = f"roof: {peak:.0f} G multiply-adds/s; {cache:.0f} GB/s in cache (dashed), {memory:.0f} GB/s from memory"
    drawing.text(WIDTH - RIGHT, y(math.log10(peak)) - 8, roof, anchor="end", size=11, style="muted halo")
    drawing.description = " ".join(
        f"{arm.label}: {rate:.3g} G operations a second at {intensity:.3g} operations a byte."
        for arm, intensity, rate in found
    )
    arm, intensity, rate = next((one for one in found if one[0].kind == "plain"), found[0])
    under = min(peak, intensity * memory)
    bound = "traffic from memory" if intensity * memory < peak else "arithmetic"
    drawing.reading = (
        f"{arm.label} reaches {100 * rate / under:.0f} % of what the machine allows at its {intensity:.3g} operations "
        f"a byte, where the roof is {bound}."
    )
    drawing.data = [("variant", "operations a byte", "G operations a second")]
    drawing.data += [(arm.label, intensity, rate) for arm, intensity, rate in found]
    return drawing


def _point(arm: ArmSummary, batch: int) -> tuple[float, float] | None:
    """Operations a byte, and 10⁹ operations a second; a multiply-add is one operation."""
    cost = arm.cost
    if cost.macs is None or not cost.bytes_moved or cost.latency_ms is None:
        return None
    operations = cost.macs * batch + (cost.elementwise or 0) + (cost.reductions or 0)
    return operations / cost.bytes_moved, operations / cost.latency_ms.median / 1e6
