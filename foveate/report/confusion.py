"""What is taken for what: a square for each true and predicted class, one panel an arm; darker is more of the class."""

from collections.abc import Sequence

from foveate.report.drawing import Drawing, shorten
from foveate.summary import ArmDetails, Summary

WIDTH, GAP, NAMES, SIZE = 960.0, 22.0, 96.0, 11.0
PANELS, MOST = 4, 40  # arms side by side; classes that are drawn


def confusion(summary: Summary) -> Drawing | None:
    """Of the plain network and the variants that kept their counts, at most four; None where none has any."""
    kinds = {arm.label: arm.kind for arm in summary.arms}
    found = [one for one in summary.details if one.confusion and kinds.get(one.label, "control") != "control"]
    found = sorted(found, key=lambda one: one.label != summary.plain)[:PANELS]
    if not found or len(found[0].confused) > MOST or len({one.confused for one in found}) > 1:
        return None
    names = found[0].confused
    side = min(300.0, (WIDTH - NAMES - GAP * len(found)) / len(found))
    cell = side / len(names)
    height = 34 + side + 92
    drawing = Drawing("confusion", WIDTH, height, "Predicted class by true class, one panel for each network")
    for row, name in enumerate(names) if cell >= 9 else ():
        drawing.text(NAMES - 6, 34 + cell * (row + 0.65), shorten(name, NAMES - 10, SIZE), size=SIZE, anchor="end")
    for number, one in enumerate(found):
        _panel(drawing, one, NAMES + number * (side + GAP), cell, kinds[one.label])
    foot = "Rows: true class; columns: predicted class, in the same order. Area of a square: share of the true class."
    drawing.text(WIDTH - 10, height - 10, foot, anchor="end", style="muted")
    plain = found[0]
    drawing.description = " ".join(_in_words(one) for one in found)
    drawing.reading = _in_words(plain)
    drawing.data = [("variant", "true class", "predicted class", "items, all seeds")]
    drawing.data += [
        (one.label, names[row], names[column], count)
        for one in found
        for row, counts in enumerate(one.confusion)
        for column, count in enumerate(counts)
    ]
    return drawing


def _panel(drawing: Drawing, one: ArmDetails, left: float, cell: float, kind: str) -> None:
    side = cell * len(one.confused)
    drawing.text(left, 22, shorten(one.label, side, 12), style=f"{kind} strong")
    for place in range(len(one.confused) + 1):
        drawing.line(left, 34 + cell * place, left + side, 34 + cell * place, "grid")
        drawing.line(left + cell * place, 34, left + cell * place, 34 + side, "grid")
    for row, counts in enumerate(one.confusion):
        whole = sum(counts) or 1
        for column, count in enumerate(counts):
            if not count:
                continue
            size = cell / 2 * (count / whole) ** 0.5
            x, y = left + cell * (column + 0.5), 34 + cell * (row + 0.5)
            drawing.box(x - size, y - size, 2 * size, 2 * size, "plain" if row == column else "control")
    if cell >= 14:
        for column, name in enumerate(one.confused):
            at = left + cell * (column + 0.5)
            drawing.turned(at + 4, 34 + side + 30, shorten(name, 54, SIZE), size=SIZE, style="muted")


def _in_words(one: ArmDetails) -> str:
    """ "plain takes 4 for 9 most often: 12 of 300." """
    wrong = [
        (count, row, column)
        for row, counts in enumerate(one.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    if not wrong:
        return f"{one.label} takes no class for another."
    count, row, column = max(wrong)
    names: Sequence[str] = one.confused
    return f"{one.label} takes {names[row]} for {names[column]} most often: {count} of {sum(one.confusion[row])}."
