"""What a study or a table says: its page, and its table or JSON on the terminal."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from foveate.summary import Summary


Language = Annotated[str, typer.Option(help="Of the report: en or zh (中文).")]


def write_and_print(summary: "Summary", folder: Path | None, *, as_json: bool, language: str = "en") -> None:
    """Draw the page, where there is a folder for it, print the table (or the summary as JSON) and where the page is."""
    from foveate.report import terminal_table, write_report

    _print(summary, terminal_table, write_report(summary, folder, language) if folder else None, as_json=as_json)


def with_gallery(summary: "Summary", folder: Path) -> "Summary":
    """The summary of the study in a folder with pictures of single cases; where they cannot be drawn, a note says why,
    and the rest of the report stands."""
    from foveate.study.gallery import draw_gallery

    try:
        gallery = draw_gallery(folder, summary)
    except (ValueError, LookupError, TypeError, RuntimeError, OSError) as error:
        why = str(error.args[0] if error.args and not isinstance(error, OSError) else error).splitlines()[0]
        notes = [*summary.about.get("notes", []), f"there are no pictures of single cases: {why}"]
        return replace(summary, about=summary.about | {"notes": notes})
    return replace(summary, about=summary.about | {"gallery": gallery})


def write_and_print_across(
    datasets: Mapping[str, "Summary"], folder: Path | None, *, as_json: bool, language: str = "en"
) -> None:
    """The same of what several data sets say together; raises ValueError where they have nothing in common."""
    from foveate.report import across_table, write_across
    from foveate.study.analyse import across

    found = across(datasets)
    _print(found, across_table, write_across(found, folder, language) if folder else None, as_json=as_json)


def write_and_print_beside(
    studies: Mapping[str, "Summary"], why: str, folder: Path, *, as_json: bool, language: str = "en"
) -> None:
    """The same of studies whose variants cannot be ranked together."""
    from foveate.report import beside_table, write_beside

    typer.echo(f"note: no ranking over all studies: {why}", err=True)
    _print(dict(studies), beside_table, write_beside(studies, why, folder, language), as_json=as_json)


def _print(found: Any, table: "Callable[[Any], Group]", page: Path | None, *, as_json: bool) -> None:
    from rich.console import Console

    from foveate.summary import to_json

    if as_json:
        typer.echo(json.dumps(to_json(found), indent=1, allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table(found))
    if page:
        console.print(f"report: {page.resolve()}", soft_wrap=True, highlight=False)
