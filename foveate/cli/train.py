"""foveate train: one network, in one process or under torchrun."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse

if TYPE_CHECKING:
    from foveate.spec import Run


def train(
    file: Annotated[
        Path | None, typer.Argument(help="A study as TOML, one of whose variants is trained.", metavar="STUDY.toml")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Of the study: which variant. Default: the first with attention.")] = (
        None
    ),
    data: Annotated[str | None, typer.Option(help="'embedded' or a folder.")] = None,
    kind: Annotated[str | None, typer.Option(help="How to read the data: a registered kind, or path.py:function.")] = (
        None
    ),
    network: Annotated[
        str | None, typer.Option(help="foveate:NAME, timm:NAME, torchvision:NAME or path.py:function.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A file of weights that the training starts from.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from the published weights.")] = False,
    attention: Annotated[str | None, typer.Option(help="What is inserted: a name, its options after colons.")] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns over module names.")] = "block",
    init: Annotated[str, typer.Option(help="How the attention starts: paper or identity.")] = "paper",
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, …, or path.py:Class.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of the whole batch, over all ranks together.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate, of the whole batch.")] = None,
    weight_decay: Annotated[float | None, typer.Option()] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    train_items: Annotated[int | None, typer.Option(help="Use only this many.")] = None,
    test_items: Annotated[int | None, typer.Option(help="Use only this many.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; under torchrun a GPU for each rank.")] = None,
    amp: Annotated[bool | None, typer.Option("--amp/--no-amp", help="bfloat16 autocast.")] = None,
    channels_last: Annotated[bool | None, typer.Option("--channels-last/--no-channels-last")] = None,
    compile: Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a rank.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the training.")] = Path("foveate-training"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train one network; the same command goes on from the last checkpoint.

    Under torchrun the items of each batch are divided among the ranks, whose gradients are averaged; the order of the
    items, the steps and the learning rate are those of one process.

    Example: torchrun --nproc-per-node 2 --max-restarts 3 -m foveate train --data photos --network timm:resnet50
    --attention se --device cuda --out resnet50_se
    """
    from foveate.study.single import train_one

    given: dict[str, Any] = {"task": task, "network": network, "weights": parse.weights(weights, pretrained)}
    given |= {"seeds": None if seed is None else [seed]}
    if attention is not None or file is None:
        given["variants"] = parse.variants(attention or "none", at, init)
        if len(given["variants"]) > 1:
            raise ValueError(f"--attention: wanted one; got {attention!r}; several are compared by foveate study run")
    elif at != "block" or init != "paper":
        raise ValueError("--at and --init go with --attention")
    source = {
        "source": data, "kind": kind, "size": image_size, "train_items": train_items, "test_items": test_items,
    }  # fmt: skip
    training = {
        "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr, "weight_decay": weight_decay,
        "device": device, "amp": amp, "channels_last": channels_last, "compile": compile, "threads": threads,
    }  # fmt: skip
    study = parse.study(file, given, source, training, where="train")
    progress = _Progress()
    result = train_one(study, out, arm=arm, on_start=progress.start, on_progress=progress.step)
    if not progress.first:
        return
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    for metric in result["metrics"]:
        typer.echo(f"{metric['name']:24} {metric['value']:.6g} {metric['unit']}")
    typer.echo(f"weights: {(out / 'model.safetensors').resolve()}")


class _Progress:
    """What the first rank prints on standard error: the setting, and a line every few seconds."""

    def __init__(self) -> None:
        self.first, self.last = True, time.monotonic()

    def start(self, run: "Run", data: str, ranks: int) -> None:
        from foveate.train import Ranks, batch_sizes_in_words

        self.first = Ranks.here().number == 0
        if self.first:
            batch = batch_sizes_in_words(run.train.batch_size, ranks)
            rate = f"highest learning rate {run.train.lr:g} ({run.train.optimizer}, {run.train.schedule})"
            typer.echo(f"{run.network}, {run.arm}, seed {run.seed}, on {data}", err=True)
            typer.echo(f"{batch}; {rate}", err=True)

    def step(self, step: int, steps: int, loss: float) -> None:
        if self.first and (step == steps or time.monotonic() - self.last > 5):
            self.last = time.monotonic()
            typer.echo(f"step {step} of {steps}, loss {loss:.4g}", err=True)
