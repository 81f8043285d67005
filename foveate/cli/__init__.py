"""The door: `foveate COMMAND`. Thin; torch is imported when a command needs it, so that help is quick."""

import errno
import os
import re
import sys
from typing import Annotated

import typer

import foveate
from foveate.cli import (
    advise,
    calibrate,
    compare,
    convert,
    cost,
    data,
    demo,
    draw,
    evaluate,
    explain,
    guidelines,
    inspect,
    predict,
    refine,
    roofline,
    study,
    train,
    web,
)
from foveate.cli.imports import with_imports

app = typer.Typer(
    name="foveate",
    help="Attention for computer vision: does it help my network, on my data, which kind, where, and at what cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("list")(inspect.list_)
app.command("show")(inspect.show)
app.command("draw")(draw.draw)
app.command("sites")(inspect.sites)
app.command("cost")(cost.cost)
app.command("advise")(advise.advise)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("convert")(convert.convert)
app.command("calibrate")(calibrate.calibrate)
app.command("latency")(calibrate.latency)
app.command("predict")(predict.predict)
app.command("refine")(refine.refine)
app.command("roofline")(roofline.roofline)
app.command("web")(web.web)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(guidelines.app, name="guidelines")


def _add_imports(commands: typer.Typer) -> None:
    """Give every command, those of groups too, the option --import."""
    for command in commands.registered_commands:
        if command.callback is not None:
            command.callback = with_imports(command.callback)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _add_imports(group.typer_instance)


_add_imports(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foveate {foveate.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


__all__ = ["app", "main"]

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # no mistake of the user's
MOST_TEXT = 4000  # characters of a message, more of which come from a file


def main() -> None:
    """Run the command line. Exit status 0; 1: it failed; 2: a mistake of the user's, in one line."""
    try:
        app()
    except Exception as error:
        if os.environ.get("FOVEATE_DEBUG"):
            raise
        status, text = _message(error)
        print(f"foveate: {_printable(text)}", file=sys.stderr)  # noqa: T201
        sys.exit(status)


def _printable(text: str) -> str:
    """Without colours and control characters, and not without end."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)  # torch has some in its messages
    text = "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} … ({len(text) - MOST_TEXT:,} more characters)"


def _message(error: Exception) -> tuple[int, str]:
    """Exit status and message; FOVEATE_DEBUG=1 shows where the error arose."""
    text = str(error.args[0]) if error.args and not isinstance(error, OSError) else str(error)
    if isinstance(error, (ValueError, LookupError, TypeError)):
        return 2, text
    if isinstance(error, OSError):
        return (1 if error.errno in _MACHINE else 2), text
    if type(error) is RuntimeError:
        return 1, text
    first = text.splitlines()[0] if text else "no message"
    return 1, f"{type(error).__name__}: {first} (FOVEATE_DEBUG=1 shows where)"
