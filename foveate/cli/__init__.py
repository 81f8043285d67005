"""The door: `foveate COMMAND`. Thin; torch is imported when a command needs it, so that help is quick."""

import errno
import os
import sys

import typer

from foveate.cli import calibrate, compare, convert, cost, data, demo, evaluate, guidelines, inspect, roofline, study

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
app.command("sites")(inspect.sites)
app.command("cost")(cost.cost)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("convert")(convert.convert)
app.command("calibrate")(calibrate.calibrate)
app.command("predict")(calibrate.predict)
app.command("roofline")(roofline.roofline)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(guidelines.app, name="guidelines")

__all__ = ["app", "main"]

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # no mistake of the user's


def main() -> None:
    """Run the command line. Exit status 0; 1: it failed; 2: a mistake in what was asked, told in one line."""
    try:
        app()
    except Exception as error:
        if os.environ.get("FOVEATE_DEBUG"):
            raise
        status, text = _told(error)
        print(f"foveate: {text}", file=sys.stderr)  # noqa: T201
        sys.exit(status)


def _told(error: Exception) -> tuple[int, str]:
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
