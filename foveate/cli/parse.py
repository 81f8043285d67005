"""Flags of the command line as plain values."""

import re
import tomllib
from pathlib import Path
from typing import Any

from foveate.cli.imports import given_imports
from foveate.spec import PRETRAINED, Study
from foveate.study_file import check_study, read_study
from foveate.variant import PLAIN


def value(text: str) -> Any:
    """A TOML value if it is one (3, 0.5, true, [1, 2]), else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def listed(given: dict[str, str | None]) -> dict[str, Any]:
    """{"lr": "0.01,0.1", "epochs": "5", "optimizer": None} → {"lr": [0.01, 0.1], "epochs": 5}, what is None left out.

    Raises: ValueError: a value is empty.
    """
    found: dict[str, Any] = {}
    for name, text in given.items():
        if text is None:
            continue
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag}: wanted a value, or values parted by commas; got {text!r}")
        found[name] = value(parts[0]) if len(parts) == 1 else [value(part) for part in parts]
    return found


def sides(text: str) -> tuple[int, int]:
    """ "70,70" → (70, 70)."""
    found = text.replace("x", ",").replace("×", ",").split(",")
    if len(found) != 2 or not all(one.strip().isdigit() for one in found):
        raise ValueError(f"--size: wanted two whole numbers, such as 70,70; got {text!r}")
    return int(found[0]), int(found[1])


def pairs(texts: list[str], what: str) -> dict[str, Any]:
    """["a=1", "b=x"] → {"a": 1, "b": "x"}. Raises: ValueError: one has no "="."""
    found = {}
    for text in texts:
        key, equals, given = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{what}: wanted NAME=VALUE; got {text!r}")
        if key.strip() in found:
            raise ValueError(f"{what}: {key.strip()} is given twice")
        found[key.strip()] = value(given.strip())
    return found


def attention(text: str) -> list[tuple[str, dict[str, Any]]]:
    """ "none,se,cbam:kernel_size=3:order=parallel" → [("none", {}), ("se", {}), ("cbam", {…})].

    Whether there is such a mechanism with such an option is checked later, when the user's own files are read.

    Raises: ValueError: an option without a value or given twice, an empty name.
    """
    found = []
    for part in re.split(r",(?![^\[]*\])", text):  # not the commas inside [a, b]
        name, *options = part.strip().split(":")
        if not name:
            raise ValueError(f"--attention: wanted names parted by commas, such as none,se,cbam; got {text!r}")
        found.append((name, pairs(options, f"--attention {name}")))
    return found


def control(text: str | None) -> dict[str, Any]:
    """ "size:conv,shuffled" → {"control": "size", "controls": ["conv", "shuffled"]}; None → {}."""
    if text is None:
        return {}
    equal, colon, forms = text.partition(":")
    return {"control": equal, "controls": forms.split(",") if colon else []}


def variants(text: str, at: str, init: str, **trained: Any) -> list[dict[str, Any]]:
    """The variants of a study, as plain values, all at the same place and trained alike.

    trained: replace, freeze, thaw, attention_lr; what is None or False is left out, and the plain network has none.
    """
    if not at.strip(","):
        raise ValueError(f"--at: wanted block, stage, or glob patterns parted by commas; got {at!r}")
    where = at.split(",") if "," in at else at
    given = {key: value for key, value in trained.items() if value}
    return [
        {"attention": name, "options": options} | ({} if name == PLAIN else {"at": where, "init": init, **given})
        for name, options in attention(text)
    ]


def seeds(text: str) -> Any:
    """ "5" → 5 (seeds 0 to 4); "3,7,11" → those. Raises: ValueError."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds: wanted a number of seeds or seeds parted by commas; got {text!r}") from None
    if len(numbers) == 1 and numbers[0] < 1:
        raise ValueError(f"--seeds: wanted 1 or more; got {text}")
    return numbers[0] if len(numbers) == 1 else numbers


def study(
    file: Path | None, given: dict[str, Any], source: dict[str, Any], training: dict[str, Any], *, where: str
) -> Study:
    """The study of a file, or that of the defaults, with what flags give: of itself, of [data] and of [train]; None is
    not given. where: the command, for messages."""
    content: dict[str, Any] = read_study(file).model_dump(mode="json", exclude_unset=True) if file else {}
    content |= {key: value for key, value in given.items() if value is not None}
    for name, flags in (("data", source), ("train", training)):
        content[name] = content.get(name, {}) | {key: value for key, value in flags.items() if value is not None}
    content["imports"] = [*content.get("imports", ()), *given_imports()]
    return check_study(content, where=str(file or where)).resolved(Path.cwd())


def weights(file: str | Path | None, pretrained: bool) -> str | Path | None:
    """The file, the folder that has the published one, or "pretrained".

    Raises: ValueError: --pretrained with a file.
    """
    if pretrained and file is not None and not Path(file).expanduser().is_dir():
        raise ValueError(f"--pretrained: with --weights it takes a folder that has the published file; got {file}")
    return PRETRAINED if pretrained and file is None else file


def metric(name: str | None, better: str | None, unit: str | None = None) -> Any:
    """--metric NAME [--better higher|lower [--unit UNIT]] as a study has it.

    Raises: ValueError: --better without --metric, or --unit without --better.
    """
    if better is None:
        if unit is not None:
            raise ValueError("--unit goes with --metric NAME --better higher|lower")
        return name
    if name is None:
        raise ValueError("--better goes with --metric NAME")
    return {"name": name, "better": better} | ({} if unit is None else {"unit": unit})


def evaluation(
    window: str | None, stride: str | None, memory: float | None, flip: bool | None, scales: str | None
) -> dict[str, Any]:
    """--window 512,1024 --stride 384 --memory 2000 --flip --scales 0.5,1 as a task's evaluation; what is None is left
    out. Raises: ValueError: a value is no number."""
    given: dict[str, Any] = {"memory": memory, "flip": flip}
    for flag, text in (("window", window), ("stride", stride), ("scales", scales)):
        if text is not None:
            numbers = [value(part.strip()) for part in text.split(",")]
            if not all(isinstance(one, (int, float)) for one in numbers):
                raise ValueError(f"--{flag}: wanted numbers parted by commas; got {text!r}")
            given[flag] = numbers[0] if len(numbers) == 1 and flag != "scales" else numbers
    return {key: one for key, one in given.items() if one is not None}
