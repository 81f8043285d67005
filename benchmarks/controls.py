"""How near the cost of the control by default comes to that of its variant, over networks of many families.

    python benchmarks/controls.py [--networks GLOB] [--out results/controls]

Everything is counted without memory. A row: a network, a mechanism, what is matched; what the mechanism adds, what the
control adds, and the mismatch. The plain network with wider layers stands beside it.
"""

import argparse
import fnmatch
import time
from pathlib import Path

from foveate.data import open_data
from foveate.files import write_whole
from foveate.machine import versions
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study.controls import Chosen, choose_controls
from foveate.study.plan import Planner
from foveate.tasks import create_task

MECHANISMS = ("se", "cbam", "eca", "nl")
NETWORKS = {  # name: side of the image
    "foveate:resnet8": 32,
    "foveate:resnet20": 32,
    "foveate:preact_resnet20": 32,
    "foveate:wide_resnet16_8": 32,
    "foveate:mobilenet_v1": 64,
    "foveate:shufflenet_v1": 64,
    "foveate:unet_small": 32,
    "timm:resnet18": 64,
    "timm:resnet50": 64,
    "timm:resnext50_32x4d": 64,
    "timm:convnext_atto": 64,
    "timm:densenet121": 64,
    "timm:vit_tiny_patch16_224": 224,
    "timm:mobilenetv3_small_100": 64,
    "timm:efficientnet_b0": 64,
    "timm:repvgg_a0": 64,
    "timm:regnety_002": 64,
    "timm:vgg11_bn": 64,
    "timm:poolformer_s12": 64,
    "torchvision:swin_t": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:googlenet": 96,
}


def rows(network: str, side: int) -> list[str]:
    """Lines of the table for one network."""
    segments = "unet" in network
    variants = tuple(Variant.model_validate(name) for name in ("none", *MECHANISMS))
    study = Study(
        network=network,
        variants=variants,
        seeds=(0,),
        task="segmentation" if segments else "classification",
        data=DataSpec(train_items=20, test_items=20, size=(side, side)),
        train=Training(batch_size=2),
    )
    data = open_data(study.data)
    planner = Planner(study, data, create_task(study.task, data))
    runs, sizes, lines = {}, {}, []
    for variant in variants:
        run = planner.run(variant)
        try:
            sizes[variant.name] = planner.check(variant.name, run)
            runs[variant.name] = run
        except ValueError as error:
            lines.append(f"| {network} | {variant.name} | | | | {error} |")
    widths: dict[str, Chosen] = {}
    for control in ("size", "macs"):
        planner.study = study.model_copy(update={"control": control})
        found, _ = choose_controls(planner, runs, sizes)
        planner.study = planner.study.model_copy(update={"controls": ("wider",)})
        wider = choose_controls(planner, runs, sizes)[0] if control == "size" else []
        widths |= {name: one for one in wider for name in one.matches}
        axis = int(control == "macs")
        for name in [name for name in runs if name != "none"]:
            own = next((one for one in found if name in one.matches), None)
            added = (sizes[name][axis] - sizes["none"][axis]) // (1 + axis)
            what = ("parameters", "multiply-adds")[axis]
            if own is None:
                lines.append(f"| {network} | {name} | {what} | {added:,} | | no control |")
                continue
            got = planner.size(planner.run(own.variant, own.width, control=own.control))
            ours = (got[axis] - sizes["none"][axis]) // (1 + axis)
            mismatch = f"{100 * (ours - added) / added:+.2f} %" if added else "–"
            line = f"| {network} | {name} | {what} | {added:,} | {own.form} {ours:,} | {mismatch} |"
            if control == "size" and name in widths:
                got = planner.size(planner.run(Variant(), widths[name].width, control=widths[name].control))
                more = got[0] - sizes["none"][0]
                line += f" {more:,} ({100 * (more - added) / added:+,.1f} %) |"
            elif control == "size":
                line += " none |"
            lines.append(line + (" |" if axis else ""))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="*")
    parser.add_argument("--out", type=Path, default=Path("results/controls"))
    options = parser.parse_args()
    lines = [
        "# What controls add for what attention adds",
        "",
        f"`python benchmarks/controls.py`, torch {versions()['torch']}; counted, images of 32 to 224 pixels a side.",
        "",
        "| network | mechanism | matched | it adds | its control adds | mismatch | wider layers add |",
        "|---|---|---|---|---|---|---|",
    ]
    for network, side in NETWORKS.items():
        if fnmatch.fnmatchcase(network, options.networks):
            began = time.process_time()
            lines += rows(network, side)
            print(f"{network}: {time.process_time() - began:.0f} s", flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            write_whole(options.out / "controls.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
