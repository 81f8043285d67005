"""The image files that annotations name: where they lie, and what is nearest where one is missing."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from foveate.data.decode import ENDINGS
from foveate.data.problems import Problem, one_line

SEARCHED = 5000  # file names among which the nearest is looked for
HINTED = 20  # missing files whose nearest is looked for


@dataclass(frozen=True)
class ImageFiles:
    """Folders in which images may lie, the first that has a file counts."""

    root: Path
    folders: Sequence[Path]

    def find(
        self, names: Sequence[str], named_in: Path, problems: list[Problem], *, stems: Sequence[str] = ()
    ) -> list[Path | None]:
        """The file of each name, or else of each stem with the ending of an image, or None; what is missing is a
        problem of the file or folder that names it."""
        folders = [folder for folder in dict.fromkeys(self.folders) if folder.is_dir()]
        found = [self._one(name, folders) for name in names]
        for place, stem in enumerate(stems):
            if found[place] is None:
                each = (self._one(stem + ending, folders) for ending in ENDINGS)
                found[place] = next((path for path in each if path is not None), None)
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        if not missing:
            return found
        there = self._there(folders)
        if len(missing) == len(names):
            near = self._nearest(missing[0], there)
            reason = f"annotations of another data set? None of the {len(names):,} images it names is there"
            hint = f"; nearest to {Path(missing[0]).name!r}: {near!r}" if near else f"; no image lies in {self.root}"
            problems.append(Problem(named_in, f"{reason}, such as {one_line(missing[0], 60)!r}{hint}", "folder"))
            return found
        for number, name in enumerate(missing):
            near = self._nearest(name, there) if number < HINTED else ""
            hint = f"; did you mean {near!r}?" if near else ""
            problems.append(Problem(named_in, f"names {one_line(name, 80)}; there is no such file{hint}"))
        return found

    def _one(self, name: str, folders: list[Path]) -> Path | None:
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        return None

    def _there(self, folders: list[Path]) -> list[str]:
        names: list[str] = []
        for folder in folders:
            names += sorted(file.name for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
            if len(names) > SEARCHED:
                break
        return names[:SEARCHED]

    def unused(self, used: Collection[Path]) -> list[Problem]:
        """A note on image files beside those used that no annotation names."""
        beside = [
            file
            for folder in sorted({path.parent for path in used})
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in ENDINGS and file not in used
        ]
        if not beside:
            return []
        one = len(beside) == 1
        reason = (
            f"{len(beside):,} image{'s' * (not one)} beside them {'is' if one else 'are'} in no annotation and left out"
        )
        return [Problem(self.root, f"{reason}: {beside[0].name}{', …' * (not one)}", "note")]

    def _nearest(self, name: str, there: list[str]) -> str:
        near = get_close_matches(Path(name).name, there, 1, 0.0)
        return near[0] if near else ""
