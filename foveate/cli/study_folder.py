"""foveate study status | pause | note | merge | export: on the folder of a study, without running anything."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

Folder = Annotated[Path, typer.Argument(help="The study's folder.", show_default=False)]
SHOWN = 20  # rows of runs that are not done, in a live table
EVERY_S = 1.0


def status(
    folder: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and draw it anew every second until the study ends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Where a study stands: runs done, running, to do, failed.

    Example: foveate study status foveate-study --watch
    """
    from foveate.study.results import status as where

    if watch and as_json:
        raise ValueError("--watch and --json: wanted one of them; got both")
    if watch:
        _watch(folder)
        return
    found = where(folder)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(_states(found))
    for run in found["runs"]:
        if run["state"] != "done":
            again = f", attempt {run['attempts']}" if run["attempts"] > 1 else ""
            why = f": {run['error']}" if run["error"] else ""
            typer.echo(f"  {run['state']:8} {_name(run)}{again}{_reached(run)}{why}")


def _watch(folder: Path) -> None:
    from rich.console import Console
    from rich.live import Live

    from foveate.study.results import status as where

    found = where(folder)
    with Live(_table(found), console=Console(), refresh_per_second=4) as live:
        while found["working"]:
            time.sleep(EVERY_S)
            found = where(folder)
            live.update(_table(found))


def _table(found: dict[str, Any]) -> "Table":
    """Arms with their runs by state, and the runs at work."""
    from rich.table import Table

    table = Table(title=_states(found), title_justify="left")
    for name in ("arm", "done", "running", "todo", "failed", "at work"):
        table.add_column(name, justify="left" if name in ("arm", "at work") else "right")
    arms: dict[str, dict[str, int]] = {}
    at_work: dict[str, list[str]] = {}
    for run in found["runs"]:
        counts = arms.setdefault(run["arm"], dict.fromkeys(("done", "running", "todo", "failed"), 0))
        counts[run["state"]] += 1
        if run["state"] == "running":
            at_work.setdefault(run["arm"], []).append(f"seed {run['seed']}{_reached(run)}")
    for arm, counts in arms.items():
        working = at_work.get(arm, [])
        more = f", and {len(working) - SHOWN} more" if len(working) > SHOWN else ""
        table.add_row(arm, *(str(count) for count in counts.values()), "; ".join(working[:SHOWN]) + more)
    return table


def _states(found: dict[str, Any]) -> str:
    waits = ", paused" if found["paused"] else ""
    nobody = "" if found["working"] or not found["states"]["todo"] else "; no process works on it"
    return ", ".join(f"{count} {state}" for state, count in found["states"].items()) + waits + nobody


def _name(run: dict[str, Any]) -> str:
    from foveate.study.tuning import in_words

    values = f", {in_words(run['values'])}" if run["values"] else ""
    return f"{run['arm']}, seed {run['seed']}{values}"


def _reached(run: dict[str, Any]) -> str:
    """ ", 40 %" of a run at work."""
    step, steps = run["progress"] or (0, 0)
    return f", {100 * step // steps} %" if steps else ""


def pause(folder: Folder) -> None:
    """Let the study's runs stop at a checkpoint, and the process that runs it end.

    A run with a trainer of your own goes on to its end. `foveate study resume` goes on.

    Example: foveate study pause foveate-study
    """
    from foveate.study.folder import STUDY, is_locked, set_paused

    if not (folder / STUDY).is_file():
        raise ValueError(f"{folder}: wanted the folder of a study; it holds no {STUDY}")
    if not is_locked(folder):
        raise ValueError(f"{folder}: wanted a study that runs; no process works on it")
    set_paused(folder, True)
    typer.echo("the runs at work stop at a checkpoint; go on with: foveate study resume")


def note(
    folder: Folder,
    text: Annotated[str, typer.Argument(help="One line.", show_default=False)],
    arm: Annotated[str | None, typer.Option(help="On this arm. Default: on the study.")] = None,
    seed: Annotated[int | None, typer.Option(help="With --arm: on the run of this seed.")] = None,
) -> None:
    """Note something on a study, an arm or a run; the report shows it.

    Example: foveate study note foveate-study "the fan was broken" --arm se --seed 3
    """
    from foveate.study.notes import add_note

    add_note(folder, text, arm, seed)


def merge(
    first: Annotated[Path, typer.Argument(help="A study's folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another of the same study.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new folder.", show_default=False)],
) -> None:
    """Make one folder of two with the same study, as of two people or two clusters; seeds may differ.

    A run that both have is taken once. Where their results differ, the first folder's is kept and a line says so.

    Example: foveate study merge hers his --out both
    """
    from foveate.study.merge import merge as merged

    found = merged(first, second, out)
    for line in found.unequal:
        typer.echo(f"unequal: {line}", err=True)
    alike = f", {found.both} of them in both, alike" if found.both else ""
    typer.echo(f"{out}: {found.runs} finished runs{alike}; its report: foveate study report {out}")


def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="FILE.csv or FILE.parquet.", show_default=False)],
    curves: Annotated[bool, typer.Option("--curves", help="What was logged after each epoch instead.")] = False,
) -> None:
    """Write a study's finished runs as a table: a row a run and metric.

    Example: foveate study export foveate-study --out results.parquet
    """
    from foveate.study.export import export as exported

    typer.echo(f"{out}: {exported(folder, out, curves=curves):,} rows")
