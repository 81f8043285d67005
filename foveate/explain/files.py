"""Image files explained by one network or several side by side: a PNG, an NPZ and a row for each."""

import copy
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from foveate.data.clips.files import write_video
from foveate.data.dataset import Levels
from foveate.explain.cams import METHODS
from foveate.explain.clips import clip_frames, clip_pictures, frames_over_time, over_frames
from foveate.explain.images import open_image
from foveate.explain.layers import Layer, find_layers
from foveate.explain.maps import Map, as_inputs, explain
from foveate.explain.own import Point
from foveate.explain.pictures import overlay, own_pictures
from foveate.files import write_json, write_whole
from foveate.insertion import inserted, remove
from foveate.networks import is_detector
from foveate.registry import nearest
from foveate.tasks.box_pictures import RIGHT
from foveate.tasks.gallery import beside
from foveate.tasks.pictures import Picture, captioned, enlarged, png, sheet, shown

MOST_GATES = 12  # pictures of gates in a row, evenly among them; the NPZ has all
INDEX = "explain.json"


@dataclass(frozen=True)
class Explainable:
    """A trained network with what stands before it.

    Attributes:
        name: in words.
        model: the network.
        prepare: from a file or PIL image to its sample (C, H, W).
        classes: names of its outputs, or () where they are numbers; of a detector those of its labels from 1.
        judges: are its outputs logits of classes, whose softmax says how sure it is?
        note: for the reader, or "".
        levels: how samples come from pixels; None: they are shown in their own range.
        clips: does it take clips (C, T, H, W), of video files?
    """

    name: str
    model: nn.Module
    prepare: Callable[[Any], Tensor]
    classes: tuple[str, ...] = ()
    judges: bool = True
    note: str = ""
    levels: Levels | None = None
    clips: bool = False

    @property
    def first(self) -> int:
        """Number of the first class."""
        return 1 if is_detector(self.model) else 0

    @property
    def usual(self) -> int | None:
        """What is explained where nobody names it: None, the best, or the first of values."""
        return None if self.judges or is_detector(self.model) else 0

    def number_of(self, target: str) -> int:
        """The number of a class by its name or number. Raises: ValueError: there is none."""
        if target in self.classes:
            return self.classes.index(target) + self.first
        if target.lstrip("-").isdecimal():
            return int(target)
        known = list(self.classes)
        raise ValueError(f"target: no class is called {target!r}; {nearest(target, known)}")

    def class_of(self, number: int | None) -> str:
        """A class's name, else its number; "" for None."""
        if number is None:
            return ""
        place = number - self.first
        return self.classes[place] if 0 <= place < len(self.classes) else str(number)


