"""Writes docs/commands.md and docs/api.md from the command line's own options and the public docstrings.

python docs/make_reference.py
"""

import inspect
from pathlib import Path
from typing import Any

from typer.main import get_command

import foveate
from foveate.cli import app

DOCS = Path(__file__).parent
COMMANDS, API = DOCS / "commands.md", DOCS / "api.md"
EMPTY = inspect.Parameter.empty


def commands_page() -> str:
    """The text of docs/commands.md."""
    lines = [
        "# Commands",
        "",
        "Made by `docs/make_reference.py` from the same source as `foveate COMMAND --help`. A mistake ends with one",
        "line on standard error; `--json` prints what a program can read.",
    ]
    for name, command in _all_commands("foveate", get_command(app)):
        lines += ["", f"## {name}", "", *_paragraphs(command.help or "")]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
        options = [one for one in options if not one.hidden]
        rows = [_row(one.name.upper() if one.name else "", one) for one in arguments]
        rows += [_row(", ".join((*one.opts, *one.secondary_opts)), one) for one in options]
        if rows:
            lines += ["", "| | | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _all_commands(name: str, command: Any) -> list[tuple[str, Any]]:
    """(name, command) of every command, those of groups too, in the order of --help."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [found for part, one in command.commands.items() for found in _all_commands(f"{name} {part}", one)]


def _paragraphs(text: str) -> list[str]:
    """Help as Markdown: an example as code."""
    found: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        example = paragraph.removeprefix("Example: ")
        one_line = " ".join(example.split())
        found += [f"    {one_line}" if example != paragraph else one_line, ""]
    return found[:-1]


def _row(name: str, option: Any) -> str:
    default = option.default
    shown = "" if option.required or default in (None, False, ()) or callable(default) else f"`{default}`"
    needed = "required" if option.required else shown
    return f"| `{name}` | {_cell(getattr(option, 'help', None) or '')} | {needed} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def api_page() -> str:
    """The text of docs/api.md."""
    lines = [
        "# Python",
        "",
        "Made by `docs/make_reference.py` from the docstrings of what `import foveate` offers. Shapes: N samples, C",
        "channels, H × W or *S positions. Each name is imported when it is first used.",
    ]
    for name in foveate.__all__:
        found = getattr(foveate, name)
        if inspect.ismodule(found):
            lines += ["", f"## foveate.{name}", "", *_documented(found)]
            for part in found.__all__:
                if inspect.isclass(getattr(found, part)) or inspect.isroutine(getattr(found, part)):
                    lines += _entry(f"foveate.{name}.{part}", getattr(found, part), "###")
        else:
            lines += _entry(f"foveate.{name}", found, "##")
    return "\n".join(lines) + "\n"


def _entry(name: str, found: Any, heading: str) -> list[str]:
    return ["", f"{heading} {name}", "", "```text", f"{name}({_arguments(found)})", "```", "", *_documented(found)]


def _arguments(found: Any) -> str:
    """Names and defaults; their types stand in the docstring where they are not plain."""
    parts: list[str] = []
    keyword_only = False
    for name, one in inspect.signature(found).parameters.items():
        if one.kind is one.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        keyword_only |= one.kind is one.VAR_POSITIONAL
        default = "" if one.default is EMPTY else "=…" if _is_long(one.default) else f"={one.default!r}"
        parts.append(f"{star}{name}{default}")
    return ", ".join(parts)


def _is_long(value: object) -> bool:
    return not isinstance(value, (str, int, float, bool, type(None)))


def _documented(found: Any) -> list[str]:
    """The docstring: its first paragraph as text, the rest as it stands."""
    first, _, rest = (inspect.getdoc(found) or "").partition("\n\n")
    return [" ".join(first.split()), *(["", "```text", rest.rstrip(), "```"] if rest.strip() else [])]


if __name__ == "__main__":
    for path, text in ((COMMANDS, commands_page()), (API, api_page())):
        path.write_text(text, encoding="utf-8")
        print(path)
