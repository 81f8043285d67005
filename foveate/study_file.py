"""A study as a TOML file: read with the line in every error, and written so that it reads back the same."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from foveate.compression import Distillation, Pruning
from foveate.explaining import Explaining
from foveate.published import Published
from foveate.registry import nearest
from foveate.robustness import Robustness
from foveate.spec import Compared, DataSpec, Frozen, Metric, Study, Training, Variant
from foveate.variant import SHORT_FORM, Insertion


def read_study(path: str | Path) -> Study:
    """The study in a TOML file; its relative paths count from the file's folder.

    Raises: ValueError: one line with the file, the line in it, the key, what was wanted, what came and what is nearest.
    """
    path = Path(path)
    return check_study(read_study_content(path), where=str(path), text=_text(path)).resolved(path.parent)


def read_study_content(path: Path) -> dict[str, Any]:
    """The plain values in a study's TOML file, before they are checked. Raises: ValueError: if it is no TOML."""
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None


def check_study(content: dict[str, Any], *, where: str = "study", text: str = "") -> Study:
    """The study that these plain values describe; errors as in `read_study`."""
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise ValueError(_one_line(error, where, text, content)) from None


def _one_line(error: ValidationError, where: str, text: str, content: dict[str, Any]) -> str:
    first = error.errors()[0]
    path = [part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]
    if path[2:4] == ["insert", 0] and "insert" not in content["variants"][path[1]]:
        del path[2:4]  # the short form of one insertion
    keys = [part for part in path if isinstance(part, str)]
    line = line_of(text, path)
    place = f"{where}:{line}" if line else where
    named = ".".join(str(part) for part in path)[:200] or "study"
    if first["type"] == "extra_forbidden":
        if keys == ["train", "label_smoothing"]:
            return f"{place}: unknown key {named!r}; it belongs to the task: [task_options] label_smoothing"
        return f"{place}: unknown key {named!r}; {nearest(keys[-1][:200], _known(keys[:-1]), 1)}"
    wanted = first["msg"].removeprefix("Value error, ").replace("Input should be ", "wanted ", 1)
    got = "" if first["type"] in {"value_error", "missing"} else f"; got {str(first['input'])[:200]!r}"
    got = f"; got {first['input']!r}" if got and not isinstance(first["input"], (str, dict, list)) else got
    start = place if place == named else f"{place}: {named}"
    return f"{start}: {wanted}{got}"[:600].replace("\n", " ")


_UNION_TAGS = {"str", "int", "float"}
_PARTS: dict[str, type[Frozen]] = {
    "variants": Variant,
    "data": DataSpec,
    "train": Training,
    "metric": Metric,
    "compare": Compared,
    "robustness": Robustness,
    "explain": Explaining,
    "published": Published,
}


def _known(keys: list[str]) -> list[str]:
    """The keys that the table at this path takes."""
    if keys[-1:] == ["insert"]:
        return list(Insertion.model_fields)
    inner: dict[str, type[Frozen]] = {"prune": Pruning, "distill": Distillation}
    part = inner.get(keys[-1], _PARTS.get(keys[0], Study)) if keys else Study
    other = {Variant: (*SHORT_FORM, "name"), DataSpec: ("image_size", "train_images", "test_images")}
    return [*part.model_fields, *other.get(part, ())]


def line_of(text: str, path: list[Any]) -> int | None:
    """The line of TOML text that sets the key at this path, else the nearest table or key that holds it."""
    wanted = [str(part) for part in path]
    table: list[str] = []
    counts: dict[tuple[str, ...], int] = {}  # of each array of tables, such as [[variants]]
    best, found = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            table = []
            parts = _key_parts(header[2])
            for depth, part in enumerate(parts):
                table.append(part)
                if depth == len(parts) - 1 and header[1] == "[[":
                    counts[tuple(table)] = counts.get(tuple(table), -1) + 1
                if tuple(table) in counts:
                    table.append(str(counts[tuple(table)]))
            here = list(table)
        elif key := re.match(r"\s*([\w.\"' -]+?)\s*=", line):
            here = [*table, *_key_parts(key[1])]
        else:
            continue
        if here == wanted[: len(here)] and len(here) > best:
            best, found = len(here), number
    return found


def _key_parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^\s.\"']+", dotted)] or [dotted]


def study_toml(study: Study) -> str:
    """The study as TOML that `read_study` takes back unchanged; defaults are left out."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    tables = {name: content.pop(name, {}) for name in ("data", "train")}
    if study.weights is not None:
        tables["train"].setdefault("lr", study.train.lr)  # whose default is another one then
    content.pop("variants", None)
    content |= {"network": study.network, "seeds": list(study.seeds)}
    lines = [f"{key} = {_toml(value)}" for key, value in content.items()]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    for variant in study.variants:
        lines += ["", "[[variants]]", *(f"{key} = {_toml(value)}" for key, value in variant.short().items())]
    text = "\n".join(lines) + "\n"
    assert check_study(tomllib.loads(text)) == study, "what is written must read back the same"
    return text


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