def explain_files(
    networks: Sequence[Explainable],
    files: Sequence[Path],
    root: Path,
    out: Path,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    target: str | None = None,
    point: Point | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Explain each image, or clip, and write what was found below `out`, by the file's name below `root`.

    NAME.png: the image, a map of each network over it with its score, then the gates of the first network. NAME.npz:
    "map" (H, W) as large as the sample, "map 2", … of the networks beside it, "probabilities" (K,), and the gates as
    "SITE: KIND". explain.json: the rows. Of a clip the maps are (T, H, W) over its frames, affinities are arrows from
    the point, and NAME.mp4 has the maps over time.

    Args:
        networks: the first is explained in full; others stand beside it, with the same target.
        method, target, point: as of `explain`; a target is a class's name or number, None: the first network's best, of
            values the first.
        layer: name or glob pattern; None: found for each network.
        progress: called with (files done, files in all).

    Returns: a row for each file: file, picture, arrays, networks (name, layers, class, score), note.
    Raises: ValueError, LookupError: if a file cannot be read, or as `explain`. OSError: if nothing can be written.
    """
    names = [file.relative_to(root).with_suffix("") for file in files]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{root / twice}: wanted one image of this name, for its picture; got several")
    out.mkdir(parents=True, exist_ok=True)
    layers: dict[int, list[Layer]] = {}
    wanted = networks[0].usual if target is None else networks[0].number_of(target)
    rows = []
    for count, (file, name) in enumerate(zip(files, names, strict=True), 1):
        opened = None if networks[0].clips else open_image(file)
        maps: list[Map] = []
        picture: Picture | None = None
        frames: list[Picture] = []
        for number, network in enumerate(networks):
            model = network.model.to(device)
            sample = network.prepare(file if opened is None else opened.image)
            inputs = as_inputs(model, sample)
            if method in METHODS and number not in layers:
                layers[number] = find_layers(model, inputs, layer)
            chosen = wanted if number == 0 or not maps else maps[0].about.target  # type: ignore[union-attr]
            maps.append(
                explain(model, sample, chosen, method, layers=layers.get(number), point=point, gates=number == 0)
            )
            if opened is None:
                frames = frames or clip_frames(sample.cpu())
            elif picture is None:
                picture = _picture(network, sample)
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if picture is not None:
            drawn = _row(picture, networks, maps, point)
        else:
            drawn = _clip_rows(frames, networks, maps, point)
            write_video(place.with_name(f"{name.name}.mp4"), _film(frames, networks, maps))
        write_whole(place.with_name(f"{name.name}.png"), png(drawn))
        write_whole(place.with_name(f"{name.name}.npz"), _arrays(maps))
        rows.append(
            {
                "file": str(file),
                "picture": f"{name}.png",
                "arrays": f"{name}.npz",
                "networks": [_facts(network, found) for network, found in zip(networks, maps, strict=True)],
                "note": "" if opened is None else opened.note,
            }
        )
        if progress is not None:
            progress(count, len(files))
    write_json(out / INDEX, {"method": method, "images": rows})
    return rows


def _picture(network: Explainable, sample: Tensor) -> Picture:
    """The sample as pixels, red first."""
    if network.levels is None:
        (drawn,) = shown([sample] if is_detector(network.model) else sample[None].cpu())
        return drawn
    channels = len(network.levels.offset)
    (pixels,) = network.levels.pixels(sample[None, :channels].cpu())
    return enlarged(pixels if channels == 3 else pixels[..., :1].repeat(3, 2))


def _row(picture: Picture, networks: Sequence[Explainable], maps: Sequence[Map], point: Point | None) -> Picture:
    row = [captioned(picture, "image")]
    for network, found in zip(networks, maps, strict=True):
        facts = _facts(network, found)
        drawn = overlay(picture, found)
        if facts["box"] is not None:
            drawn = _boxed(drawn, facts["box"], picture.shape[1] / found.shape[1])
        score = "" if facts["score"] is None else f" {facts['score']:.2f}"
        words = f"{network.name}: {facts['class']}{score}" if facts["class"] else network.name
        row.append(captioned(drawn, words))
    about = maps[0].about
    gates = own_pictures(
        picture, about.gates if about is not None else {}, None if point is None else (point[-2], point[-1])
    )
    names = list(gates)
    if len(names) > MOST_GATES:
        names = [names[number * (len(names) - 1) // (MOST_GATES - 1)] for number in range(MOST_GATES)]
    return beside([*row, *(gates[name] for name in names)])


def _clip_rows(
    frames: Sequence[Picture], networks: Sequence[Explainable], maps: Sequence[Map], point: Point | None
) -> Picture:
    """The frames side by side, below them each network's map over them and what the first one's attention computes."""
    rows = [captioned(np.concatenate(list(frames), 1), "clip")]
    for network, found in zip(networks, maps, strict=True):
        facts = _facts(network, found)
        score = "" if facts["score"] is None else f" {facts['score']:.2f}"
        rows.append(
            captioned(np.concatenate(over_frames(frames, found), 1), f"{network.name}: {facts['class']}{score}")
        )
    query = None if point is None else point if len(point) == 3 else (0.5, *point)
    about = maps[0].about
    rows += clip_pictures(frames, about.gates if about is not None else {}, query).values()
    return sheet(rows, columns=1)


def _film(frames: Sequence[Picture], networks: Sequence[Explainable], maps: Sequence[Map]) -> list[Picture]:
    about = maps[0].about
    own = about.gates if about is not None else {}
    rows: dict[str, Any] = {network.name: np.asarray(found) for network, found in zip(networks, maps, strict=True)}
    rows |= {f"{site}: {kind}": kinds[kind] for site, kinds in own.items() for kind in ("spatial",) if kind in kinds}
    return frames_over_time(frames, {name: one for name, one in rows.items() if one.ndim == 3})


def _boxed(picture: Picture, box: Sequence[float], factor: float) -> Picture:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).rectangle([side * factor for side in box], outline=RIGHT, width=2)
    return np.asarray(image)


def _facts(network: Explainable, found: Map) -> dict[str, Any]:
    about = found.about
    assert about is not None
    probabilities = about.probabilities if network.judges else None
    number = about.target
    if number is None and probabilities is not None:
        number = int(probabilities.argmax())
    return {
        "network": network.name,
        "layers": list(about.layers),
        "class": network.class_of(number),
        "score": None if probabilities is None or number is None else float(probabilities[number]),
        "box": None if about.box is None else list(about.box),
        "gates": sorted({f"{site}: {kind}" for site, kinds in about.gates.items() for kind in kinds}),
    }


def _arrays(maps: Sequence[Map]) -> bytes:
    about = maps[0].about
    assert about is not None
    arrays = {"map" if number == 1 else f"map {number}": np.asarray(one) for number, one in enumerate(maps, 1)}
    if about.probabilities is not None:
        arrays["probabilities"] = about.probabilities
    arrays |= {f"{site}: {kind}": value for site, kinds in about.gates.items() for kind, value in kinds.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def without_attention(network: Explainable) -> Explainable:
    """The network with what was inserted taken out of a copy: what it saw before. Raises: ValueError: nothing is
    inserted."""
    if not inserted(network.model):
        raise ValueError(f"{network.name}: no attention is inserted in it; there is nothing to take out")
    with torch.inference_mode(False):
        plain = remove(copy.deepcopy(network.model))
    return replace(network, name=f"{network.name}, without its attention", model=plain)
