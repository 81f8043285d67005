"""foveate cost: what attention adds to a network, counted and measured."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.inspect import Json, Model
from foveate.cli.sample import Channels, Classes, Shape, Size, build, sample_shape
from foveate.variant import PLAIN

if TYPE_CHECKING:
    from torch import nn

    from foveate.costs import Cost


def cost(
    model: Model,
    attention: Annotated[str, typer.Option(help="Names parted by commas, options after colons.")] = "se,cbam",
    at: Annotated[str, typer.Option(help="Where: block, stage, head, or glob patterns parted by commas.")] = "block",
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    num_classes: Classes = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Automatic mixed precision, in bf16 or --dtype fp16.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Maps with their channels last.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="By torch.compile.")] = False,
    target: Annotated[str, typer.Option(help="torch, or onnxruntime: time the exported network.")] = "torch",
    training: Annotated[bool, typer.Option("--training", help="A training step as well.")] = False,
    per_stage: Annotated[bool, typer.Option("--per-stage", help="Counts of every stage.")] = False,
    per_module: Annotated[
        bool, typer.Option("--per-module", help="Counts of every module, times of every inserted one.")
    ] = False,
    per_operator: Annotated[bool, typer.Option("--per-operator", help="Counts of every operator.")] = False,
    throughput: Annotated[
        int | None, typer.Option(min=1, help="Images a second at batches of 1, 2, 4, … up to this.", metavar="BATCH")
    ] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Millijoules a pass, where NVML gives them.")] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring for each network.")] = 2.0,
    csv: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw counts beside times, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Count and measure what attention adds to a network: each variant against the plain network, in one run.

    Example: foveate cost timm:resnet50 --attention se,cbam,eca
    """
    from dataclasses import asdict

    import torch

    from foveate.costs import Setting, costs, ranked
    from foveate.costs import throughput as measure_throughput
    from foveate.counting import repeated
    from foveate.files import write_whole
    from foveate.machine import machine_name, versions
    from foveate.networks import example_input
    from foveate.report import costs_csv, costs_picture, costs_table, picture_path, write_picture

    setting = Setting(device, dtype, amp, channels_last, compiled, target)
    if picture:
        picture_path(picture)
    for option, file in (("--csv", csv), ("--picture", picture)):
        if file and not file.absolute().parent.is_dir():
            raise ValueError(f"{option}: wanted a file in a folder that is there; got {str(file)!r}")
    sample = sample_shape(model, shape, image_size, channels, batch_size=batch_size)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    example = example_input(model, sample, targets=True)
    models = _networks(model, attention, at, sample, num_classes, example)
    budget = seconds * len(models)
    found = costs(
        models,
        repeated(example, batch_size),
        setting=setting,
        budget_s=budget,
        training=training,
        stages=per_stage,
        modules=per_module,
        energy=energy,
        lateral=target == "torch" and not compiled,
    )
    levels = {"per_stage": per_stage, "per_module": per_module, "per_operator": per_operator}
    wanted = [level for level, asked_for in levels.items() if asked_for]
    whole: dict[str, Any] = {
        "about": {
            "model": model,
            "at": at,
            "shape": [found[PLAIN].batch_size, *sample],
            "device": device,
            "target": target,
            "threads": torch.get_num_threads(),
            "dtype": dtype or "fp32",
            "amp": amp,
            "channels_last": channels_last,
            "compile": compiled,
            "machine": machine_name(),
            "versions": versions(),
        },
        "networks": {name: one.row() | _levels(one, models[name], wanted) for name, one in found.items()},
        "ranking": asdict(ranked(found)),
    }
    if throughput:
        rows, whole["said"] = measure_throughput(models, example, setting=setting, most=throughput, budget_s=budget / 3)
        whole["throughput"] = [
            {"batch_size": row.batch_size, "images_s": {name: vars(time) for name, time in row.images_s.items()}}
            for row in rows
        ]
    if csv:
        write_whole(csv, costs_csv(whole).encode())
    if picture:
        write_picture(costs_picture(whole), picture)
    if as_json:
        about = {"about": whole["about"], "ranking": whole["ranking"]}
        extra = {"throughput": whole["throughput"]} if throughput else {}
        typer.echo(json.dumps({name: {**row, **about, **extra} for name, row in whole["networks"].items()}))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(costs_table(whole))


def _networks(
    model: str, attention: str, at: str, sample: tuple[int, ...], num_classes: int | None, example: Any
) -> "dict[str, nn.Module]":
    """The plain network, and one with each mechanism."""
    from foveate.counting import count
    from foveate.insertion import insert

    shown = example[:1] if isinstance(example, tuple) else example  # no targets
    where: Any = at.split(",") if "," in at else at
    models = {PLAIN: build(model, sample, num_classes)}
    count(models[PLAIN], example, kept=False)  # which says what the network refuses
    for name, options in parse.attention(attention):
        if name == PLAIN:
            continue
        label = name + "".join(f":{key}={value}" for key, value in options.items())
        models[label] = build(model, sample, num_classes)
        insert(models[label], name, at=where, example=shown, **options)
    return models


def _levels(cost: "Cost", model: "nn.Module", wanted: list[str]) -> dict[str, Any]:
    """The sums of each level in `wanted`, with the times of the inserted modules."""
    from dataclasses import asdict

    from foveate.counting import module_paths
    from foveate.insertion import inserted

    found: dict[str, Any] = {}
    for level in wanted:
        sums: Mapping[str, Any] = getattr(cost.counted, level)()
        found[level] = {name: asdict(one) | {"bytes_moved": one.bytes_moved} for name, one in sums.items()}
    if "per_module" in found:
        paths = module_paths(model)
        for place, module in inserted(model):
            found["per_module"][paths[module]]["ms"] = vars(cost.inserted_ms[place])
    return found
