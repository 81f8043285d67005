"""The report's folder: a page that asks nothing of the network, the figures as files, and the numbers beside them."""

import json
from pathlib import Path
from typing import Any

from foveate.report import numbers
from foveate.report.colours import DARK, FONT, LIGHT, VARIABLES, drawing_rules
from foveate.report.files import replace_file
from foveate.report.forest import forest
from foveate.report.learning import METRICS, learning_curves
from foveate.report.scatter import accuracy_latency
from foveate.report.table import csv_text

SCHEMA = 1
ABOUT = ("data", "classes", "train_images", "test_images", "image_size", "machine", "versions", "command", "toml")
MEASURED = ("latency", "seconds")
NEEDED = ("schema", "study", "plain", "arms", "curves", "seeds_can_show", "failed", "about", "answer")


def write_report(summary: dict[str, Any], folder: Path | str) -> Path:
    """Write the report of a study's summary (as `foveate.study.analyse.analyse` returns it) and return its page.

    Into `folder`, made where it is missing: index.html, accuracy_latency.png and .svg, paired_differences.png and .svg,
    curves.png and .svg, table.csv, summary.json. Everything is drawn before anything is written, each file replaces the
    old one whole, and the page comes last; so a report cut short leaves the one before it readable.

    Raises: ValueError: not a summary of this version. OSError: the folder cannot be written; it names the file.
    """
    if missing := [key for key in NEEDED if key not in summary]:
        raise ValueError(
            f"wanted a study's summary; got one without {missing[0]!r} (it has {', '.join(summary) or 'nothing'})"
        )
    if summary["schema"] != SCHEMA:
        raise ValueError(f"wanted a summary of schema {SCHEMA}; got {summary['schema']!r}: analyse the study again")
    drawings = {
        "accuracy_latency": accuracy_latency(summary),
        "paired_differences": forest(summary),
        "curves": learning_curves(summary, _first_metric(summary)),
    }
    files: dict[str, bytes] = {}
    for name, drawing in drawings.items():
        files[f"{name}.svg"] = drawing.standalone().encode()
        files[f"{name}.png"] = drawing.png()
    files["table.csv"] = csv_text(summary).encode()
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    files["summary.json"] = f"{text}\n".encode()
    files["index.html"] = page(summary).encode()

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    return folder / "index.html"


def page(summary: dict[str, Any]) -> str:
    """The page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["n"] = numbers
    first = _first_metric(summary)
    metrics = [metric for metric in METRICS if metric != first and _has(summary, metric)]
    return environment.get_template("page.html.j2").render(
        summary=summary,
        about={**dict.fromkeys(ABOUT + MEASURED), **summary["about"]},
        light=LIGHT,
        dark=DARK,
        font=Markup(FONT),
        drawing_rules=Markup(drawing_rules(VARIABLES, "inherit")),
        scatter=Markup(accuracy_latency(summary).inline()),
        forest=Markup(forest(summary).inline()),
        curves=Markup(learning_curves(summary, first).inline()) if _has(summary, first) else None,
        more_curves=[(METRICS[metric][0], Markup(learning_curves(summary, metric).inline())) for metric in metrics],
    )


def _has(summary: dict[str, Any], metric: str) -> bool:
    return any(metric in curves for curves in summary["curves"].values())


def _first_metric(summary: dict[str, Any]) -> str:
    return next((metric for metric in METRICS if _has(summary, metric)), "test_accuracy")
