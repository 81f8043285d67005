"""Weights of a file for a network by name: opened without running anything in it, checked to the last key."""

import hashlib
import warnings
import zipfile
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from foveate.insertion import mark_fresh
from foveate.networks._head import Head

_NESTS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights beside their optimiser
_COUNTER = "num_batches_tracked"  # absent from files of before torch 0.4.1, and used by no forward pass
MOST_BYTES = 4_000_000_000  # of a file, of what it unpacks to, and of its tensors
MOST_TENSORS = 100_000


def weights_fingerprint(path: str | Path) -> str:
    """16 hexadecimal digits of a hash of the file. Raises: ValueError: it cannot be read."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise ValueError(f"weights {path}: cannot be read: {error.strerror or error}") from None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a torch checkpoint (opened with `weights_only=True`), by their names.

    A checkpoint may keep them as `tensors_by_name` says.

    Raises: ValueError: no such file, no file of weights, or one of more than 4 GB.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise ValueError(f"weights {path}: wanted a safetensors file or a torch checkpoint; there is no such file")
    _few_bytes(path, place.stat().st_size, "the file has")
    content = _safetensors(place) if _is_safetensors(place) else _checkpoint(place)
    tensors = tensors_by_name(content, f"weights {path}")
    _few_bytes(path, sum(value.numel() * value.element_size() for value in tensors.values()), "its tensors have")
    return tensors


def tensors_by_name(content: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """The weights among what a training script keeps.

    They may stand under "state_dict", "model_state_dict" or "model"; "module." of a parallel wrapper is taken off the
    names; a list of tensors by name becomes "list.0.name", "list.1.name", …

    Args:
        what: is named in the error.

    Raises: ValueError: it is something else than tensors by name, or more than 100,000 of them.
    """
    for nest in _NESTS:
        if isinstance(content.get(nest), Mapping):
            content = content[nest]
    content = _with_lists(content)
    odd = next((key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)), "")
    if odd != "" or not content:
        got = f"{odd!r}: {type(content[odd]).__name__}" if content else "nothing"
        raise ValueError(f"{what}: wanted tensors by name, at the top or under {_NESTS}; got {got}")
    if len(content) > MOST_TENSORS:
        raise ValueError(f"{what}: {len(content):,} tensors; at most {MOST_TENSORS:,} are taken")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _few_bytes(path: str | Path, count: int, what: str) -> None:
    if count > MOST_BYTES:
        raise ValueError(f"weights {path}: {what} {count / 1e9:,.1f} GB; at most {MOST_BYTES / 1e9:.0f} GB are read")


def _with_lists(content: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            flat |= {f"{key}.{place}.{name}": part for place, entry in enumerate(value) for name, part in entry.items()}
        else:
            flat[key] = value
    return flat


def load_weights(model: nn.Module, path: str | Path, *, head: Callable[[], Head] | None = None) -> list[str]:
    """Put a file's weights into a plain network. On the meta device nothing is copied, only checked.

    Args:
        head: finds the network's classifier, as `find_head` and `head_of` do; called only where a shape differs. What
            differs there by the number of classes alone keeps its fresh weights. None: no shape may differ.

    Returns: the names of the tensors that stay fresh; they are marked, so that `insert(..., freeze="base")` leaves them
        trainable.
    Raises: ValueError: a missing, surplus or misshapen tensor, by name; the model is as it was.
    """
    given = read_weights(path)
    wanted: dict[str, Tensor] = model.state_dict()
    surplus = next((key for key in given if key not in wanted), None)
    missing = next((key for key in wanted if key not in given and not key.endswith(_COUNTER)), None)
    if missing is not None or surplus is not None:
        raise ValueError(f"weights {path}: {_difference(missing, surplus, wanted, given)}")
    fresh = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    classifier = head() if fresh and head is not None else Head({}, {})
    for key in fresh:
        here, there = tuple(wanted[key].shape), tuple(given[key].shape)
        if not classifier.allows(key, here, there):
            raise ValueError(f"weights {path}: {key}: wanted the shape {here}, got {there}")
    with torch.no_grad():
        for key, value in wanted.items():
            if key in given and key not in fresh and not value.is_meta:
                value.copy_(given[key])
    mark_fresh(model, fresh)
    return fresh


def _difference(missing: str | None, surplus: str | None, wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    if missing is None:
        assert surplus is not None
        near = get_close_matches(surplus, list(wanted), 1)
        return f"{surplus!r} is surplus: the network has no such tensor" + (f"; nearest: {near[0]!r}" if near else "")
    unused = [key for key in given if key not in wanted]
    near = get_close_matches(missing, unused, 1) or unused[:1]
    return f"{missing!r} is missing" + (f"; the file has {near[0]!r}, which the network has not" if near else "")


def _is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then the opening brace of the header."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"weights {path}: a damaged safetensors file ({error})") from None


def _checkpoint(path: Path) -> dict[str, Any]:
    _few_bytes(path, _unpacked(path), "it unpacks to")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"weights {path}: no torch checkpoint of tensors alone ({reason[:200]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"weights {path}: wanted tensors by name, got a {type(content).__name__}")
    return content


def _unpacked(path: Path) -> int:
    """Bytes that the entries of a zip say they have; 0 for another file."""
    try:
        with zipfile.ZipFile(path) as file:
            return sum(entry.file_size for entry in file.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return 0
