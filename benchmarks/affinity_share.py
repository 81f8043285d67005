"""How much of a non-local block's affinity lands on the object in the other frames of real clips, against its area.

python benchmarks/affinity_share.py ../shared/data/video_davis16_val ../shared/data/weights/cifar10_resnet56-4bfd9763.th

The block is the gaussian form, which has no weights of its own in the affinity, on what the last stage of a trained
network of images gives for each frame. It has seen neither clips nor masks. Writes shares.json and pictures of three
clips into results/affinity_davis/.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import foveate
from foveate.data.clips.files import read_frames
from foveate.explain.clips import arrows, clip_frames, object_shares
from foveate.explain.localisation import mean_interval
from foveate.explain.own import own_maps
from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.tasks.pictures import captioned, sheet
from foveate.trained import load_trained

NETWORK, STAGE = "resnet56", "layer3"
FRAMES, SIZE = 8, (72, 128)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10, which the network was trained on
OUT = Path("results/affinity_davis")
SHOWN = 3


class FramesThenPairs(nn.Module):
    """What a stage of a network of images gives for each frame, to a non-local block of the gaussian form."""

    def __init__(self, network: nn.Module, stage: str, channels: int) -> None:
        super().__init__()
        self.network, self.stage = network, stage
        self.nl = foveate.create_attention("nl", channels, spatial_dims=3, form="gaussian")

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with self.network.get_submodule(self.stage).register_forward_hook(lambda _, __, given: seen.append(given)):
            self.network(x.transpose(1, 2).flatten(0, 1))
        return self.nl(seen[0].unflatten(0, (len(x), -1)).transpose(1, 2))


def read(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """(3, T, H, W) and masks (T, H, W), frames evenly over the clip."""
    there = sorted((folder / "masks" / name).glob("*.png"))
    numbers = np.linspace(0, len(there) - 1, FRAMES).round().astype(int).tolist()
    images = [one.resize(SIZE[::-1]) for one in read_frames(folder / "clips" / f"{name}.mp4", numbers)]
    masks = [Image.open(there[number]).convert("L").resize(SIZE[::-1], Image.Resampling.NEAREST) for number in numbers]
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in images])).float() / 255
    normed = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    return normed.permute(3, 0, 1, 2).contiguous(), torch.from_numpy(np.stack([np.asarray(one) for one in masks])) > 0


def middle_of(mask: Tensor) -> tuple[float, float]:
    """The position of an object that is nearest to its middle, (y, x) in shares."""
    places = mask.nonzero().float() + 0.5
    y, x = places[(places - places.mean(0)).square().sum(1).argmin()].tolist()
    return y / mask.shape[0], x / mask.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("weights", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = load_trained(f"foveate:{NETWORK}", given.weights).model
    model = FramesThenPairs(network, STAGE, 64).eval()
    rows, pictures = {}, []
    for file in sorted((given.clips / "clips").glob("*.mp4")):
        clip, masks = read(given.clips, file.stem)
        rows[file.stem] = object_shares(model, clip, masks)["nl"]
        print(file.stem, *(f"{share:.3f}" for share in rows[file.stem]), flush=True)
        if len(pictures) < SHOWN and bool(masks[0].any()):
            query = (0.0, *middle_of(masks[0]))
            row = own_maps(model, clip[None], point=query)["nl"]["affinity"]
            words = f"{file.stem}: on the object {rows[file.stem][0]:.0%}, its area {rows[file.stem][1]:.0%}"
            pictures.append(captioned(arrows(clip_frames(clip), row, query), words))
    values = np.array(list(rows.values()))
    found = {
        "on the object": mean_interval(values[:, 0]),
        "area": mean_interval(values[:, 1]),
        "on the object / area": mean_interval(values[:, 0] / values[:, 1]),
    }
    print(found)
    OUT.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(pictures, columns=1)).save(OUT / "arrows.webp", quality=80)
    facts = {"network": NETWORK, "stage": STAGE, "frames": FRAMES, "size": SIZE, "form": "gaussian"}
    facts |= {"mean and 95 % interval over clips": found, "clips": rows}
    write_json(OUT / "shares.json", facts | {"machine": machine_name(), "versions": versions()})


if __name__ == "__main__":
    main()
