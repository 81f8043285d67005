"""Which clips lie in a folder: class folders of videos and of frame folders, or a list with start and end."""

import csv
import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foveate.data.clips.files import ENDINGS, frame_files
from foveate.data.division import groups_of
from foveate.data.listing import TEST_NAMES, VALIDATION_NAMES, Part, visible
from foveate.data.problems import Problem, one_line
from foveate.registry import nearest

LISTS = ("clips.csv", "labels.csv", "labels.json")  # in a folder; the first that is there is read
SEARCHED = 5  # folders of folders in which a video is looked for
COLUMNS = ("file", "label", "start", "end", "split", "group")
_PARTS: dict[str, Part] = {"train": "train", "test": "test", "validation": "validation", "val": "validation", "": ""}


@dataclass(frozen=True)
class Clip:
    """A clip: its file or folder of frames, its name, class, part, group and range, as `look` takes that."""

    path: Path
    name: str
    label: str
    part: Part = ""
    group: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def key(self) -> int:
        """64 bits of its class and name: the same on any machine and in any order of listing."""
        return int.from_bytes(hashlib.sha256(f"{self.label}/{self.name}".encode(errors="replace")).digest()[:8])


@dataclass(frozen=True)
class ClipListing:
    """The clips of a folder as found, nothing read yet."""

    root: Path
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    problems: tuple[Problem, ...]


def list_clips(root: Path, labels: str | None = None, group: str | None = None) -> ClipListing:
    """Every clip of a folder.

    Args:
        root: class folders, or train, val and test folders of class folders; or with a list.
        labels: the list; None: clips.csv, labels.csv or labels.json in the folder, else its class folders.
        group: column of the list, or a regular expression whose first group, in a clip's path below its class folder,
            says what it belongs to; None: the column "group" of a list that has it.

    Raises: ValueError: if the list cannot be read, or a row of it says something else.
    """
    file = list_of(root) if labels is None else Path(labels).expanduser()
    problems: list[Problem] = []
    if file is not None:
        clips = _of_list(root, file, group, problems)
    else:
        clips = _of_folders(root, problems)
        if group is not None:
            called = [f"{clip.name!r}, of class {clip.label!r}" for clip in clips]
            found = groups_of([clip.name for clip in clips], group, called)
            clips = [replace(clip, group=one) for clip, one in zip(clips, found, strict=True)]
    classes = tuple(sorted({clip.label for clip in clips}, key=lambda label: (len(label), label)))
    if all(not label.isdecimal() for label in classes):
        classes = tuple(sorted(classes))
    place = root if file is None else file
    if len(classes) < 2 and not any(problem.kind == "folder" for problem in problems):
        wanted = f"wanted at least two classes of clips, such as {root}/walk/1.mp4 and {root}/run/1.mp4, or a list"
        problems.append(Problem(place, f"{wanted} {LISTS[0]}; got {len(classes)}", "folder"))
    else:
        problems += few_clips(place, classes, clips)
    return ClipListing(root, classes, tuple(clips), tuple(problems))


def few_clips(place: Path, classes: tuple[str, ...], clips: "list[Clip] | tuple[Clip, ...]") -> list[Problem]:
    """Classes without enough clips to train and to test on."""
    parts = {clip.part for clip in clips}
    counts = Counter((clip.label, clip.part) for clip in clips)
    problems = []
    for label in classes:
        for part in sorted(parts):
            count, least = counts[label, part], 1 if part else 2
            if count < least:
                which = f" in its {part} part" if part else ", too few to hold one out for testing"
                reason = f"class {label!r} has {count} clip{'s' * (count != 1)}{which}; wanted at least {least}"
                problems.append(Problem(place, reason, "folder"))
    return problems


def list_of(root: Path) -> Path | None:
    """The list of clips in a folder; None where it has none."""
    for name in LISTS:
        file = root / name
        if file.is_file():
            if file.suffix == ".csv":
                return file
            try:
                rows = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            first = rows[0] if isinstance(rows, list) and rows else None
            if isinstance(first, dict) and str(first.get("file", "")).lower().endswith(ENDINGS):
                return file
    return None


def is_of_clips(source: str) -> bool:
    """Does a folder have a list of clips, or a video in one of its first class folders?"""
    root = Path(source).expanduser()
    if not root.is_dir():
        return False
    if (file := list_of(root)) is not None:
        return file.suffix == ".json" or file.name == LISTS[0]
    folders = visible(root, [])[0][:SEARCHED]
    inner = [folder for outer in folders for folder in visible(outer, [])[0][:SEARCHED]]
    videos = set(ENDINGS) - {".gif"}
    return any(file.suffix.lower() in videos for folder in (*folders, *inner) for file in visible(folder, [])[1])


