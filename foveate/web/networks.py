"""The networks that the page offers, and what each makes of an image."""

import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from foveate.explain import ALL_METHODS, explain, find_layers, list_layers, open_image, overlay
from foveate.explain.files import Explainable
from foveate.explain.layers import Layer
from foveate.explain.maps import as_inputs
from foveate.explain.own import own_maps
from foveate.explain.pictures import own_pictures, point_marked, stretched
from foveate.explain.rollout import attention_rows
from foveate.insertion import insert, inserted
from foveate.networks import build_network, example_input, usual_classes, usual_shape
from foveate.registry import nearest
from foveate.study.explainable import explainable_network, explainable_run
from foveate.study.predict import as_published, class_names
from foveate.study.results import status
from foveate.tasks.pictures import Picture, shown
from foveate.variant import PLAIN

KEPT = 4  # networks that stay loaded
MOST_PIXELS = 40_000_000
MOST_GATES = 60  # pictures of gates in one answer
SCORES = 5


@dataclass(frozen=True)
class Offered:
    """A network on the list. mechanism: what was compared or inserted; note: what to know before trusting it."""

    key: str
    label: str
    mechanism: str
    note: str = ""


@dataclass
class Loaded:
    """A network with what stands before it.

    layers: of a size of input, all of them and those found by themselves. of_library: has it attention of another
    library, whose rows take passes of their own? None: not known yet.
    """

    model: nn.Module
    prepare: Callable[[Any], Tensor]
    classes: tuple[str, ...]
    note: str = ""
    layers: dict[tuple[int, ...], tuple[list[Layer], list[Layer]]] = field(default_factory=dict)
    of_library: bool | None = None


