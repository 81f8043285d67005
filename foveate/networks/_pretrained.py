"""Published weights of timm's and torchvision's networks: which file they are, where it lies, what is in it.

Nothing is fetched: the libraries' own caches and a given folder are looked through, and the error says what to fetch.
"""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foveate.networks._checkpoint import Weights, check_values, open_checkpoint, read_weights
from foveate.networks._set_detectors import DETECTORS, released_tensors
from foveate.networks._weights import weights_fingerprint
from foveate.registry import nearest
from foveate.spec import PRETRAINED

_HUB = "https://huggingface.co"
_BUILT_WITH = {  # options with which torchvision builds a network for its weights
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True},
}
_FILES = ("model.safetensors", "pytorch_model.bin")  # of a model on the Hugging Face hub, as timm looks for them


@dataclass(frozen=True)
class Release:
    """Published weights of a network.

    Attributes:
        network: as `build_network` takes it.
        tag: what its library calls them: "a1_in1k", "IMAGENET1K_V1".
        files: names of the file, the first that is found is taken.
        address: of the first of them.
        repository: on the Hugging Face hub; "" for weights that are published elsewhere.
    """

    network: str
    tag: str
    files: tuple[str, ...]
    address: str
    repository: str = ""


@dataclass(frozen=True)
class ReleasedFile:
    """Published weights that are on this machine."""

    release: Release
    path: Path

    @cached_property
    def fingerprint(self) -> str:
        """Of the file, as `weights_fingerprint` gives it."""
        return weights_fingerprint(self.path)

    def __str__(self) -> str:
        """In words: the weights, the file and its hash."""
        mark, name = self.fingerprint, self.path.name
        promised = name.rpartition("-")[2].partition(".")[0]  # "f37072fd" of resnet18-f37072fd.pth
        is_hash = len(promised) == 8 and not set(promised) - set("0123456789abcdef")
        other = f", not the {promised}… of its name" if is_hash and not mark.startswith(promised) else ""
        source = f" of {self.release.repository}" if self.release.repository else ""
        return f"{self.release.tag}{source}, file {name} (SHA-256 {mark}…{other})"


def release_of(network: str) -> Release:
    """The weights that the network's library loads where it is asked for pretrained ones.

    Args:
        network: "timm:NAME", "timm:NAME.TAG", "torchvision:NAME", or "hf:NAME" of a detector, which has them in a local
            folder alone.

    Raises: LookupError: no such network, or none are published.
    """
    source, _, name = network.rpartition(":")
    if source == "timm":
        return _of_timm(network, name)
    if source == "torchvision":
        return _of_torchvision(network, name)
    if source == "hf" and name in DETECTORS:
        return Release(network, "of a folder", _FILES, "")
    raise LookupError(
        f"network {network!r}: wanted one of timm or torchvision, whose weights are published; for others give a file "
        "of weights"
    )


def find_release(network: str, folder: str | Path | None = None) -> ReleasedFile:
    """The file of `release_of`, in the cache of the network's library or in a folder.

    Args:
        folder: that has the file, also in a folder called as the network, or laid out as the library's cache; None:
            the cache, which is $HF_HUB_CACHE for the hub's files and $TORCH_HOME/hub/checkpoints for others.

    Raises: LookupError: as `release_of`. ValueError: it is not there; says which file to fetch, from where, and where
        to put it.
    """
    release = release_of(network)
    if folder is None and not release.address:
        raise LookupError(
            f"{network}: wanted weights = a folder that transformers wrote; nothing is published in a cache"
        )
    found = _cached(release, None) if folder is None else _in_folder(release, Path(folder).expanduser())
    if found is not None:
        return ReleasedFile(release, found)
    if not release.address:
        raise ValueError(f"{folder}: wanted a folder that transformers wrote, with config.json and {_FILES[0]}")
    where = "the cache" if folder is None else str(folder)
    raise ValueError(
        f"the weights {release.tag} of {network} are not in {where}: fetch {release.address} and put it into "
        f"{_home(release)}, or into a folder that you give in place of the cache"
    )


def read_release(found: ReleasedFile, *, in_channels: int = 3, **options: Any) -> Weights:
    """The tensors by the names that the network has here, as its library puts them there.

    timm renames tensors of old files, resizes embeddings of positions, and sums or repeats the first convolution for
    another number of channels.

    Args:
        in_channels, options: as for `build_network`.

    Raises: ValueError: they do not fit the network, or have values that are no finite numbers.
    """
    network = found.release.network
    source, _, name = network.rpartition(":")
    if source == "hf":
        tensors = released_tensors(importlib.import_module("transformers"), name, found.path.parent)
        check_values(tensors, f"weights {found.path}")
        return Weights(tensors, f"weights {found.path}")
    if source != "timm":
        for option, value in _BUILT_WITH.get(name, {}).items():
            if options.get(option) != value:
                raise ValueError(f"{network}: its weights go with the network's option {option}={str(value).lower()}")
        return read_weights(found.path)
    import timm

    overlay = {"state_dict": open_checkpoint(found.path), "custom_load": False, "source": None}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            model = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=in_channels, **options
            )
    except (RuntimeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"weights {found.path}: are not those of {network} ({reason})") from None
    check_values(model.state_dict(), f"weights {found.path}")
    return Weights(model.state_dict(), f"weights {found.path}")


