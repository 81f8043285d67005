"""A file's weights put into a network by name, checked to the last key."""

import hashlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.insertion import mark_fresh
from foveate.networks._checkpoint import COUNTER, Weights, read_weights
from foveate.networks._head import Head
from foveate.networks._inflate import inflate, is_of_images


def weights_fingerprint(path: str | Path) -> str:
    """16 hexadecimal digits of a hash of the file. Raises: ValueError: it cannot be read."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except (OSError, ValueError) as error:
        raise ValueError(f"weights {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def load_weights(
    model: nn.Module, weights: str | Path | Weights, *, head: Callable[[], Head] | None = None
) -> list[str]:
    """Put a file's weights into a plain network. On the meta device nothing is copied, only checked.

    Into a network of clips those of the network of images whose tensors are called alike are inflated (`inflate`).

    Args:
        weights: a file, or what `read_weights` gave of one; the network's tensors may stand below one prefix there.
        head: finds the network's classifier, as `find_head` and `head_of` do; called only where a tensor is missing or
            its shape differs. What differs there by the number of classes alone, or a classifier that the file has
            nothing of, keeps its fresh weights. None: no shape may differ.

    Returns: the names of the tensors that stay fresh; they are marked, so that `insert(..., freeze="base")` leaves them
        trainable.
    Raises: ValueError: a missing, surplus or misshapen tensor, by name; the model is as it was.
    """
    wanted: dict[str, Tensor] = model.state_dict()
    given = weights if isinstance(weights, Weights) else read_weights(weights)
    if is_of_images(model, given):
        return inflate(model, given, head=None if head is None else head())
    given = given.of_network(wanted)
    classifier = _classifier(wanted, given, head)
    given = given.of_network([key for key in wanted if key not in classifier.tensors])
    surplus = next((key for key in given if key not in wanted), None)
    absent = set() if surplus or any(key in given for key in classifier.tensors) else set(classifier.tensors)
    missing = next(
        (key for key in wanted if key not in given and key not in absent and not key.endswith(COUNTER)), None
    )
    if missing is not None or surplus is not None:
        raise ValueError(f"{given.file}: {_difference(missing, surplus, wanted, given)}")
    fresh = [key for key in wanted if key in absent or (key in given and given[key].shape != wanted[key].shape)]
    for key in fresh:
        if key in absent:
            continue
        here, there = tuple(wanted[key].shape), tuple(given[key].shape)
        if not classifier.allows(key, here, there):
            raise ValueError(f"{given.file}: {key}: wanted the shape {here}, got {there}")
    with torch.no_grad():
        for key, value in wanted.items():
            if key in given and key not in fresh and not value.is_meta:
                value.copy_(given[key])
    mark_fresh(model, fresh)
    return fresh


def _classifier(wanted: dict[str, Tensor], given: Weights, head: Callable[[], Head] | None) -> Head:
    """The network's classifier, where it may differ from the file's; none where nothing differs."""
    differs = any(key in given and given[key].shape != value.shape for key, value in wanted.items())
    if head is None or not (differs or any(key not in given for key in wanted)):
        return Head({}, {})
    try:
        return head()
    except ValueError:
        if differs:
            raise
        return Head({}, {})


def _difference(
    missing: str | None, surplus: str | None, wanted: dict[str, Tensor], given: Mapping[str, Tensor]
) -> str:
    if missing is None:
        assert surplus is not None
        near = get_close_matches(surplus, list(wanted), 1)
        return f"{surplus!r} is surplus: the network has no such tensor" + (f"; nearest: {near[0]!r}" if near else "")
    unused = [key for key in given if key not in wanted]
    near = get_close_matches(missing, unused, 1) or unused[:1]
    return f"{missing!r} is missing" + (f"; the file has {near[0]!r}, which the network has not" if near else "")
