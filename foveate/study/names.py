"""Are the names of a study known? Asked first of all, as opening the images may take long."""

import tomllib
from pathlib import Path

import torch

from foveate.attention import check_attention_options
from foveate.networks import read_own_file
from foveate.spec import PLAIN, Study, Variant, line_of


def check_names(study: Study, *, file: Path | None = None) -> None:
    """Is there every mechanism that the study names, with such options, and the device?

    Args:
        file: that the study was read from; its line then stands before the error.

    Raises: ValueError: there is not; the nearest is named.
    """
    read_own_file(study.network)  # it may register mechanisms of its own
    for variant in study.variants:
        if variant.attention == PLAIN:
            continue
        try:
            check_attention_options(variant.attention, {})
        except LookupError as error:
            raise ValueError(f"{_place(file, variant)}variant {variant.name!r}: {error}") from None
        for option in variant.options:
            try:
                check_attention_options(variant.attention, {option: None})
            except TypeError as error:
                raise ValueError(f"{_place(file, variant, option)}variant {variant.name!r}: {error}") from None
    _check_device(study.train.device)


def _place(file: Path | None, variant: Variant, option: str | None = None) -> str:
    """ "study.toml:7: ", where this variant's attention or option stands; "" without a file."""
    if file is None:
        return ""
    text = file.read_text(encoding="utf-8")
    written = [Variant.model_validate(entry) for entry in tomllib.loads(text).get("variants", [])]
    if variant not in written:  # given by a flag
        return ""
    path = ["variants", written.index(variant), *(["attention"] if option is None else ["options", option])]
    line = line_of(text, path)
    return f"{file}:{line}: " if line else f"{file}: "


def _check_device(name: str) -> None:
    found = torch.accelerator.current_accelerator(check_available=True)
    kinds = ["cpu"] if found is None else ["cpu", found.type]
    try:
        device = torch.device(name)
        there = device.type in kinds and (
            device.type == "cpu" or (device.index or 0) < torch.accelerator.device_count()
        )
    except RuntimeError:
        there = False
    if not there:
        raise ValueError(f"train.device: wanted one of this machine's ({', '.join(kinds)}); got {name!r}")