def is_release(weights: str | Path) -> bool:
    """Do these name what the network's library publishes ("pretrained", or a folder that has it), not a file?"""
    return str(weights) == PRETRAINED or Path(weights).expanduser().is_dir()


def read_start(weights: str | Path, network: str, *, in_channels: int = 3, **options: Any) -> Weights:
    """The tensors that a network starts from.

    Args:
        weights: "pretrained", a folder that has the release (`find_release`), or a file (`read_weights`).
        network, in_channels, options: as for `build_network`.

    Raises: as `find_release`, `read_release` and `read_weights`.
    """
    if not is_release(weights):
        return read_weights(weights)
    found = find_release(network, None if str(weights) == PRETRAINED else weights)
    return read_release(found, in_channels=in_channels, **options)


def unloaded_tag(network: str) -> str | None:
    """The tag by which a network of timm names weights: "a1_in1k" of "timm:resnet18.a1_in1k"; None without one."""
    source, _, name = network.rpartition(":")
    return name.partition(".")[2] or None if source == "timm" else None


def check_tag(name: str) -> None:
    """Raises: LookupError: timm's model has no weights of the tag in its name; the nearest is named."""
    import timm

    model, _, tag = name.partition(".")
    known = [one.partition(".")[2] for one in timm.list_pretrained(f"{model}.*")]
    if tag and tag not in known:
        raise LookupError(f"timm's {model} has no weights {tag!r}; {nearest(tag, known)}")


def _of_timm(network: str, name: str) -> Release:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        raise LookupError(f"timm has no model {name!r}; {nearest(name, timm.list_models())}")
    check_tag(name)
    facts = timm.get_pretrained_cfg(name)
    if facts is None or not (facts.hf_hub_id or facts.url):
        known = timm.list_pretrained(f"{name.partition('.')[0]}*")
        raise LookupError(f"timm publishes no weights for {name!r}; {nearest(name, known)}")
    if not facts.hf_hub_id:
        address = str(facts.url)
        return Release(network, facts.tag or "", (address.rpartition("/")[2],), address)
    files = (facts.hf_hub_filename,) if facts.hf_hub_filename else _FILES
    repository, _, revision = facts.hf_hub_id.partition("@")
    address = f"{_HUB}/{repository}/resolve/{revision or 'main'}/{files[0]}"
    return Release(network, facts.tag or "", files, address, facts.hf_hub_id)


def _of_torchvision(network: str, name: str) -> Release:
    import torchvision

    known = torchvision.models.list_models()
    if name not in known:
        raise LookupError(f"torchvision has no model {name!r}; {nearest(name, known)}")
    published = torchvision.models.get_model_weights(name)
    if not len(published):
        raise LookupError(f"torchvision publishes no weights for {name!r}")
    chosen = published.DEFAULT
    return Release(network, chosen.name, (chosen.url.rpartition("/")[2],), chosen.url)


def _cached(release: Release, folder: Path | None) -> Path | None:
    if not release.repository:
        whole = Path(torch.hub.get_dir()) / "checkpoints" / release.files[0]
        return whole if whole.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = release.repository.partition("@")
    for file in release.files:
        place = try_to_load_from_cache(repository, file, cache_dir=folder, revision=revision or None)
        if isinstance(place, str):
            return Path(place)
    return None


def _in_folder(release: Release, folder: Path) -> Path | None:
    """A file called as that of the release or as the network; below the network's name; or as in the cache."""
    name = release.network.rpartition(":")[2]
    called = name if "." in name or not release.repository else f"{name}.{release.tag}"
    below = [folder, folder / called, folder / "checkpoints", folder / "hub" / "checkpoints"]
    places = [*(folder / f"{called}{Path(file).suffix}" for file in release.files)]
    places += [place / file for file in release.files for place in below]
    found = next((place for place in places if place.is_file()), None)
    if found is None and release.repository:
        return _cached(release, folder) or _cached(release, folder / "hub")
    return found


def _home(release: Release) -> str:
    """Where the library looks, in words."""
    if not release.repository:
        return f"{Path(torch.hub.get_dir()) / 'checkpoints'}/"
    return f"its cache (hf download {release.repository.partition('@')[0]} {release.files[0]} does both)"
