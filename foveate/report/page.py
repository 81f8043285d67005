"""The report's folder: a page that loads nothing, the figures as files, and the numbers beside them."""

import base64
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from foveate.files import write_whole
from foveate.report import numbers
from foveate.report.colours import DARK, FONT, LIGHT, VARIABLES, drawing_rules
from foveate.report.confusion import confusion
from foveate.report.cost_roofline import cost_roofline
from foveate.report.drawing import Drawing
from foveate.report.forest import forest
from foveate.report.languages import check_language, translated
from foveate.report.learning import curve_title, learning_curves, logged_names, watched_part
from foveate.report.precision_recall import precision_recall
from foveate.report.scatter import score_latency
from foveate.report.table import by_domain, csv_text, no_formula
from foveate.summary import SCHEMA, Summary, to_json

if TYPE_CHECKING:
    from jinja2 import Environment

LARGE = 100_000  # bytes of a PNG picture
ABOUT = (
    "data", "train_items", "validation_items", "test_items",
    "machine", "versions", "command", "toml", "latency", "seconds", "notes",
)  # fmt: skip
FIGURES = ("score_latency", "paired_differences", "curves", "precision_recall", "cost_roofline", "confusion")
ALIKE = ("study.toml", "foveate", "cpu", "cuda", "mps", "sd", "summary.json", "table.csv")  # in every language
PICTURES = 6_500_000  # bytes of all pictures of a page, which is then at most 10 MB
SORTS = {
    "gained": "Plain wrong or worse, the variant right or better",
    "lost": "Plain right or better, the variant wrong or worse",
    "right": "Both at their best",
    "wrong": "Both at their worst",
}


def write_report(summary: Summary, folder: Path | str, language: str = "en") -> Path:
    """Write the report of a study's summary and return its page.

    language: of the page, "en" or "zh"; figures as files, tables and JSON are in English.

    Into `folder`, made where it is missing: index.html, table.csv, summary.json, and as .png and .svg
    paired_differences, score_latency and cost_roofline (where latencies were measured), curves (where epochs were
    logged), confusion (of classifiers) and precision_recall (of detectors). Everything is drawn before anything is
    written, each file replaces the old one whole, and the page comes last; so a report cut short leaves the one before
    it readable.

    Raises: ValueError: the summary is of another version, or there is no such language. OSError: the folder cannot be
        written; it names the file.
    """
    if not isinstance(summary, Summary):
        raise TypeError(f"wanted a foveate.summary.Summary; got {type(summary).__name__}")
    if summary.schema != SCHEMA:
        raise ValueError(f"wanted a summary of schema {SCHEMA}; got {summary.schema!r}: analyse the study again")
    check_language(language)
    files: dict[str, bytes] = {}
    figures = drawn_figures(summary)
    for name, drawing in figures.items():
        files[f"{name}.svg"] = drawing.standalone().encode()
        files[f"{name}.png"] = drawing.png()
    files["table.csv"] = csv_text(summary).encode()
    values = to_json(summary)
    for pictures in ("examples", "gallery"):  # on the page
        values["about"].pop(pictures, None)
    files["summary.json"] = f"{json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()
    files["index.html"] = page(summary, figures, language).encode()

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{figure}.{kind}" for figure in FIGURES for kind in ("png", "svg")):
        if name not in files:
            (folder / name).unlink(missing_ok=True)  # of an earlier report
    for name, content in files.items():
        write_whole(folder / name, content)
    return folder / "index.html"


def drawn_figures(summary: Summary) -> dict[str, Drawing]:
    """The figures that there is something to draw for, in the order of `FIGURES`."""
    logged = logged_names(summary)
    learning = learning_curves(summary, logged[0]) if logged else None
    drawn = (
        score_latency(summary),
        forest(summary),
        learning,
        precision_recall(summary),
        cost_roofline(summary),
        confusion(summary),
    )
    return {name: drawing for name, drawing in zip(FIGURES, drawn, strict=True) if drawing is not None}


def environment() -> "Environment":
    """What the pages' templates are rendered in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rules = Markup(drawing_rules(VARIABLES, "inherit"))
    style = {"light": LIGHT, "dark": DARK, "font": Markup(FONT), "drawing_rules": rules}
    made.globals |= {"n": numbers, "titled": _titled, **style}
    return made


@dataclass(frozen=True)
class Figure:
    """A drawing on the page: the SVG, its reading, and its numbers as a link that needs no server."""

    svg: str
    reading: str
    data: str

    @classmethod
    def of(cls, drawing: Drawing) -> "Figure":
        from markupsafe import Markup

        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [no_formula(one) if isinstance(one, str) else one for one in row] for row in drawing.data
        )
        data = f"data:text/csv;charset=utf-8,{quote(text.getvalue())}" if drawing.data else ""
        return cls(Markup(drawing.inline()), drawing.reading, data)


def page(summary: Summary, figures: Mapping[str, Drawing] | None = None, language: str = "en") -> str:
    """The page's HTML; figures: those of `drawn_figures`, where they are drawn already."""
    drawn = drawn_figures(summary) if figures is None else figures
    pictures = _Pictures(summary.about.get("examples") or {}, summary.about.get("gallery") or {})
    html = (
        environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            arms=by_domain(summary.arms),
            domains={arm.domain for arm in summary.arms if arm.domain},
            metric=summary.metric,
            setting=summary.setting,
            about={**dict.fromkeys(ABOUT), **summary.about},
            size=_size(summary.about.get("size")),
            classes=_count(summary.about.get("classes")),
            targets=_targets(summary.about.get("targets")),
            costed=any(arm.cost.parameters is not None or arm.cost.latency_ms for arm in summary.arms),
            examples=pictures.examples,
            gallery=pictures.gallery,
            sorts=SORTS,
            files=sorted([*drawn, "table.csv", "summary.json"]),
            figures=dict.fromkeys(FIGURES) | {name: Figure.of(drawing) for name, drawing in drawn.items()},
            watched=watched_part(summary),
            more_curves=[
                (curve_title(summary, name), Figure.of(learning_curves(summary, name)))
                for name in logged_names(summary)[1:]
            ],
        )
    )
    return translated(html, language, names_of(summary))[0]


