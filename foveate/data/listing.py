"""What lies in a folder of class folders: files by class and split, and whatever is wrong with the folder itself."""

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.data.decode import ENDINGS
from foveate.data.problems import Problem

VALIDATION_NAMES = ("val", "valid", "validation")  # the first that is there is used
TEST_NAMES = ("test", *VALIDATION_NAMES)  # without a test folder, the validation folder is the test part
_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
Part = Literal["", "train", "validation", "test"]


@dataclass(frozen=True)
class Photo:
    """One file: its split ("" where the folder has none of its own), class, name inside the class folder, stat."""

    path: Path
    split: Part
    label: str
    name: str
    size: int
    mtime_ns: int

    @property
    def key(self) -> int:
        """64 bits of its class and name: the same on any machine and in any order of listing."""
        return int.from_bytes(hashlib.sha256(f"{self.label}/{self.name}".encode(errors="replace")).digest()[:8])


@dataclass(frozen=True)
class Listing:
    """A folder of class folders as found, nothing decoded yet; photos are in order of split, class and name.

    parts: the folder of each part, train first; a folder without parts of its own is that of "".
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    problems: tuple[Problem, ...]
    parts: Mapping[Part, Path]


def list_photos(root: Path) -> Listing:
    """Every file under root/<class>/, or root/train/<class>/, root/test/<class>/ and root/val/<class>/.

    val, valid or validation is the validation part beside test, and the test part where there is no test.
    """
    problems: list[Problem] = []
    folders, loose = visible(root, problems)
    named = {folder.name.lower(): folder for folder in folders}
    has_train = "train" in named and _has_folders(named["train"])
    tests = [named[name] for name in TEST_NAMES if name in named and _has_folders(named[name])]
    parts: dict[Part, Path] = {"": root}
    if has_train and tests:
        parts = _parts(root, named, tests, problems)
        by_class = [_classes(place, part, problems) for part, place in parts.items()]
        for place, found in list(zip(parts.values(), by_class, strict=True))[1:]:
            _same_classes(parts["train"], by_class[0], place, found, problems)
        for folder in folders:
            if folder not in parts.values():
                what = f"{' and '.join(place.name for place in list(parts.values())[1:])} beside train"
                problems.append(Problem(folder, f"left out: the folders used are {what}", "note"))
    elif has_train and len(folders) == 1:
        wanted = f"wanted a test folder beside train ({', '.join(TEST_NAMES)}), got none; to hold some photos out"
        problems.append(Problem(root, f"{wanted}, give {named['train']} itself", "folder"))
        by_class = []
    else:
        by_class = [_classes(root, "", problems)]
        _enough(root, by_class[0], loose, problems)
    if by_class and any(by_class):
        _note_loose(root, loose, problems)
    names = tuple(sorted(by_class[0])) if by_class else ()
    return Listing(root, names, _in_order(by_class), tuple(problems), parts)


def list_test_photos(root: Path) -> Listing:
    """The photos that a network is tested on: those of the test folder where there is one, else of all class folders.

    Fewer than two classes, and classes of one photo, are no problem here.
    """
    problems: list[Problem] = []
    folders, loose = visible(root, problems)
    named = {folder.name.lower(): folder for folder in folders}
    tests = [named[name] for name in TEST_NAMES if name in named and _has_folders(named[name])]
    place = tests[0] if tests else root
    for folder in tests[1:]:
        problems.append(Problem(folder, f"left out: {place.name} is the test folder", "note"))
    found = _classes(place, "test", problems)
    if not found:
        images = sum(file.suffix.lower() in ENDINGS for file in visible(place, [])[1])
        got = f"{images:,} images without classes (--labels FILE says them)" if images else "none"
        reason = f"wanted class folders of images, such as {place}/cat/1.jpg; got {got}"
        problems.append(Problem(place, reason, "folder"))
    elif len(found) == 1 and (hint := _guess_inside(place / next(iter(found)))):
        reason = f"wanted class folders of images, got 1: {next(iter(found))!r}{hint}"
        problems.append(Problem(place, reason, "folder"))
    if place == root and found:
        _note_loose(root, loose, problems)
    return Listing(root, tuple(sorted(found)), _in_order([found]), tuple(problems), {"": place})


def _parts(root: Path, named: dict[str, Path], tests: list[Path], problems: list[Problem]) -> dict[Part, Path]:
    """The folder of each part, the training part first."""
    if tests[0] != named.get("test"):
        taken = f"{tests[0].name} is the test part, as there is no test folder"
        problems.append(Problem(root, taken, "note"))
        return {"train": named["train"], "test": tests[0]}
    for name in VALIDATION_NAMES:
        if name in named and not _has_folders(named[name]):
            problems.append(Problem(named[name], "wanted class folders of the validation part; got none", "folder"))
    parts: dict[Part, Path] = {"train": named["train"]}
    if tests[1:]:
        parts["validation"] = tests[1]
    return parts | {"test": tests[0]}


def _in_order(by_class: list[dict[str, list[Photo]]]) -> tuple[Photo, ...]:
    return tuple(photo for classes in by_class for name in sorted(classes) for photo in classes[name])


def _has_folders(folder: Path) -> bool:
    return bool(visible(folder, [])[0])


def _note_loose(root: Path, loose: list[Path], problems: list[Problem]) -> None:
    images = [file for file in loose if file.suffix.lower() in ENDINGS]
    if images:
        count = f"{len(images):,} loose image{'s' * (len(images) > 1)} beside the class folders left out"
        problems.append(Problem(root, f"{count}: {images[0].name}{', …' * (len(images) > 1)}", "note"))


def _guess_inside(folder: Path) -> str:
    """The hint for a folder given one level too high: the one folder inside that has the class folders; "" if none."""
    inside = [entry.name for entry in visible(folder, [])[0]]
    if len(inside) < 2:
        return ""
    return f"; did you mean {str(folder)!r}, which has {', '.join(map(repr, inside[:3]))}{', …' * (len(inside) > 3)}?"


def _classes(folder: Path, split: Part, problems: list[Problem]) -> dict[str, list[Photo]]:
    """The photos of every class folder; a class without any is a problem."""
    found: dict[str, list[Photo]] = {}
    for place in visible(folder, problems)[0]:
        label = unicodedata.normalize("NFC", place.name)
        found[label] = []
        for file in walk(place, problems, set()):
            name = unicodedata.normalize("NFC", file.relative_to(place).as_posix())
            try:
                stat = file.stat()
            except OSError as error:
                problems.append(Problem(file, "a link to nothing" if file.is_symlink() else _why(error)))
                continue
            if file.suffix.lower() not in ENDINGS:
                problems.append(Problem(file, f"not an image file; wanted one of {' '.join(ENDINGS)}"))
            elif not stat.st_size:
                problems.append(Problem(file, "empty file (0 bytes)"))
            else:
                found[label].append(Photo(file, split, label, name, stat.st_size, stat.st_mtime_ns))
        if not found[label]:
            problems.append(Problem(place, f"class {label!r} has no images", "folder"))
    return found


def _enough(root: Path, classes: dict[str, list[Photo]], loose: list[Path], problems: list[Problem]) -> None:
    images = sum(file.suffix.lower() in ENDINGS for file in loose)
    wanted = f"wanted at least two class folders such as {root}/cats/1.jpg and {root}/dogs/1.jpg"
    if not classes:
        got = (
            f"{images:,} loose image{'s' * (images > 1)} and no folder"
            if images
            else "no image"
            if loose
            else "an empty folder"
        )
        problems.append(Problem(root, f"{wanted}, got {got}", "folder"))
    elif len(classes) == 1:
        only = next(iter(classes))
        reason = f"wanted at least two class folders, got 1: {only!r}{_guess_inside(root / only)}"
        problems.append(Problem(root, reason, "folder"))
    for label, photos in classes.items():
        if len(photos) == 1 and len(classes) > 1:
            reason = f"class {label!r} has 1 image, too few to hold one out for testing; wanted at least 2"
            problems.append(Problem(root / label, reason, "folder"))


def _same_classes(
    train_folder: Path,
    train: dict[str, list[Photo]],
    test_folder: Path,
    test: dict[str, list[Photo]],
    problems: list[Problem],
) -> None:
    if len(train) == 1:
        reason = f"wanted at least two class folders, got 1: {next(iter(train))!r}"
        problems.append(Problem(train_folder, reason, "folder"))
    for folder, names, other in ((train_folder, train, test_folder), (test_folder, test, train_folder)):
        if missing := sorted({*train, *test} - set(names)):
            reason = f"lacks the class {', '.join(map(repr, missing[:5]))} that {other.name} has"
            problems.append(Problem(folder, reason, "folder"))


def visible(folder: Path, problems: list[Problem]) -> tuple[list[Path], list[Path]]:
    """Its folders and its files, sorted; hidden ones and those an operating system leaves behind are passed over."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: unicodedata.normalize("NFC", entry.name))
    except OSError as error:
        problems.append(Problem(folder, _why(error), "folder"))
        return [], []
    entries = [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in _NOT_DATA]
    return [entry for entry in entries if entry.is_dir()], [entry for entry in entries if not entry.is_dir()]


def walk(folder: Path, problems: list[Problem], seen: set[str]) -> list[Path]:
    """All files below; a link that leads back to a folder already walked is not followed twice."""
    real = os.path.realpath(folder)
    if real in seen:
        return []
    seen.add(real)
    folders, files = visible(folder, problems)
    return files + [file for inner in folders for file in walk(inner, problems, seen)]


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
