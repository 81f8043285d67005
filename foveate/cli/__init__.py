"""The door: `foveate COMMAND`. Thin; torch is imported when a command needs it, so that help is quick."""

import os
import sys

import typer

from foveate.cli import data, demo, inspect, study

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
app.command("cost")(inspect.cost)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. Exit status 0; 1: it failed; 2: a mistake in what was asked, told in one line."""
    try:
        app()
    except (ValueError, LookupError, TypeError, OSError) as error:
        if os.environ.get("FOVEATE_DEBUG"):
            raise
        text = str(error.args[0]) if error.args and not isinstance(error, OSError) else str(error)
        print(f"foveate: {text}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except RuntimeError as error:
        if os.environ.get("FOVEATE_DEBUG"):
            raise
        print(f"foveate: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
