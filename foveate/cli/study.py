"""foveate study run | aa | resume | report, and those of `study_folder`."""

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import cluster as where
from foveate.cli import parse, study_folder
from foveate.cli.imports import given_imports
from foveate.cli.outcome import (
    Language,
    with_gallery,
    write_and_print,
    write_and_print_across,
    write_and_print_beside,
)
from foveate.spec import Study
from foveate.study_file import check_study, read_study

if TYPE_CHECKING:
    from foveate.study.cluster import Cluster
    from foveate.study.executor import ExecutorFactory

app = typer.Typer(
    no_args_is_help=True, help="Compare attention mechanisms with paired seeds, intervals and equal-cost controls."
)
app.command()(study_folder.status)
app.command()(study_folder.pause)
app.command()(study_folder.note)
app.command()(study_folder.merge)
app.command()(study_folder.export)
LISTED = "VALUE[,VALUE…]"


@app.command()
def run(
    file: Annotated[
        Path | None, typer.Argument(help="A study as TOML; flags given besides override it.", metavar="STUDY.toml")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the study. Default: the file's name or foveate-study; of a null check with -aa."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification, segmentation, regression, one of your own, or path.py:Class.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="'embedded', or a folder: of class folders, CIFAR-10, or parquet.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="How to read the data: a registered kind, or path.py:function.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="foveate:NAME, timm:NAME, torchvision:NAME, smp:NAME, hf:NAME or path.py:function."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="That every network, or its encoder, starts from: a file, safetensors or a torch checkpoint, or a "
            "folder that has the pretrained ones."
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Start from the weights that timm or torchvision publish, in their caches."),
    ] = False,
    attention: Annotated[
        str | None, typer.Option(help="Names parted by commas, options after colons: none,se,cbam:kernel_size=3.")
    ] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns over module names.")] = "block",
    init: Annotated[str, typer.Option(help="How the attention starts: paper or identity.")] = "paper",
    replace: Annotated[bool, typer.Option("--replace", help="In place of the layers at --at.")] = False,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train only attention and a fresh classifier.")] = False,
    thaw: Annotated[int | None, typer.Option(help="With --freeze: train everything from this epoch on.")] = None,
    attention_lr: Annotated[float | None, typer.Option(help="Learning rate of the attention. Default: --lr.")] = None,
    seeds: Annotated[str | None, typer.Option(help="A number of seeds, or seeds parted by commas.")] = None,
    until: Annotated[
        str | None, typer.Option(help="decided: add seeds until every claim has its verdict, at most --max-seeds.")
    ] = None,
    resplit: Annotated[
        bool | None, typer.Option("--resplit", help="Each seed draws its own division of training and test items.")
    ] = None,
    null_check: Annotated[
        bool,
        typer.Option("--null-check", hidden=True, help="As `study aa`, which calls this command."),
    ] = False,
    max_seeds: Annotated[int | None, typer.Option(help="With --until decided: the most seeds.")] = None,
    epochs: Annotated[str | None, typer.Option(help="Of one training.", metavar=LISTED)] = None,
    batch_size: Annotated[str | None, typer.Option(metavar=LISTED)] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Highest learning rate. Default: 0.1; smaller with weights. Of several values, as of the other flags "
            "that take them, each is tried, and chosen on the validation part in each network and seed.",
            metavar=LISTED,
        ),
    ] = None,
    weight_decay: Annotated[str | None, typer.Option(metavar=LISTED)] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.", metavar=LISTED)] = None,
    schedule: Annotated[
        str | None, typer.Option(help="cosine or poly: how the learning rate falls to 0.", metavar=LISTED)
    ] = None,
    power: Annotated[str | None, typer.Option(help="Of --schedule poly. Default: 1.", metavar=LISTED)] = None,
    warmup_epochs: Annotated[str | None, typer.Option(help="Default: 1.", metavar=LISTED)] = None,
    warmup_ratio: Annotated[
        str | None, typer.Option(help="Of the learning rate, where its linear warm-up starts.", metavar=LISTED)
    ] = None,
    head_lr: Annotated[
        str | None,
        typer.Option(
            help="Learning rate of decoder or classifier, in those of the network. Default: 1.", metavar=LISTED
        ),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Largest norm of all gradients. Default: any.", metavar=LISTED)
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    train_images: Annotated[
        int | None, typer.Option("--train-images", "--train-items", help="Use only this many.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option("--test-images", "--test-items", help="Use only this many.")
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(help="Of the training items, to stop and to choose by. Default: a tenth, where one is needed."),
    ] = None,
    early_stop: Annotated[
        int | None, typer.Option(help="Epochs without a lower loss on the validation part; 0: off.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="What controls have the same of (size, macs, latency, none), and their forms after a colon: "
            "size:conv,wider,block,longer,frozen,shuffled."
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Which the verdict is about. Default: the task's first.")] = None,
    better: Annotated[str | None, typer.Option(help="With --metric of your own trainer: higher or lower.")] = None,
    unit: Annotated[str | None, typer.Option(help="With --better: the metric's unit. Default: fraction.")] = None,
    trainer: Annotated[str | None, typer.Option(help="path.py:function that trains in place of the library.")] = None,
    network_option: Annotated[
        list[str] | None, typer.Option(help="Of the network's constructor; again for another.", metavar="NAME=VALUE")
    ] = None,
    task_option: Annotated[
        list[str] | None, typer.Option(help="Of the task; again for another.", metavar="NAME=VALUE")
    ] = None,
    data_option: Annotated[
        list[str] | None, typer.Option(help="Of the kind of data; again for another.", metavar="NAME=VALUE")
    ] = None,
    trainer_option: Annotated[
        list[str] | None, typer.Option(help="For the trainer; again for another.", metavar="NAME=VALUE")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    amp: Annotated[bool | None, typer.Option("--amp/--no-amp", help="bfloat16 autocast.")] = None,
    channels_last: Annotated[bool | None, typer.Option("--channels-last/--no-channels-last")] = None,
    compile: Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile of the training.")] = (
        None
    ),
    fast: Annotated[
        bool | None,
        typer.Option(
            "--fast",
            help="bfloat16, channels-last and --compile where a few timed steps on this machine and data say so; one "
            "choice for all networks, written into the report.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of one run.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: cores / threads.")] = None,
    ray: where.RayAddress = None,
    slurm: where.OnSlurm = False,
    slurm_cluster: where.SlurmCluster = "slurm",
    slurm_option: where.SlurmOption = None,
    slurm_kinds: where.SlurmKinds = None,
    cpus_per_run: where.CpusPerRun = None,
    gpus_per_run: where.GpusPerRun = None,
    costs_on: where.CostsOn = None,
    mirror: where.Mirrors = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another process that works in the folder.")] = False,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a study, or go on with it: finished runs are never run again.

    Example: foveate study run --data embedded --network foveate:resnet8 --attention none,se,cbam --seeds 5 --epochs 10
    """
    from foveate.study import check_names

    if data is not None and not data.strip():
        raise ValueError("--data: wanted 'embedded' or a folder; got an empty text")
    content: dict[str, Any] = read_study(file).model_dump(mode="json", exclude_unset=True) if file else {}
    given: dict[str, Any] = {"until": until, "max_seeds": max_seeds, "resplit": resplit}
    given |= {
        "fast": fast,
        "task": task,
        "network": network,
        "weights": parse.weights(weights, pretrained),
        "trainer": trainer,
    }
    given |= parse.control(control)
    given |= {"seeds": None if seeds is None else parse.seeds(seeds), "metric": parse.metric(metric, better, unit)}
    options = {
        "network_options": network_option, "task_options": task_option, "trainer_options": trainer_option,
    }  # fmt: skip
    given |= {
        key: content.get(key, {}) | parse.pairs(texts, f"--{key[:-1].replace('_', '-')}")
        for key, texts in options.items()
        if texts
    }
    content |= {key: value for key, value in given.items() if value is not None}
    content["imports"] = [*content.get("imports", ()), *given_imports()]
    if attention is not None or not file:
        names = "none,se,cbam" if attention is None else attention
        content["variants"] = parse.variants(
            names, at, init, replace=replace, freeze=freeze, thaw=thaw, attention_lr=attention_lr
        )
    elif at != "block" or init != "paper" or replace or freeze or thaw or attention_lr:
        raise ValueError("--at, --init, --replace, --freeze, --thaw and --attention-lr go with --attention")
    source = {
        "source": data, "kind": kind, "size": image_size, "train_items": train_images, "test_items": test_images,
        "validation_fraction": validation_fraction,
    }  # fmt: skip
    if data_option:
        source["options"] = content.get("data", {}).get("options", {}) | parse.pairs(data_option, "--data-option")
    listed = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "optimizer": optimizer,
        "schedule": schedule, "power": power, "warmup_epochs": warmup_epochs, "warmup_ratio": warmup_ratio,
        "head_lr": head_lr, "clip": clip,
    }  # fmt: skip
    training = parse.listed(listed) | {
        "early_stop": early_stop, "device": device, "amp": amp, "channels_last": channels_last, "threads": threads,
        "compile": compile,
    }  # fmt: skip
    for name, flags in (("data", source), ("train", training)):
        content[name] = content.get(name, {}) | {key: value for key, value in flags.items() if value is not None}
    if null_check:
        if until or max_seeds:
            raise ValueError("--until and --max-seeds go with variants; a null check has none")
        content |= {"null_check": max(2, len(content["variants"])), "variants": ["none"], "control": "none"}
        content |= {"controls": (), "compare": (), "published": None, "until": None, "max_seeds": None}
    cluster = where.cluster(ray, slurm, slurm_cluster, slurm_option, slurm_kinds, cpus_per_run, gpus_per_run, costs_on)
    study = check_study(content, where="study").resolved(Path.cwd())
    if cluster is None:
        jobs = where.jobs_here(jobs, gpus_per_run, study.train.device)
    study = check_names(study, file=file, device=cluster is None)
    folder = out or Path(f"{file.stem if file else 'foveate'}{'-aa' if null_check else '' if file else '-study'}")
    command = shlex.join(["foveate", *sys.argv[1:]])
    carry_out(
        study, folder, jobs=jobs, wait=wait, command=command, as_json=as_json, language=lang, cluster=cluster,
        mirror=mirror,
    )  # fmt: skip


def _with_the_flags_of(command: Callable[..., None], but: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: typer reads another command's flags for this one."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters = [one for name, one in inspect.signature(command).parameters.items() if name != but]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {one.name: one.annotation for one in parameters}
        return function

    return decorate


@app.command()
@_with_the_flags_of(run, but="null_check")
def aa(**flags: Any) -> None:
    """A null check: arms of the plain network, as many as the study has variants, each with seeds of its own.

    No difference between them is true. From 12 runs on the report gives the rate of false claims, from 40 on more
    precisely. Controls and named comparisons are left out, as they go with variants.

    Example: foveate study aa --data embedded --network foveate:resnet8 --attention none,se --seeds 20 --epochs 3
    """
    run(**flags, null_check=True)


def carry_out(
    study: Study,
    folder: Path,
    *,
    jobs: int | None,
    wait: bool,
    command: str,
    as_json: bool = False,
    language: str = "en",
    cluster: "Cluster | None" = None,
    mirror: str | None = None,
) -> None:
    """Run the study with its progress drawn, write the report, print the table and where the report is."""
    from foveate.cli.progress import Progress
    from foveate.report.languages import check_language
    from foveate.study import run_study
    from foveate.study.folder import STUDY, is_paused
    from foveate.study.local import LocalProcesses
    from foveate.study.mirror import open_mirrors

    check_language(language)
    mirrors = open_mirrors(mirror, folder)
    executor: "ExecutorFactory" = LocalProcesses if cluster is None else cluster
    progress = Progress(folder, quiet=as_json)
    try:
        with progress:
            summary = run_study(
                study, folder, jobs=jobs, wait=wait, command=command, watcher=progress,
                executor=executor, mirrors=mirrors,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = (folder / STUDY).is_file()
        more = f"go on with: foveate study resume {shlex.quote(str(folder))}" if kept else "nothing was made yet"
        typer.echo(f"\nstopped; {more}", err=True)
        raise typer.Exit(1) from None
    write_and_print(with_gallery(summary, folder), folder / "report", as_json=as_json, language=language)
    if is_paused(folder):
        typer.echo(f"paused; go on with: foveate study resume {shlex.quote(str(folder))}", err=True)
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def resume(
    folder: study_folder.Folder,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    ray: where.RayAddress = None,
    slurm: where.OnSlurm = False,
    slurm_cluster: where.SlurmCluster = "slurm",
    slurm_option: where.SlurmOption = None,
    slurm_kinds: where.SlurmKinds = None,
    cpus_per_run: where.CpusPerRun = None,
    gpus_per_run: where.GpusPerRun = None,
    costs_on: where.CostsOn = None,
    mirror: where.Mirrors = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another process that works in the folder.")] = False,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Go on with a study that was stopped or killed.

    Example: foveate study resume foveate-study
    """
    from foveate.study.folder import STUDY

    if not (folder / STUDY).is_file():
        raise ValueError(f"{folder}: wanted the folder of a study; it holds no {STUDY}")
    command = shlex.join(["foveate", "study", "run", str(folder / STUDY), "--out", str(folder)])
    study = read_study(folder / STUDY)
    cluster = where.cluster(ray, slurm, slurm_cluster, slurm_option, slurm_kinds, cpus_per_run, gpus_per_run, costs_on)
    if cluster is None:
        jobs = where.jobs_here(jobs, gpus_per_run, study.train.device)
    carry_out(
        study, folder, jobs=jobs, wait=wait, command=command, as_json=as_json, language=lang, cluster=cluster,
        mirror=mirror,
    )  # fmt: skip


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="The study's folder; of several, one a data set.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="With several folders: of the page over all. Default: across-report.")
    ] = None,
    machine: Annotated[
        list[Path] | None,
        typer.Option(
            help="Latencies on another machine, beside: what docs/examples/measure_elsewhere.py brought back from it, "
            "or its calibration; again for another.",
            metavar="FILE",
        ),
    ] = None,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw the report again from what is finished, without running anything; rank the variants over several data sets,
    or show studies without a metric and variants in common side by side.

    Example: foveate study report foveate-study
    """
    from foveate.study import summarise
    from foveate.study.analyse import not_ranked

    if len(folders) > 1:
        if machine:
            raise ValueError("--machine goes with the folder of one study")
        names = [str(folder) for folder in folders]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"wanted each folder once; got {twice[0]} twice")
        found = {name: summarise(folder) for name, folder in zip(names, folders, strict=True)}
        place = out or Path("across-report")
        if why := not_ranked(found):
            write_and_print_beside(found, why, place, as_json=as_json, language=lang)
        else:
            write_and_print_across(found, place, as_json=as_json, language=lang)
        return
    if out is not None:
        raise ValueError("--out goes with several folders; the report of one study lies in its own")
    summary = with_gallery(summarise(folders[0]), folders[0])
    if machine:
        from foveate.study.machines import with_machines

        summary = with_machines(summary, folders[0], machine)
    write_and_print(summary, folders[0] / "report", as_json=as_json, language=lang)
