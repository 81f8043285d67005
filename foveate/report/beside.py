"""Studies that have no metric, reference or variant in common, on one page: what each says, with its own report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.files import write_whole
from foveate.report.across import page_folders
from foveate.report.languages import translated
from foveate.report.page import environment, names_of, write_report
from foveate.summary import Summary

if TYPE_CHECKING:
    from rich.console import Group


def write_beside(studies: Mapping[str, Summary], why: str, folder: Path | str, language: str = "en") -> Path:
    """Write the page of several studies, with a report of each beside it, and return it.

    Into `folder`: index.html, and for each study a folder with its report.

    Args:
        why: the variants are not ranked over all of them.
        language: of the pages, as of `write_report`.

    Raises: OSError: the folder cannot be written; it names the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pages = page_folders(studies)
    for name, summary in studies.items():
        write_report(summary, folder / pages[name], language)
    html = environment().get_template("beside.html.j2").render(studies=studies, pages=pages, why=why)
    names = set.union({*studies, why}, *(names_of(summary) for summary in studies.values()))
    html, _ = translated(html, language, names)
    write_whole(folder / "index.html", html.encode())
    return folder / "index.html"


def beside_table(studies: Mapping[str, Summary]) -> "Group":
    """A study's answer each, for the terminal."""
    from rich.console import Group
    from rich.text import Text

    lines = []
    for name, summary in studies.items():
        answer = summary.answer
        lines.append(Text(f"{name}\n", style="bold") + Text(f"{answer.question}\n{answer.short}. {answer.text}\n"))
    return Group(*lines)