def _of_list(root: Path, file: Path, group: str | None, problems: list[Problem]) -> list[Clip]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows = _json_rows(file, text) if file.suffix.lower() == ".json" else _csv_rows(file, text)
    if not rows:
        raise ValueError(f"{file}: wanted a clip a row; got no rows")
    clips = []
    there: list[str] | None = None
    for number, row in rows:
        if not row.get("file") or row.get("label") in (None, ""):
            raise ValueError(f"{file}: {number}: wanted a file and a label; got {one_line(json.dumps(row), 80)}")
        name, path = str(row["file"]), root / str(row["file"])
        if not path.exists():
            if there is None:
                there = [one.relative_to(root).as_posix() for one in root.rglob("*") if one.suffix.lower() in ENDINGS]
            near = get_close_matches(name, there, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(Problem(file, f"{number}: names {one_line(name)}; there is no such file{hint}"))
            continue
        part = str(row.get("split") or "").lower()
        if part not in _PARTS:
            raise ValueError(f"{file}: {number}: split: wanted train, val or test; got {part!r}")
        start, end = (_number(file, number, key, row.get(key)) for key in ("start", "end"))
        if start is not None and end is not None and end <= start:
            raise ValueError(f"{file}: {number}: wanted an end after the start; got {start:g} to {end:g}")
        key = "group" if group is None else group
        if group is not None and row.get(key) in (None, ""):
            raise ValueError(f"{file}: {number}: has no {key!r}; {nearest(key, list(row))}")
        belongs = None if row.get(key) in (None, "") else str(row[key])
        span = "" if start is None and end is None else f" {start or 0:g}–{'' if end is None else format(end, 'g')}"
        clips.append(Clip(path, name + span, str(row["label"]), _PARTS[part], belongs, start, end))
    if len({bool(clip.part) for clip in clips}) > 1 or {clip.part for clip in clips} in ({"train"}, {"test"}):
        raise ValueError(f"{file}: split: wanted both train and test, and one in every row, or none in any")
    if len({clip.group is None for clip in clips}) > 1:
        raise ValueError(f"{file}: group: wanted one in every row, or none in any")
    return clips


def _csv_rows(file: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    names = reader.fieldnames or []
    if missing := [name for name in COLUMNS[:2] if name not in names]:
        got = one_line(",".join(names), 80)
        raise ValueError(
            f"{file}: wanted a first line with the columns {','.join(COLUMNS)}; {missing[0]!r} is not in {got}"
        )
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for row in reader:
        if None in row:
            raise ValueError(f"{file}: line {reader.line_num}: wanted {len(names)} columns; got more")
        rows.append((f"line {reader.line_num}", row))
    return rows


def _json_rows(file: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({one_line(error)})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'{file}: wanted a list of {{"file": …, "label": …}}')
    return [(f"row {number}", row) for number, row in enumerate(rows)]


def _number(file: Path, row: str, key: str, value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ValueError(f"{file}: {row}: {key}: wanted a number of 0 or more; got {value!r}")
    return found


def _of_folders(root: Path, problems: list[Problem]) -> list[Clip]:
    folders = {folder.name.lower(): folder for folder in visible(root, problems)[0]}
    tests = [name for name in TEST_NAMES if name in folders]
    if "train" not in folders or not tests:
        return _of_classes(root, "", problems)
    clips = _of_classes(folders["train"], "train", problems) + _of_classes(folders[tests[0]], "test", problems)
    held = next((name for name in VALIDATION_NAMES if name in folders and name != tests[0]), None)
    return clips if held is None else clips + _of_classes(folders[held], "validation", problems)


def _of_classes(root: Path, part: Part, problems: list[Problem]) -> list[Clip]:
    clips = []
    for folder in visible(root, problems)[0]:
        label = unicodedata.normalize("NFC", folder.name)
        paths = _below(folder, problems)
        if not paths:
            problems.append(Problem(folder, f"class {label!r} has no clips", "folder"))
        names = [unicodedata.normalize("NFC", path.relative_to(folder).as_posix()) for path in paths]
        clips += [Clip(path, name, label, part) for path, name in zip(paths, names, strict=True)]
    return clips


def _below(folder: Path, problems: list[Problem]) -> list[Path]:
    """Video files and folders of frames at any depth."""
    folders, files = visible(folder, problems)
    found = []
    for file in files:
        if file.suffix.lower() in ENDINGS:
            found.append(file)
        else:
            problems.append(
                Problem(file, f"not a video file; wanted one of {' '.join(ENDINGS)}, or a folder of frames")
            )
    for inner in folders:
        found += [inner] if frame_files(inner) else _below(inner, problems)
    return found
