"""Every photo is opened and decoded before anything is trained on it; what passed is remembered."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from foveate.data.cache import load_record, save_record
from foveate.data.listing import Listing, Photo, Problem
from foveate.data.photos import decode

SHOWN = 20  # problems an error prints
VERSION = 1  # of what is checked: a new one checks again
Progress = Callable[[int, int], None]


def check_photos(listing: Listing, progress: Progress | None = None) -> tuple[str, list[Problem]]:
    """The fingerprint of the photos' contents, and every file that does not decode (with notes on equal files).

    Remembered by each file's name, size and time of change, so that the next process does not decode them again.

    Args:
        listing: of a folder.
        progress: called with (files done, files in all).
    """
    name = f"checked-{_state(listing)}"
    if kept := load_record(name):
        return str(kept["fingerprint"]), [Problem(listing.root, str(note), "note") for note in kept["notes"]]
    digests, problems = _decode_all(listing.photos, progress)
    whole = hashlib.sha256()
    for photo, digest in zip(listing.photos, digests, strict=True):
        whole.update(f"{photo.split}/{photo.label}/{photo.name}\0{digest}\n".encode(errors="replace"))
    notes = _equal_files(listing.photos, digests)
    if not problems:
        save_record(name, {"fingerprint": whole.hexdigest()[:16], "notes": notes})
    return whole.hexdigest()[:16], problems + [Problem(listing.root, note, "note") for note in notes]


def complain(root: Path, problems: Sequence[Problem], files: int) -> None:
    """Raise one ValueError that lists what makes the data unusable, the first 20 by path; notes alone raise nothing."""
    serious = [problem for problem in problems if problem.kind != "note"]
    if not serious:
        return
    if len(problems) == 1:
        raise ValueError(str(serious[0]))
    rest = f"\n  … and {len(serious) - SHOWN:,} more" if len(serious) > SHOWN else ""
    lines = "".join(f"\n  {problem}" for problem in serious[:SHOWN])
    notes = "".join(f"\n  note: {problem}" for problem in problems if problem.kind == "note")
    of = f" in {files:,} image files" if files else ""
    raise ValueError(f"{root}: {len(serious):,} problem{'s' * (len(serious) > 1)}{of}:{lines}{rest}{notes}")


def _state(listing: Listing) -> str:
    """What the check rests on: the place, and each file's name, size and time of change."""
    digest = hashlib.sha256(f"{VERSION} {listing.root.resolve()}\n".encode(errors="replace"))
    for photo in listing.photos:
        line = f"{photo.split}/{photo.label}/{photo.name}\0{photo.size}\0{photo.mtime_ns}\n"
        digest.update(line.encode(errors="replace"))
    return digest.hexdigest()[:32]


def _decode_all(photos: Sequence[Photo], progress: Progress | None) -> tuple[list[str], list[Problem]]:
    digests: list[str] = []
    problems: list[Problem] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        for start in range(0, len(photos), 256):  # in portions, so that Ctrl-C is heard
            portion = photos[start : start + 256]
            for photo, (digest, reason) in zip(portion, pool.map(_try, portion), strict=True):
                digests.append(digest)
                if reason:
                    problems.append(Problem(photo.path, reason))
            if progress is not None:
                progress(len(digests), len(photos))
    return digests, problems


def _try(photo: Photo) -> tuple[str, str]:
    """Hash of the contents, and why they do not decode ("" where they do)."""
    try:
        content = photo.path.read_bytes()
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}"
    reason = ""
    try:
        decode(content)
    except UnidentifiedImageError:
        reason = "not an image, whatever its name says"
    except Image.DecompressionBombError:
        reason = "more pixels than Pillow opens for safety's sake"
    except Exception as error:  # a decoder meets damage in many ways
        reason = f"corrupt or cut short: {error}" if str(error) else "corrupt or cut short"
    return hashlib.sha256(content).hexdigest(), reason


def _equal_files(photos: Sequence[Photo], digests: Sequence[str]) -> list[str]:
    """Notes on photos that are there twice where that falsifies a result: in two classes, or in train and test."""
    labels: dict[str, set[str]] = {}
    splits: dict[str, set[str]] = {}
    for photo, digest in zip(photos, digests, strict=True):
        labels.setdefault(digest, set()).add(photo.label)
        splits.setdefault(digest, set()).add(photo.split)
    notes = []
    if count := sum(len(found) > 1 for found in labels.values()):
        notes.append(f"{count:,} photo{'s are' if count > 1 else ' is'} there under more than one class")
    if count := sum(len(found) > 1 for found in splits.values()):
        notes.append(f"{count:,} photo{'s are' if count > 1 else ' is'} both in the train and in the test folder")
    return notes