class Networks:
    """Networks by key; loads them when they are asked for and forgets the longest unused.

    One question is answered at a time, whoever asks: a network's hooks are not made for two.

    Args:
        offered: what there is now, read anew for every list.
        load: key → the network.
    """

    def __init__(self, offered: Callable[[], list[Offered]], load: Callable[[str], Loaded]) -> None:
        self.offered, self._load = offered, load
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = Lock()

    def _get(self, key: str) -> Loaded:
        if key not in self._kept:
            keys = [one.key for one in self.offered()]
            if key not in keys:
                raise LookupError(f"there is no network {key!r} here; {nearest(key, keys)}")
            self._kept[key] = self._load(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def look(
        self, content: bytes, key: str, *, layer: str = "", method: str = "gradcam", target: int | None = None
    ) -> dict[str, Any]:
        """What a network sees in an image: the image as it takes it, scores, a map over it, the gates of its attention.

        Raises: ValueError: no image, too many pixels, a method or target that is not there, no gradient. LookupError:
            no such network or layer.
        """
        opened = open_image(content, "the image", MOST_PIXELS)
        with self._lock:
            loaded = self._get(key)
            inputs = as_inputs(loaded.model, loaded.prepare(opened.image))
            picture = shown(inputs)[0]
            every, usual = self._layers(loaded, inputs)
            named = {one.name: one for one in every}
            if layer and layer not in named:
                raise LookupError(f"there is no layer {layer!r}; {nearest(layer, named)}")
            chosen = None if method not in _OF_LAYERS else [named[layer]] if layer else usual
            found = explain(loaded.model, inputs[0], target, method, layers=chosen)
            about = found.about
            assert about is not None
            gates = own_pictures(picture, about.gates)
            shown_gates = dict(list(gates.items())[:MOST_GATES])
            return {
                "notes": [
                    note for note in (opened.note, loaded.note, _no_attention(loaded.model, about.gates)) if note
                ],
                "size": [opened.image.width, opened.image.height],
                "picture": picture_uri(picture),
                "map": picture_uri(overlay(picture, np.asarray(found))),
                "layer": ", ".join(about.layers),
                "layers": [one.name for one in every],
                "target": None if about.target is None else _class(loaded.classes, about.target),
                "targets": [_class(loaded.classes, number) for number in range(len(about.probabilities))]
                if about.probabilities is not None
                else [],
                "scores": _best(about.probabilities, loaded.classes),
                "gates": [{"name": name, "picture": picture_uri(one)} for name, one in shown_gates.items()],
                "left_out": len(gates) - len(shown_gates),
            }

    def point(self, content: bytes, key: str, y: float, x: float) -> dict[str, Any]:
        """What the position (y, x), in shares of the image, reads: a map for each module with an affinity, and the
        weight that each mask of positions gives to it.

        Raises: as `look`; ValueError: a point outside the image.
        """
        opened = open_image(content, "the image", MOST_PIXELS)
        with self._lock:
            loaded = self._get(key)
            inputs = as_inputs(loaded.model, loaded.prepare(opened.image))
            picture = shown(inputs)[0]
            maps = own_maps(loaded.model, inputs, point=(y, x), transformers=False)
            if loaded.of_library is not False:
                known = [name for name, of_site in maps.items() if "affinity" in of_site]
                theirs = {
                    name: row
                    for name, row in attention_rows(loaded.model, inputs, (y, x)).items()
                    if not any(name == ours or name.startswith(f"{ours}.") for ours in known)
                }
                loaded.of_library = bool(theirs)
                for name, found in theirs.items():
                    maps.setdefault(name, {}).setdefault("affinity", found)
            rows, values = [], []
            for site, of_site in maps.items():
                row = of_site.get("affinity")
                if row is not None:
                    flat = row.reshape(-1, *row.shape[-2:]).mean(0)
                    drawn = point_marked(overlay(picture, stretched(flat)), (y, x))
                    rows.append({"name": site, "picture": picture_uri(drawn), "most": float(row.max())})
                mask = of_site.get("spatial")
                if mask is not None and mask.ndim == 2:
                    high, wide = mask.shape
                    at = mask[min(int(y * high), high - 1), min(int(x * wide), wide - 1)]
                    values.append({"name": site, "value": float(at), "mean": float(mask.mean())})
            return {"rows": rows, "values": values}

    def _layers(self, loaded: Loaded, inputs: Any) -> tuple[list[Layer], list[Layer]]:
        size = tuple(inputs[0].shape)
        if size not in loaded.layers:
            loaded.layers[size] = list_layers(loaded.model, inputs), find_layers(loaded.model, inputs)
        return loaded.layers[size]


_OF_LAYERS = frozenset(ALL_METHODS) - {"rollout", "classtoken"}


def _no_attention(model: nn.Module, gates: Mapping[str, Any]) -> str:
    if gates or inserted(model):
        return ""
    return "this network computes no gates or masks to show: the map alone says what it looks at"


def _class(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else str(number)


def _best(probabilities: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    if probabilities is None:
        return []
    order = np.argsort(-probabilities)[:SCORES]
    return [{"class": _class(classes, int(n)), "number": int(n), "score": float(probabilities[n])} for n in order]


def picture_uri(picture: Picture) -> str:
    """A picture as a data URI; JPEG, which is written several times as fast as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=92, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def networks_of_study(folder: Path) -> Networks:
    """The finished runs of a study; more as it goes on. Raises: ValueError: the folder holds no study."""
    status(folder)

    def offered() -> list[Offered]:
        done = [run for run in status(folder)["runs"] if run["state"] == "done"]
        return [Offered(run["key"], f"{run['arm']}, seed {run['seed']}", run["arm"]) for run in done]

    def load(key: str) -> Loaded:
        return _loaded(explainable_run(str(folder / "runs" / key)))

    return Networks(offered, load)


def networks_by_name(
    names: Sequence[str], weights: str | Path | None, attention: Sequence[tuple[str, dict[str, Any]]], at: Any
) -> Networks:
    """Networks by name with weights, and each with attention inserted that starts as the identity.

    weights: a file, "pretrained", or None: fresh weights, which the page says.

    Raises: as `foveate.study.explainable.explainable_network`, for a name that is none.
    """
    wanted: dict[str, tuple[str, tuple[str, dict[str, Any]] | None]] = {name: (name, None) for name in names}
    for name in names:
        usual_shape(name)
        for mechanism, options in attention:
            if mechanism != PLAIN:
                wanted[f"{name} with {mechanism}"] = (name, (mechanism, options))
    fresh = "fresh weights: it has learned nothing" if weights is None else ""
    offered = [
        Offered(
            key,
            key,
            part[0] if part else PLAIN,
            "; ".join(filter(None, [fresh, "the attention is untrained" if part else ""])),
        )
        for key, (_, part) in wanted.items()
    ]
    notes = {one.key: one.note for one in offered}

    def load(key: str) -> Loaded:
        name, part = wanted[key]
        found = _fresh(name) if weights is None else _loaded(explainable_network(name, weights))
        if part is not None:
            insert(found.model, part[0], at=at, example=example_input(name)[:1], init="identity", **part[1])
            found.model.eval()
        found.note = "; ".join(filter(None, [notes[key], found.note]))
        return found

    return Networks(lambda: offered, load)


def _loaded(found: Explainable) -> Loaded:
    return Loaded(found.model, found.prepare, found.classes, found.note)


def _fresh(name: str) -> Loaded:
    channels, outputs = usual_shape(name)[0], usual_classes(name)
    torch.manual_seed(0)
    model = build_network(name, num_classes=outputs, in_channels=channels).eval()
    return Loaded(model, as_published(name, channels).prepare, class_names(outputs))
