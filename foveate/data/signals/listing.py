"""Which recordings a folder holds: files in class folders, or the rows of a table."""

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foveate.data.listing import visible
from foveate.data.problems import Problem, one_line
from foveate.data.signals.files import ENDINGS
from foveate.registry import nearest

TABLES = ("index.csv", "index.json")
RATES = ("rate", "rate_hz")  # columns with samples a second
SEARCHED = 20  # folders that are looked into to recognise the kind
_OTHER_ENDINGS = (".npy", ".csv", ".mat")  # which other kinds of data have as well


@dataclass(frozen=True)
class Recording:
    """One recording, not read yet.

    Attributes:
        path: of its file. key: of its array in a file of several; None: there is one.
        name: what it is called, unique in the folder.
        label: its class.
        columns: what the table says of it.
        rate: samples a second, as the table says; None: it does not.
        factor: that its samples are multiplied by.
    """

    path: Path
    key: str | None
    name: str
    label: str
    columns: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class SignalListing:
    """A folder of recordings as found; `columns` are those of its table."""

    root: Path
    recordings: tuple[Recording, ...]
    columns: tuple[str, ...]
    problems: tuple[Problem, ...]


def list_signals(
    root: Path,
    *,
    table: str | None = None,
    label: str = "label",
    key: str | None = None,
    factor: str | None = None,
    only: Mapping[str, Any] | None = None,
) -> SignalListing:
    """The recordings of root/<class>/…, or of a table.

    Args:
        root: the folder; files of a table lie in it.
        table: the table, where it is not index.csv or index.json in the folder.
        label: the table's column of classes.
        key: of the array in each file, or the table's column of that name.
        factor: the table's column with what samples are multiplied by.
        only: column → its values; other recordings are left out.

    Raises: ValueError: if the table cannot be read, a row of it cannot be used, or it has no such column.
    """
    problems: list[Problem] = []
    file = table_of(root) if table is None else Path(table).expanduser()
    if file is None:
        for option, value, usual in (("label", label, "label"), ("factor", factor, None), ("only", only or None, None)):
            if value != usual:
                raise ValueError(f"{option}: goes with a table, {' or '.join(TABLES)}; {root} has none")
        return SignalListing(root, tuple(_of_folders(root, key, problems)), (), tuple(problems))
    rows = _rows(file)
    columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
    keeps = {name: _kept(file, name, values, rows, columns) for name, values in (only or {}).items()}
    for option, name in (("label", label), ("factor", factor)):
        if name is not None and name not in columns:
            raise ValueError(f"{file}: {option}: no column is called {name!r}; {nearest(name, columns)}")
    found = []
    there = sorted(one.relative_to(root).as_posix() for one in root.rglob("*") if one.suffix.lower() in ENDINGS)
    only_file = _only_file(root)
    for place, row in rows:
        if all(row.get(name) in values for name, values in keeps.items()):
            found += _of_row(root, file, place, row, label, key, factor, there, only_file, problems)
    if twice := sorted(name for name, times in Counter(one.name for one in found).items() if times > 1):
        raise ValueError(f"{file}: wanted each recording once; got {twice[0]} twice")
    return SignalListing(root, tuple(found), columns, tuple(problems))


def table_of(root: Path) -> Path | None:
    """The table of a folder; None where it has none."""
    return next((root / name for name in TABLES if (root / name).is_file()), None)


def is_of_signals(source: str) -> bool:
    """Has a folder a table of recordings, or class folders of such files alone?"""
    root = Path(source).expanduser()
    if not root.is_dir():
        return False
    if (file := table_of(root)) is not None:
        try:
            first = _rows(file)[0][1]
        except ValueError:
            return False
        return first.get("file", "").lower().endswith(ENDINGS) or ("file" not in first and _only_file(root) is not None)
    folders = visible(root, [])[0][:SEARCHED]
    files = [file for folder in folders for file in visible(folder, [])[1]]
    return len(folders) > 1 and bool(files) and all(file.suffix.lower() in (".wav", *_OTHER_ENDINGS) for file in files)


def values_of(listing: SignalListing, column: str) -> list[str]:
    """A column's value of each recording. Raises: ValueError: if there is no such column, or a row has none."""
    if column not in listing.columns:
        what = (
            f"{listing.root}: no column {column!r} to divide by; {nearest(column, ('time', 'file', *listing.columns))}"
        )
        raise ValueError(what)
    for one in listing.recordings:
        if one.columns.get(column, "") == "":
            raise ValueError(f"{listing.root}: {one.name} has no {column!r}")
    return [one.columns[column] for one in listing.recordings]


