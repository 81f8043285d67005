"""Every photo is opened and decoded before anything is trained on it; what passed is remembered."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from foveate.data.cache import load_record, save_record
from foveate.data.dataset import Progress
from foveate.data.decode import decode, why_unreadable
from foveate.data.listing import Listing, Photo
from foveate.data.problems import Problem

VERSION = 3  # of what is checked: a new one checks again
NAMED = 3  # pairs of equal files that a note names
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Checked:
    """What decoding every photo of a listing showed.

    Attributes:
        fingerprint: of all names and contents.
        problems: every file that does not decode.
        copies: the numbers of photos with the same content, a tuple for each content that is there more than once.
        sizes: (width, height) of each photo, upright; (0, 0) of one that does not decode.
        smallest, largest: (width, height) of the photos with the fewest and the most pixels; None where none decodes.
    """

    fingerprint: str
    problems: tuple[Problem, ...]
    copies: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, int], ...]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None


def check_photos(listing: Listing, progress: Progress | None = None) -> Checked:
    """Decode every photo. A check without problems is remembered by each file's name, size and time of change.

    Args:
        listing: of a folder.
        progress: called with (files done, files in all).
    """
    name = f"checked-{_state(listing)}"
    kept = load_record(name)
    if kept is None:
        kept, problems = _decode_all(listing.photos, progress)
        if not problems:
            save_record(name, kept)
    else:
        problems = []
    sizes = tuple((int(width), int(height)) for width, height in kept["sizes"])
    by_area = sorted((size for size in sizes if size != (0, 0)), key=lambda size: size[0] * size[1])
    copies = tuple(tuple(numbers) for numbers in kept["copies"])
    smallest, largest = (by_area[0], by_area[-1]) if by_area else (None, None)
    return Checked(str(kept["fingerprint"]), tuple(problems), copies, sizes, smallest, largest)


def note_copies(listing: Listing, copies: Sequence[Sequence[int]]) -> list[Problem]:
    """Notes on photos that are there more than once, with the names of both files of the first pairs: in two classes,
    in folders of two parts, or within one class or part."""
    found: dict[str, list[tuple[Photo, Photo]]] = {"classes": [], "parts": [], "twice": []}
    for numbers in copies:
        photos = [listing.photos[number] for number in numbers]
        first = photos[0]
        for key, field in (("classes", "label"), ("parts", "split")):
            others = [photo for photo in photos if getattr(photo, field) != getattr(first, field)]
            found[key] += [(first, photo) for photo in others[:1]]
        same = [photo for photo in photos[1:] if (photo.split, photo.label) == (first.split, first.label)]
        found["twice"] += [(first, photo) for photo in same[:1]]
    side = "" if len(listing.parts) > 1 else "; all copies are kept on one side of the split"
    where = "both in the train and in the test folder"
    if "validation" in listing.parts:
        where = "in more than one of the train, validation and test folders"
    one_class, many_classes = (" in its class", " in their class") if listing.classes else ("", "")
    sentences = {
        "classes": ("is there under more than one class", "are there under more than one class", ""),
        "parts": (f"is {where}", f"are {where}", ""),
        "twice": (f"is there more than once{one_class}", f"are there more than once{many_classes}", side),
    }
    notes = []
    for key, pairs in found.items():
        if pairs:
            one, many, end = sentences[key]
            named = ", ".join(f"{_place(listing, a)} = {_place(listing, b)}" for a, b in pairs[:NAMED])
            count = f"{len(pairs):,} photo{'s' * (len(pairs) > 1)} {many if len(pairs) > 1 else one}"
            notes.append(Problem(listing.root, f"{count}: {named}{', …' * (len(pairs) > NAMED)}{end}", "note"))
    return notes


def _place(listing: Listing, photo: Photo) -> str:
    return photo.path.relative_to(listing.root).as_posix()


def _state(listing: Listing) -> str:
    """What the check rests on: the place, and each file's name, size and time of change."""
    digest = hashlib.sha256(f"{VERSION} {listing.root.resolve()}\n".encode(errors="replace"))
    for photo in listing.photos:
        line = f"{photo.split}/{photo.label}/{photo.name}\0{photo.size}\0{photo.mtime_ns}\n"
        digest.update(line.encode(errors="replace"))
    return digest.hexdigest()[:32]


def examine(items: Sequence[Item], one: Callable[[Item], Found], progress: Progress | None) -> list[Found]:
    """What `one` says of each item, in order, from several threads.

    progress: called with (items done, items in all).
    """
    found: list[Found] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        for start in range(0, len(items), 256):  # in portions, so that Ctrl-C is heard
            found += pool.map(one, items[start : start + 256])
            if progress is not None:
                progress(len(found), len(items))
    return found


def _decode_all(photos: Sequence[Photo], progress: Progress | None) -> tuple[dict[str, Any], list[Problem]]:
    """The record that is remembered, and the problems."""
    problems: list[Problem] = []
    alike: dict[str, list[int]] = {}
    sizes: list[tuple[int, int]] = []
    whole = hashlib.sha256()
    for number, (photo, (digest, size, reason)) in enumerate(zip(photos, examine(photos, _try, progress), strict=True)):
        whole.update(f"{photo.split}/{photo.label}/{photo.name}\0{digest}\n".encode(errors="replace"))
        sizes.append((0, 0) if reason else size)
        if reason:
            problems.append(Problem(photo.path, reason))
        else:
            alike.setdefault(digest, []).append(number)
    record = {
        "fingerprint": whole.hexdigest()[:16],
        "copies": [numbers for numbers in alike.values() if len(numbers) > 1],
        "sizes": sizes,
    }
    return record, problems


def _try(photo: Photo) -> tuple[str, tuple[int, int], str]:
    """Hash of the contents, size of the image, and why they do not decode ("" where they do)."""
    digest, size = "", (0, 0)
    try:
        content = photo.path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        size = decode(content).size
    except Exception as error:  # a decoder meets damage in many ways
        return digest, size, why_unreadable(error)
    return digest, size, ""
