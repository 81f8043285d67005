"""Kind "listed": images in one folder, and a file that says the class of each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.data.dataset import Dataset, LabelledImages, Progress, register_data
from foveate.data.decode import ENDINGS
from foveate.data.folders import open_listing, problems_of
from foveate.data.listing import Listing, Photo
from foveate.data.problems import Problem, complain, one_line
from foveate.data.source import folder_of
from foveate.data.transforms import CROP, MEAN, STD, Preprocessing
from foveate.registry import nearest
from foveate.spec import DataSpec

LABELS = "labels.json"
_KEYS = ("index", "label", "class", "wnid")  # of a row, what says the class


def _is_listed(source: str) -> bool:
    file = Path(source).expanduser() / LABELS
    try:
        rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError):
        return False
    names = list(rows) if isinstance(rows, dict) else [_field(row, "file") for row in rows or []]
    return rows == [] or bool(names and isinstance(names[0], str) and names[0].lower().endswith(ENDINGS))


def read_labels(file: Path) -> list[tuple[str, str | int]]:
    """Names of files and the class of each: a name, or a number where the file says one.

    Args:
        file: a JSON list of {"file", "index"} ("label", "class" or "wnid" in its place), a JSON object {file: class},
            or lines "file class".

    Raises: ValueError: if the file cannot be read, or a row says something else; names the row.
    """
    try:
        text = file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    pairs = _rows(file, text) if file.suffix.lower() == ".json" else _lines(file, text)
    if not pairs:
        raise ValueError(f"{file}: wanted an image and its class a row, got no rows")
    for name, label in pairs:
        if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
            raise ValueError(f"{file}: {one_line(name, 60)}: wanted a class, got {one_line(json.dumps(label), 60)}")
    return [(name, int(label) if str(label).isdecimal() else label) for name, label in pairs]


def _lines(file: Path, text: str) -> list[tuple[str, Any]]:
    rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise ValueError(f"{file}: line {number}: wanted 'file class', got {one_line(' '.join(row), 60)!r}")
    return [(row[0], row[1]) for row in rows]


def _rows(file: Path, text: str) -> list[tuple[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({one_line(error)})") from None
    if isinstance(content, dict):
        return list(content.items())
    pairs = []
    for place, row in enumerate(content if isinstance(content, list) else [None]):
        label = next((row[key] for key in _KEYS if key in row), None) if isinstance(row, dict) else None
        if label is None or not isinstance(row.get("file"), str):
            got = one_line(json.dumps(row), 60)
            raise ValueError(f'{file}: row {place}: wanted {{"file": …, "index": …}}, got {got}')
        pairs.append((row["file"], label))
    return pairs


def _field(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else None


def _listing(folder: Path, file: Path) -> tuple[Listing, list[str | int]]:
    """The photos in the file's order, and what it says of each."""
    pairs = read_labels(file)
    photos, problems = [], []
    for name, label in pairs:
        path = folder / name
        try:
            stat = path.stat()
        except OSError as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
            problems.append(Problem(file, f"names {one_line(path)}; {reason}"))
            continue
        if stat.st_size:
            photos.append(Photo(path, "", str(label), name, stat.st_size, stat.st_mtime_ns))
        else:
            problems.append(Problem(path, "empty file (0 bytes)"))
    numbers = sorted({label for _, label in pairs if isinstance(label, int)})
    names = sorted({label for _, label in pairs if isinstance(label, str)})
    classes = (*map(str, numbers), *names)
    if len(set(classes)) < 2:
        problems.append(Problem(file, f"wanted at least two classes, got {len(set(classes))}", "folder"))
    return Listing(folder, classes, tuple(photos), tuple(problems), {"": folder}), [label for _, label in pairs]


def _file(folder: Path, labels: str | Path | None) -> Path:
    return folder / LABELS if labels is None else Path(labels).expanduser()


def evaluation_images(folder: Path, *, labels: str | Path | None = None) -> LabelledImages:
    """All images of the list, for evaluation. Raises: ValueError: if the list or a file cannot be used."""
    listing, labelled = _listing(folder, _file(folder, labels))
    problems = [problem for problem in listing.problems if problem.kind == "file"]
    complain(folder, problems, len(listing.photos))
    files = [photo.path for photo in listing.photos]
    return LabelledImages(folder.resolve().name, files, [str(file) for file in files], labelled)


def find_problems(
    folder: Path, *, progress: Progress | None = None, labels: str | Path | None = None, skip_bad: bool = False
) -> list[Problem]:
    """Everything that is wrong with the list and its images, and notes on what is merely odd."""
    return problems_of(_listing(folder, _file(folder, labels))[0], progress, skip_bad)


@register_data("listed", recognises=_is_listed, check=find_problems, evaluation_images=evaluation_images)
def open_listed(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    labels: str | None = None,
    skip_bad: bool = False,
    crop_pct: float = CROP,
    interpolation: str = "bilinear",
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    bgr: bool = False,
    group: str | None = None,
) -> Dataset:
    """Photos of a list; test_fraction of each class is held out. Otherwise as kind "folders".

    Args:
        labels: the list, as `read_labels` takes it; None: labels.json in the folder.
        skip_bad, crop_pct, interpolation, mean, std, bgr: as kind "folders" takes them.
        group: key of the list's rows, such as "subject", that says what an image belongs to.

    Raises: ValueError: if the list or a file of it cannot be used.
    """
    folder = folder_of(spec.source)
    preprocessing = Preprocessing.square(folder, spec.size, crop_pct, interpolation, mean, std, bgr)
    file = _file(folder, labels)
    listing, _ = _listing(folder, file)
    groups = None if group is None else {folder / name: value for name, value in _groups(file, group).items()}
    return open_listing(listing, spec, preprocessing, progress=progress, skip_bad=skip_bad, groups=groups)


def _groups(file: Path, key: str) -> dict[str, str]:
    """File → what it belongs to. Raises: ValueError: if a row does not say it, or the list is of another form."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.suffix.lower() == ".json" else None
    if not isinstance(content, list):
        raise ValueError(f'{file}: group: wanted a JSON list of rows {{"file": …, "index": …, "{key}": …}}')
    for row in content:
        if not isinstance(row.get(key), (str, int)) or row[key] == "":
            raise ValueError(f"{file}: group: {row['file']!r} has no {key!r}; {nearest(key, list(row))}")
    return {row["file"]: str(row[key]) for row in content}