def names_of(summary: Summary) -> set[str]:
    """What a translation of the page leaves as it is: names of arms, metrics and classes, and what users wrote."""
    labels = [arm.label for arm in summary.arms]
    metrics = [one.name for one in [*summary.metrics, *(found.metric for found in summary.by_class)]]
    units = [unit for one in summary.metrics for unit in (one.shown_unit, one.unit)]
    classes = [name for one in summary.details for name in one.confused] + [one.name for one in summary.by_class]
    about = [str(summary.about.get(key) or "") for key in ("data", "name", "machine", "command")]
    versions = summary.about.get("versions") or {}
    about.append(_targets(summary.about.get("targets")))
    about.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    items = [case["item"] for cases in (summary.about.get("gallery") or {}).values() for case in cases]
    errors = [run.error for run in summary.failed]
    paper = summary.published
    tried = [one.text for arm in summary.tuning.arms for one in arm.tried] if summary.tuning else []
    written = [
        *tried,
        *(summary.tuning.names if summary.tuning else ()),
        *labels,
        *metrics,
        *units,
        *classes,
        *about,
        *items,
        *errors,
        *(one.name for one in summary.machines),
        *((*paper.columns, paper.source, paper.setting, paper.note) if paper else ()),
        summary.setting.network,
        summary.setting.name,
    ]
    return {
        *written,
        *map(_titled, metrics),
        *map(str.strip, written),
        *ALIKE,
        *FIGURES,
        numbers.duration(summary.about.get("seconds")),
    }


def _titled(name: str) -> str:
    """A metric's name at the start of a heading: "Error", but "mIoU" and "map50" as they are."""
    return name.capitalize() if name.isalpha() and name.islower() else name


def _size(size: Any) -> str:
    """[32, 32] → "32 × 32"."""
    sides = size if isinstance(size, (list, tuple)) else [] if size is None else [size]
    return " × ".join(str(side) for side in sides)


def _count(classes: Any) -> int | None:
    return len(classes) if isinstance(classes, (list, tuple, dict)) else classes


def _targets(targets: Any) -> str:
    """Names of the targets, of a list, a dict or a text."""
    if isinstance(targets, Mapping):
        return ", ".join(f"{name} ({kind})" if isinstance(kind, str) else name for name, kind in targets.items())
    return ", ".join(map(str, targets)) if isinstance(targets, (list, tuple)) else str(targets or "")


class _Pictures:
    """The pictures of a page as data URIs, smaller where all together would be too large; files that are gone are left
    out.

    examples: label and pictures. gallery: label, and for each sort its cases.
    """

    def __init__(self, examples: Mapping[str, Any], gallery: Mapping[str, Any]) -> None:
        drawn = [[_bytes(picture) for picture in pictures] for pictures in examples.values()]
        cases = [case | {"picture": _bytes(case["picture"])} for of_arm in gallery.values() for case in of_arm]
        whole = [one for pictures in drawn for one in pictures] + [case["picture"] for case in cases]
        sources = dict(zip(whole, _sources([one for one in whole if one], whole), strict=True))
        self.examples = [
            (label, [sources[one] for one in pictures if one])
            for label, pictures in zip(examples, drawn, strict=True)
            if any(pictures)
        ]
        left = iter(cases)
        self.gallery: list[tuple[str, dict[str, list[dict[str, Any]]]]] = []
        for label, of_arm in gallery.items():
            shown: dict[str, list[dict[str, Any]]] = {}
            for case in [next(left) for _ in of_arm]:
                if case["picture"]:
                    shown.setdefault(case["sort"], []).append(case | {"picture": sources[case["picture"]]})
            if shown:
                self.gallery.append((label, shown))


def _sources(there: list[bytes], whole: list[bytes]) -> list[str]:
    """A data URI for each of `whole`, "" for an empty one; a large picture as WebP, which takes about a quarter."""
    scale = 1.0
    while True:
        made = {one: _source(one, scale) for one in there}
        size = sum(len(made[one]) for one in whole if one)
        if size <= PICTURES:
            return [made.get(one, "") for one in whole]
        scale *= 0.9 * (PICTURES / size) ** 0.5


def _source(picture: bytes, scale: float) -> str:
    kind = "png"
    if len(picture) > LARGE or scale < 1:
        from PIL import Image

        file = io.BytesIO()
        image: Image.Image = Image.open(io.BytesIO(picture))
        if scale < 1:
            image = image.convert("RGB").resize([max(1, round(side * scale)) for side in image.size])
        image.save(file, "WEBP", quality=80)
        kind, picture = "webp", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _bytes(picture: bytes | str) -> bytes:
    """A picture, or the contents of its file; b"" where that is gone."""
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except FileNotFoundError:
        return b""
