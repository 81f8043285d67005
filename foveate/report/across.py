"""Several data sets: the picture of mean ranks with their critical difference, the page, and the table."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from foveate.files import write_whole
from foveate.report.drawing import Drawing, scale, shorten
from foveate.report.languages import translated
from foveate.report.moderation import moderation_drawing
from foveate.report.page import Figure, environment, names_of, write_report
from foveate.spec import Metric
from foveate.summary import Across, RankedArm, p_text, signed, to_json

if TYPE_CHECKING:
    from rich.console import Group

WIDTH, TOP, ROW, NAMES, SIZE = 760.0, 84.0, 22.0, 180.0, 12.0


def critical_difference_drawing(found: Across) -> Drawing:
    """Arms on the axis of mean ranks, the best left; bars join those that do not differ by the critical difference.

    Source: J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), fig. 1.
    """
    arms, count = found.arms, len(found.arms)
    half = (count + 1) // 2
    drawing = Drawing(
        "mean-ranks",
        WIDTH,
        TOP + 14 * len(found.alike) + ROW * half + 46,
        f"Mean ranks on {len(found.datasets)} data sets",
    )
    drawing.description = " ".join(f"{arm.label}: {arm.mean_rank:.2f}." for arm in arms)
    x = scale(1.0, float(count), NAMES, WIDTH - NAMES, count - 1)
    drawing.line(x(1), TOP, x(count), TOP, "axis")
    for rank in range(1, count + 1):
        drawing.line(x(rank), TOP - 5, x(rank), TOP, "axis")
        drawing.text(x(rank), TOP - 10, str(rank), anchor="middle", style="muted")
    wide = min(found.critical_difference, count - 1.0)
    cut = " (wider than the axis)" if found.critical_difference > count - 1 else ""
    drawing.line(x(1), 34, x(1 + wide), 34, "plain bar")
    drawing.text(x(1), 24, f"critical difference {found.critical_difference:.2f}{cut}", style="muted")
    for row, alike in enumerate(found.alike):
        ranks = [arm.mean_rank for arm in arms if arm.label in alike]
        y = TOP + 12 + 14 * row
        drawing.line(x(min(ranks)) - 4, y, x(max(ranks)) + 4, y, "plain bar")
    start = TOP + 14 * len(found.alike) + 18
    for place, arm in enumerate(arms):
        left = place < half
        y = start + ROW * (place if left else count - 1 - place)
        _name(drawing, arm, x(arm.mean_rank), y, left, "plain" if arm.label == found.plain else "attention")
    foot = "left is better; bars join arms whose mean ranks do not differ (Nemenyi, 0.05 for all pairs)"
    drawing.text(WIDTH / 2, drawing.height - 8, foot, size=11, anchor="middle", style="muted")
    return drawing


def _name(drawing: Drawing, arm: RankedArm, x: float, y: float, left: bool, role: str) -> None:
    end = NAMES - 14 if left else WIDTH - NAMES + 14
    drawing.line(x, TOP, x, y, "leader")
    drawing.line(x, y, end, y, "leader")
    hint = f"{arm.label}: mean rank {arm.mean_rank:.2f}"
    drawing.mark(x, TOP, role, hint, size=4)
    label = f"{shorten(arm.label, NAMES - 60, SIZE)}  {arm.mean_rank:.2f}"
    drawing.text(end + (-4 if left else 4), y + 4, label, anchor="end" if left else "start", style=role)


def difference(metric: Metric, arm: RankedArm) -> tuple[str, str]:
    """ "+1.3" and "+0.4 to +2.2"; "" where there is none."""
    effect = arm.against_plain
    if effect is None:
        return "", ""
    mean, low, high = signed(metric, [effect.mean, effect.low, effect.high])
    return mean, f"{low} to {high}"


def page_folders(names: Iterable[str]) -> dict[str, str]:
    """Name of a study → the folder of its report beside a page of several, each its own."""
    pages: dict[str, str] = {}
    for name in names:
        place = re.sub(r"[^\w.-]+", "_", name).strip("._") or "set"
        while place in pages.values():
            place += "_"
        pages[name] = place
    return pages


def write_across(found: Across, folder: Path | str, language: str = "en") -> Path:
    """Write the page of several data sets, with a report of each beside it, and return it.

    language: of the pages, as of `write_report`.

    Into `folder`: index.html, mean_ranks.svg and .png, gain_of_ARM.svg and .png for each of `found.moderation`,
    summary.json, and for each data set a folder with its report.

    Raises: OSError: the folder cannot be written; it names the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pages = page_folders(found.datasets)
    for name, summary in found.datasets.items():
        write_report(summary, folder / pages[name], language)
    drawing = critical_difference_drawing(found)
    values = to_json(found)
    for summary in values["datasets"].values():
        summary["about"].pop("examples", None)
    files = {
        "mean_ranks.svg": drawing.standalone().encode(),
        "mean_ranks.png": drawing.png(),
        "summary.json": f"{json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode(),
    }
    slugs = page_folders(one.label for one in found.moderation)
    moderated = {
        one.label: moderation_drawing(one, found.metric, number) for number, one in enumerate(found.moderation)
    }
    for label, picture in moderated.items():
        files[f"gain_of_{slugs[label]}.svg"] = picture.standalone().encode()
        files[f"gain_of_{slugs[label]}.png"] = picture.png()
    template = environment().get_template("across.html.j2")
    shown = {arm.label: difference(found.metric, arm) for arm in found.arms}
    html = template.render(
        found=found,
        p_text=p_text,
        metric=found.metric,
        pages=pages,
        shown=shown,
        figure=Markup(drawing.inline()),
        moderated={label: Figure.of(picture) for label, picture in moderated.items()},
    )
    names = set.union(set(found.datasets), *(names_of(summary) for summary in found.datasets.values()))
    html, _ = translated(html, language, names)
    for file, content in (files | {"index.html": html.encode()}).items():
        write_whole(folder / file, content)
    return folder / "index.html"


def across_table(found: Across) -> "Group":
    """The answer and a row an arm, for the terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "mean rank", f"difference to {found.plain}", "verdict"):
        table.add_column(heading)
    for arm in found.arms:
        mean, interval = difference(found.metric, arm)
        unit = found.metric.difference_unit
        cell = f"{mean} {unit}".strip() + (f" ({interval})" if interval else "")
        table.add_row(Text(arm.label), f"{arm.mean_rank:.2f}", Text(cell), Text(arm.verdict.word))
    answer = found.answer
    head = Text(f"{answer.question}\n") + Text(answer.short, style="bold") + Text(f". {answer.text}\n")
    notes = [
        answer.about,
        f"Two mean ranks differ where they are {found.critical_difference:.2f} or more apart (Nemenyi, 0.05).",
    ]
    notes += [f"Friedman's test of equal ranks: {p_text(found.friedman_p)}."] if found.friedman_p is not None else []
    notes += [f"{one.text[0].upper()}{one.text[1:]}." for one in found.moderation]
    notes += [f"Note: {note}." for note in found.notes]
    return Group(head, table, Text("\n" + "\n".join(notes), style="dim"))
