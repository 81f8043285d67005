"""The report's folder: a page that loads nothing, the figures as files, and the numbers beside them."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.files import write_whole
from foveate.report import numbers
from foveate.report.colours import DARK, FONT, LIGHT, VARIABLES, drawing_rules
from foveate.report.drawing import Drawing
from foveate.report.forest import forest
from foveate.report.learning import curve_title, learning_curves, logged_names, watched_part
from foveate.report.precision_recall import precision_recall
from foveate.report.scatter import score_latency
from foveate.report.table import csv_text
from foveate.summary import SCHEMA, Summary, to_json

if TYPE_CHECKING:
    from jinja2 import Environment

LARGE = 100_000  # bytes of a PNG picture
ABOUT = (
    "data", "train_items", "validation_items", "test_items",
    "machine", "versions", "command", "toml", "latency", "seconds", "notes",
)  # fmt: skip
FIGURES = ("score_latency", "paired_differences", "curves", "precision_recall")


def write_report(summary: Summary, folder: Path | str) -> Path:
    """Write the report of a study's summary and return its page.

    Into `folder`, made where it is missing: index.html, table.csv, summary.json, and as .png and .svg
    paired_differences, score_latency (where latencies were measured), curves (where epochs were logged) and
    precision_recall (of detectors). Everything is drawn before anything is written, each file replaces the old one
    whole, and the page comes last; so a report cut short leaves the one before it readable.

    Raises: ValueError: the summary is of another version. OSError: the folder cannot be written; it names the file.
    """
    if not isinstance(summary, Summary):
        raise TypeError(f"wanted a foveate.summary.Summary; got {type(summary).__name__}")
    if summary.schema != SCHEMA:
        raise ValueError(f"wanted a summary of schema {SCHEMA}; got {summary.schema!r}: analyse the study again")
    files: dict[str, bytes] = {}
    for name, drawing in _figures(summary).items():
        files[f"{name}.svg"] = drawing.standalone().encode()
        files[f"{name}.png"] = drawing.png()
    files["table.csv"] = csv_text(summary).encode()
    values = to_json(summary)
    values["about"].pop("examples", None)  # pictures, on the page
    files["summary.json"] = f"{json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()
    files["index.html"] = page(summary).encode()

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{figure}.{kind}" for figure in FIGURES for kind in ("png", "svg")):
        if name not in files:
            (folder / name).unlink(missing_ok=True)  # of an earlier report
    for name, content in files.items():
        write_whole(folder / name, content)
    return folder / "index.html"


def _figures(summary: Summary) -> dict[str, Drawing]:
    """The figures that there is something to draw for, in the order of `FIGURES`."""
    logged = logged_names(summary)
    learning = learning_curves(summary, logged[0]) if logged else None
    drawn = (score_latency(summary), forest(summary), learning, precision_recall(summary))
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


def page(summary: Summary) -> str:
    """The page's HTML."""
    from markupsafe import Markup

    figures = {name: Markup(drawing.inline()) for name, drawing in _figures(summary).items()}
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            metric=summary.metric,
            setting=summary.setting,
            about={**dict.fromkeys(ABOUT), **summary.about},
            size=_size(summary.about.get("size")),
            classes=_count(summary.about.get("classes")),
            targets=_targets(summary.about.get("targets")),
            costed=any(arm.cost.parameters is not None or arm.cost.latency_ms for arm in summary.arms),
            examples=_examples(summary.about.get("examples") or {}),
            files=sorted([*figures, "table.csv", "summary.json"]),
            figures=dict.fromkeys(FIGURES) | figures,
            watched=watched_part(summary),
            more_curves=[
                (curve_title(summary, name), Markup(learning_curves(summary, name).inline()))
                for name in logged_names(summary)[1:]
            ],
        )
    )


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


def _examples(examples: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Label → PNG pictures (bytes, or the path of a file) → label and data URIs; files that are gone are left out."""
    shown = []
    for label, pictures in examples.items():
        whole = [picture if isinstance(picture, bytes) else _read(Path(picture)) for picture in pictures]
        sources = [_source(one) for one in whole if one]
        if sources:
            shown.append((label, sources))
    return shown


def _source(picture: bytes) -> str:
    """The picture as a data URI; a large one as WebP, which takes about a quarter."""
    kind = "png"
    if len(picture) > LARGE:
        from PIL import Image

        file = io.BytesIO()
        Image.open(io.BytesIO(picture)).save(file, "WEBP", quality=80)
        kind, picture = "webp", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
