"""What is wrong with a user's data, and the one-line errors that say so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SHOWN = 20  # problems that an error lists
LONGEST = 200  # characters of a foreign message that are repeated


@dataclass(frozen=True)
class Problem:
    """Something found in a user's folder.

    Attributes:
        path: of the file or folder.
        reason: what is wrong, and what is expected instead.
        kind: "file" or "folder": the data cannot be used; "note": they can.
    """

    path: Path
    reason: str
    kind: Literal["file", "folder", "note"] = "file"

    def __str__(self) -> str:
        path = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(self.path))
        return f"{path}: {self.reason}"


def one_line(text: object, most: int = LONGEST) -> str:
    """Foreign text in one line without control characters, cut after `most` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def complain(root: Path, problems: Sequence[Problem], files: int) -> None:
    """Raise one ValueError that lists what makes the data unusable, the first 20 by path; notes alone raise nothing."""
    serious = [problem for problem in problems if problem.kind != "note"]
    if not serious:
        return
    if len(serious) == 1:
        raise ValueError(str(serious[0]))
    rest = f"\n  … and {len(serious) - SHOWN:,} more" if len(serious) > SHOWN else ""
    lines = "".join(f"\n  {problem}" for problem in serious[:SHOWN])
    of = f" in {files:,} image files" if files else ""
    raise ValueError(f"{root}: {len(serious):,} problems{of}:{lines}{rest}")
