"""The folder that a data source names."""

from difflib import get_close_matches
from pathlib import Path

from foveate.spec import EMBEDDED


def folder_of(source: str) -> Path:
    """The folder. Raises: ValueError: if there is none; the nearest name beside it is given."""
    if not source.strip():
        raise ValueError(f"data: wanted {EMBEDDED!r} or a folder; got an empty name")
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{source}: wanted a folder (or {EMBEDDED!r}), got a file; an archive must be unpacked first")
    try:
        beside = {entry.name: str(path.parent / entry.name) for entry in path.parent.iterdir() if entry.is_dir()}
    except OSError:
        beside = {}
    near = get_close_matches(path.name, [EMBEDDED, *beside], 1)
    hint = f"; did you mean {beside.get(near[0], near[0])!r}?" if near else ""
    raise ValueError(f"{source}: wanted {EMBEDDED!r} or a folder, got neither: there is no such folder{hint}")