def as_values(option: str, given: Any) -> tuple[str, ...]:
    """Values of a column as its text, from one value or a list. Raises: ValueError: if it is neither."""
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not several or not all(isinstance(one, (str, int, float)) for one in several):
        raise ValueError(f"{option}: wanted a value or a list of values; got {given!r}")
    return tuple(_text(one) for one in several)


def _text(value: Any) -> str:
    """A cell as text: 1.0 and 1 are one value."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else "" if value is None else str(value)


def _kept(
    file: Path, name: str, given: Any, rows: Sequence[tuple[str, Mapping[str, str]]], columns: tuple[str, ...]
) -> tuple[str, ...]:
    if name not in columns:
        raise ValueError(f"{file}: only: no column is called {name!r}; {nearest(name, columns)}")
    there = {row.get(name, "") for _, row in rows}
    wanted = as_values(f"only: {name}", given)
    for value in wanted:
        if value not in there:
            raise ValueError(f"only: no recording has {name} = {value!r}; {nearest(value, sorted(there))}")
    return wanted


def _of_row(
    root: Path,
    file: Path,
    place: str,
    row: Mapping[str, str],
    label: str,
    key: str | None,
    factor: str | None,
    there: Sequence[str],
    only_file: Path | None,
    problems: list[Problem],
) -> list[Recording]:
    """No recording where the file is missing, which is one of the problems. there: files of recordings in the folder;
    only_file: the one of several recordings."""
    if row.get(label, "") == "":
        raise ValueError(f"{file}: {place}: wanted a {label!r}; got {one_line(json.dumps(row), 80)}")
    name = row.get("file", "")
    path = root / name if name else only_file
    if path is None:
        raise ValueError(f"{file}: {place}: wanted a 'file', or one file of recordings in the folder")
    if not path.is_file():
        near = get_close_matches(name, there, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        problems.append(Problem(file, f"{place}: names {one_line(name)}; there is no such file{hint}"))
        return []
    own = row.get("key") or key
    called = row.get("key", "") if not name else f"{name}:{row['key']}" if row.get("key") else name
    rate = next((row[column] for column in RATES if row.get(column)), None)
    return [
        Recording(
            path,
            own,
            called or name,
            row[label],
            row,
            None if rate is None else _positive(file, place, "rate", rate),
            1.0 if factor is None else _positive(file, place, factor, row.get(factor, "")),
        )
    ]


def _positive(file: Path, place: str, name: str, value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise ValueError(f"{file}: {place}: {name}: wanted a positive number; got {value!r}")
    return found


def _only_file(root: Path) -> Path | None:
    """The one file of several recordings in the folder."""
    files = [file for file in visible(root, [])[1] if file.suffix.lower() in (".npz", ".mat")]
    return files[0] if len(files) == 1 else None


def _rows(file: Path) -> list[tuple[str, dict[str, str]]]:
    """Each row with what it is called in errors. Of a JSON object the one list of objects in it is the table, and its
    texts and numbers are columns of every row."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows: list[tuple[str, dict[str, str]]] = []
    if file.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{file}: is no JSON ({one_line(error)})") from None
        shared: dict[str, Any] = {}
        if isinstance(content, dict):
            shared = {name: value for name, value in content.items() if isinstance(value, (str, int, float))}
            lists = [value for value in content.values() if isinstance(value, list)]
            content = lists[0] if len(lists) == 1 else None
        if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
            raise ValueError(f'{file}: wanted a list of {{"file": …, "label": …}}, or an object with one such list')
        rows = [
            (f"row {number}", {str(name): _text(value) for name, value in {**shared, **row}.items()})
            for number, row in enumerate(content)
        ]
    else:
        reader = csv.DictReader(io.StringIO(text))
        names = reader.fieldnames or []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{file}: line {reader.line_num}: wanted {len(names)} columns; got more or fewer")
            rows.append((f"line {reader.line_num}", {name.strip(): value.strip() for name, value in row.items()}))
    if not rows:
        raise ValueError(f"{file}: wanted a recording a row; got no rows")
    return rows


def _of_folders(root: Path, key: str | None, problems: list[Problem]) -> list[Recording]:
    found: list[Recording] = []
    for folder in visible(root, problems)[0]:
        label = unicodedata.normalize("NFC", folder.name)
        before = len(found)
        for file in sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith(".")):
            if file.suffix.lower() in ENDINGS:
                found.append(Recording(file, key, file.relative_to(root).as_posix(), label))
            else:
                problems.append(Problem(file, f"not a recording; wanted one of {' '.join(ENDINGS)}"))
        if len(found) == before:
            problems.append(Problem(folder, f"class {label!r} has no recordings", "folder"))
    if not found and not problems:
        wanted = f"wanted recordings in class folders, such as {root}/normal/1.wav, or a table {TABLES[0]}"
        problems.append(Problem(root, f"{wanted}; got none", "folder"))
    return found
