"""foveate advise: what to insert where, in this network, on these data, within this latency."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse
from foveate.spec import Study

if TYPE_CHECKING:
    from foveate.study.advise import Space, Studies
    from foveate.summary import Summary


def advise(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A study as TOML whose network, data, task and training are searched with; flags override it.",
            metavar="STUDY.toml",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="'embedded' or a folder.")] = None,
    network: Annotated[
        str | None, typer.Option(help="foveate:NAME, timm:NAME, torchvision:NAME or path.py:function.")
    ] = None,
    latency_budget: Annotated[
        str,
        typer.Option(help='The most that a candidate may take: "+5%" over the plain network, or "12ms" a batch of 32.'),
    ] = "+5%",
    attention: Annotated[
        str | None,
        typer.Option(help="Mechanisms to try, parted by commas, options after colons. Default: a choice of eight."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Places to try, parted by commas. Default: every block, every stage, each stage's blocks."),
    ] = None,
    init: Annotated[str, typer.Option(help="How the attention may start: paper, identity or both.")] = "both",
    trials: Annotated[int | None, typer.Option(help="Candidates that are trained. Default: 12.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="In place of --trials: the most trainings in all.", metavar="TRAININGS")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Of the first rung; every further rung has three times as many.")] = 2,
    finalists: Annotated[int, typer.Option(help="Candidates that are confirmed.")] = 2,
    confirm_seeds: Annotated[int, typer.Option(help="Fresh seeds of the confirmation.")] = 8,
    search_seed: Annotated[int, typer.Option(min=0, help="Of the sampler that proposes candidates.")] = 0,
    null_check: Annotated[
        bool, typer.Option("--null-check", help="Search among copies of the plain network: nothing should help.")
    ] = False,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, …, or path.py:Class.")] = None,
    metric: Annotated[str | None, typer.Option(help="Of the task, that is improved. Default: its first.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of one training.")] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option()] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    train_items: Annotated[int | None, typer.Option(help="Use only this many.")] = None,
    test_items: Annotated[int | None, typer.Option(help="Use only this many.")] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Of the training items, to choose by. Default: a tenth.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of one run.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another process that works in the folder.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("foveate-advice"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON.")] = False,
) -> None:
    """Search mechanisms, places and options by successive halving with paired seeds, and confirm what comes out.

    Candidates are proposed by Optuna's sampler, dropped where their measured latency is over the budget, chosen on a
    validation part, and judged against the plain network with fresh seeds on the untouched test part. Run the same
    command again to go on with a search that was stopped.

    Example: foveate advise --data embedded --network foveate:resnet8 --latency-budget +5% --trials 12 --epochs 5
    """
    from foveate.report import advice_table, write_advice
    from foveate.study import advise as searching
    from foveate.study.folder import lock_folder
    from foveate.summary import to_json

    allowed = searching.latency_budget(latency_budget)
    numbers = {"seeds": seeds, "finalists": finalists, "confirming": confirm_seeds}
    if trials is not None and budget is not None:
        raise ValueError("--trials and --budget: wanted one of them; got both")
    plan = (
        searching.schedule(12 if trials is None else trials, **numbers)
        if budget is None
        else searching.largest_schedule(budget, **numbers)
    )
    if init not in ("paper", "identity", "both"):
        raise ValueError(f"--init: wanted paper, identity or both; got {init!r}")
    searching.require_optuna()
    given = {"task": task, "network": network, "metric": metric}
    source = {
        "source": data, "size": image_size, "train_items": train_items, "test_items": test_items,
        "validation_fraction": validation_fraction,
    }  # fmt: skip
    training = {
        "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr, "weight_decay": weight_decay,
        "device": device, "threads": threads,
    }  # fmt: skip
    plain: dict[str, Any] = {"variants": ["none"], "control": "none", "controls": (), "compare": ()}
    study = parse.study(file, given | plain, source, training, where="advise")
    command = shlex.join(["foveate", *sys.argv[1:]])
    work = searching.Studies(study, out, _Running(command, jobs, wait, as_json).run, null_check=null_check)
    space = None if null_check else _space(work, attention, at, init)
    settings = {
        "study": study.model_dump(mode="json", exclude_defaults=True), "data": work.data.fingerprint,
        "budget": allowed.text, "plan": plan, "space": space, "search_seed": search_seed,
    }  # fmt: skip
    try:
        with lock_folder(out, wait=wait, on_wait=lambda who: typer.echo(f"waiting for {who}", err=True)):
            record = searching.Record(out / "search.json", settings)
            if not as_json:
                rungs = ", then ".join(f"{rung.candidates} with {len(rung.seeds)} seeds" for rung in plan.rungs)
                most = f"{plan.finalists} confirmed with {len(plan.confirming)}; at most {plan.runs} trainings"
                typer.echo(f"candidates: {rungs}; {most}", err=True)
            found = searching.search(space, allowed, plan, work, record, seed=search_seed)
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command goes on with the search", err=True)
        raise typer.Exit(1) from None
    pages = {f"rung {number}": f"../rung-{number}/report/index.html" for number in range(1, len(found.rungs) + 1)}
    pages["confirmation"] = "../confirmation/report/index.html"
    about = {"command": command, "data": work.data.description, "pages": pages}
    found = dataclasses.replace(found, about=about, notes=work.data.notes)
    page = write_advice(found, out / "report")
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=1, allow_nan=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(advice_table(found))
    console.print(f"report: {page.resolve()}", soft_wrap=True, highlight=False)


def _space(work: "Studies", attention: str | None, at: str | None, init: str) -> "Space":
    """What the flags say may be tried, in this network."""
    from foveate.attention import check_attention_options
    from foveate.study.advise import Space, given_mechanisms
    from foveate.study.advise.space import MECHANISMS

    mechanisms = MECHANISMS if attention is None else given_mechanisms(parse.attention(attention))
    for name, sets in mechanisms.items():
        for options in sets:
            check_attention_options(name, options)
    starts = ("paper", "identity") if init == "both" else (init,)
    if at is None:
        return Space(mechanisms, work.places(), starts)
    places = [place.strip() for place in at.split(",")]
    if not all(places):
        raise ValueError(f"--at: wanted places parted by commas, such as block,stage; got {at!r}")
    space = Space(mechanisms, {f"at {place}": place for place in places}, starts)
    work.check_places(space)
    return space


class _Running:
    """Runs studies with their progress drawn."""

    def __init__(self, command: str, jobs: int | None, wait: bool, quiet: bool) -> None:
        self.command, self.jobs, self.wait, self.quiet = command, jobs, wait, quiet

    def run(self, study: Study, folder: Path) -> "Summary":
        from foveate.cli.outcome import with_gallery
        from foveate.cli.progress import Progress
        from foveate.report import write_report
        from foveate.study import run_study

        with Progress(folder, quiet=self.quiet) as progress:
            summary = run_study(study, folder, jobs=self.jobs, wait=self.wait, command=self.command, watcher=progress)
        write_report(with_gallery(summary, folder), folder / "report")
        return summary
