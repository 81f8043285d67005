"""Files written whole, and drawings as pictures."""

from pathlib import Path

from foveate.files import write_whole
from foveate.report.drawing import Drawing


def write_picture(drawing: Drawing, path: Path | str) -> None:
    """Write a drawing as .png or .svg, as the name ends.

    Raises: ValueError: another ending. OSError: it cannot be written; it names the file.
    """
    path = picture_path(path)
    write_whole(path, drawing.png() if path.suffix.lower() == ".png" else drawing.standalone().encode())


def picture_path(path: Path | str) -> Path:
    """The path of a picture, before anything is drawn.

    Raises: ValueError: it ends neither in .png nor in .svg, or there is no such folder.
    """
    path = Path(path)
    if path.suffix.lower() not in {".png", ".svg"}:
        raise ValueError(f"wanted the name of a picture that ends in .png or .svg; got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    return path
