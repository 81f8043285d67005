"""Every mask is read before anything is trained on it: what its values are, and what is wrong with it."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from foveate.data.cache import load_record, save_record
from foveate.data.checks import examine
from foveate.data.dataset import IGNORED, Progress
from foveate.data.decode import ENDINGS
from foveate.data.masks.classes import ClassTable
from foveate.data.masks.files import MaskSource, shown_code, shown_codes
from foveate.data.masks.listing import Pairs
from foveate.data.problems import Problem, one_line

VERSION = 1  # of what is looked at: a new one looks again
MOST_CODES = 300  # values of one mask that are remembered
NAMED = 3  # files that a note names
MUCH = 0.5  # share of ignored pixels that is worth a note
_LOSSY = tuple(ending for ending in ENDINGS if ending.startswith(".j"))


@dataclass(frozen=True)
class MaskFacts:
    """What reading a mask showed.

    Attributes:
        size: (width, height); (0, 0) where it cannot be read.
        counts: pixels of each code, as [code, pixels]; of `MOST_CODES` codes at most.
        distinct: how many codes there are.
        alpha: has it an alpha channel?
        digest: hash of the codes.
        reason: why it cannot be read; "": it can.
    """

    size: tuple[int, int] = (0, 0)
    counts: tuple[tuple[int, int], ...] = ()
    distinct: int = 0
    alpha: bool = False
    digest: str = ""
    reason: str = ""

    @property
    def codes(self) -> list[int]:
        """The codes that are remembered."""
        return [code for code, _ in self.counts]


def check_masks(
    root: Path, masks: Sequence[MaskSource], *, colours: bool, progress: Progress | None = None
) -> list[MaskFacts]:
    """Read every mask. What was found is remembered, as long as no file changes, if every mask could be read.

    colours: as `read_codes` takes it.
    """
    state = hashlib.sha256(f"{VERSION} {root.resolve()} {colours}\n".encode(errors="replace"))
    for mask in masks:
        state.update(f"{mask.state}\n".encode(errors="replace"))
    name = f"masks-{state.hexdigest()[:32]}"
    kept = load_record(name)
    if kept is not None:
        return [_restored(row) for row in kept["masks"]]
    found = examine(masks, lambda mask: _facts(mask, colours), progress)
    if not any(facts.reason for facts in found):
        save_record(name, {"masks": [asdict(facts) for facts in found]})
    return found


def _restored(row: dict) -> MaskFacts:
    counts = tuple((int(code), int(pixels)) for code, pixels in row["counts"])
    return MaskFacts(**row | {"size": tuple(row["size"]), "counts": counts})


def _facts(mask: MaskSource, colours: bool) -> MaskFacts:
    try:
        codes, alpha = mask.read(colours=colours)
    except ValueError as error:
        return MaskFacts(reason=str(error).removeprefix(f"{mask.path}: "))
    values, pixels = np.unique(codes, return_counts=True)
    counts = tuple(zip(values[:MOST_CODES].tolist(), pixels[:MOST_CODES].tolist(), strict=True))
    digest = hashlib.blake2b(np.ascontiguousarray(codes).tobytes(), digest_size=8).hexdigest()
    return MaskFacts((codes.shape[1], codes.shape[0]), counts, len(values), alpha, digest)


def files_of_codes(pairs: Pairs, facts: Sequence[MaskFacts]) -> dict[int, list[Path]]:
    """The mask files that have each code."""
    found: dict[int, list[Path]] = defaultdict(list)
    for mask, one in zip(pairs.masks, facts, strict=True):
        for code in one.codes:
            found[code].append(mask.path)
    return found


def class_pixels(table: ClassTable, facts: Sequence[MaskFacts]) -> np.ndarray:
    """int64 (n, K + 1): pixels of each class in each mask, the ignored ones last."""
    count = len(table.names)
    found = np.zeros((len(facts), count + 1), np.int64)
    for row, one in zip(found, facts, strict=True):
        for code, pixels in one.counts:
            number = table.numbers.get(code, IGNORED)
            row[count if number == IGNORED else number] += pixels
    return found


def mask_problems(
    pairs: Pairs, sizes: Sequence[tuple[int, int]], facts: Sequence[MaskFacts], table: ClassTable
) -> list[Problem]:
    """What is wrong with each mask, and with all of them.

    sizes: (width, height) of each image, upright; (0, 0): it cannot be read.
    """
    problems = []
    for image, mask, size, one in zip(pairs.listing.photos, pairs.masks, sizes, facts, strict=True):
        if one.reason:
            problems.append(Problem(mask.path, one.reason))
            continue
        if size == (1, 1):
            problems.append(Problem(image.path, "an image of 1×1 pixel; wanted at least 2 pixels"))
        if size not in ((0, 0), one.size):
            reason = f"{_sides(one.size)} pixels; its image {image.name} has {_sides(size)} (width × height)"
            problems.append(Problem(mask.path, reason))
        unknown = table.unknown(one.codes)
        if unknown:
            problems.append(Problem(mask.path, _unknown(mask.path, one, unknown, table)))
    return problems


def _unknown(path: Path, facts: MaskFacts, unknown: Sequence[int], table: ClassTable) -> str:
    pixels = dict(facts.counts)
    listed = [f"{shown_code(code)} in {pixels[code]:,} pixel{'s' * (pixels[code] > 1)}" for code in sorted(unknown)[:4]]
    rest = len(unknown) + facts.distinct - len(facts.counts) - len(listed)
    known = shown_codes((code for code in table.numbers if table.numbers[code] != IGNORED), 4)
    lossy = "; JPEG changes values: save masks as PNG" if path.suffix.lower() in _LOSSY else ""
    more = f" and {rest:,} more" if rest else ""
    what = "value that stands" if len(unknown) == 1 else "values that stand"
    return f"{what} for no class: {', '.join(listed)}{more}; known: {known}{lossy}{table.hint}"


def set_problems(pairs: Pairs, facts: Sequence[MaskFacts], table: ClassTable) -> list[Problem]:
    """What is wrong or odd about all masks together; each was read."""
    root, problems = pairs.listing.root, []
    pixels = class_pixels(table, facts)
    there = pixels[:, :-1].sum(0) > 0
    if len(table.names) < 2:
        wanted = f"wanted masks of two or more classes; got {', '.join(map(repr, table.names)) or 'none'}"
        problems.append(Problem(root, f"{wanted} ({table.source})", "folder"))
    elif there.sum() < 2:
        only = ", ".join(repr(name) for name, found in zip(table.names, there, strict=True) if found) or "none"
        problems.append(Problem(root, f"wanted masks of two or more classes; only {only} occurs", "folder"))
    else:
        problems += _absent(pairs, pixels, table)
    known = pixels[:, :-1].sum(1)
    problems += _note(pairs, known == 0, "hold only ignored pixels", "holds only ignored pixels")
    alpha = np.array([one.alpha for one in facts], bool)
    one = "has an alpha channel, which says nothing about classes"
    problems += _note(pairs, alpha, one.replace("has", "have", 1), one)
    share = pixels[:, -1].sum() / max(pixels.sum(), 1)
    if share > MUCH:
        problems.append(Problem(root, f"{share:.0%} of all pixels are ignored", "note"))
    return problems


def _absent(pairs: Pairs, pixels: np.ndarray, table: ClassTable) -> list[Problem]:
    """Notes on classes that occur in no mask, or in none of a part."""
    root, missing = pairs.listing.root, pixels[:, :-1].sum(0) == 0
    problems = []
    if missing.any():
        problems.append(Problem(root, f"{_classes(table, missing)} in no mask", "note"))
    parts = np.array([photo.split for photo in pairs.listing.photos])
    for part in [part for part in pairs.listing.parts if part]:
        lacking = (pixels[parts == part, :-1].sum(0) == 0) & ~missing
        if lacking.any():
            problems.append(Problem(root, f"{_classes(table, lacking)} in no mask of the {part} part", "note"))
    return problems


def _classes(table: ClassTable, which: np.ndarray) -> str:
    names = [repr(table.names[number]) for number in np.flatnonzero(which)]
    shown = ", ".join(names[:8]) + ", …" * (len(names) > 8)
    return (
        f"{'class' if len(names) == 1 else f'{len(names)} classes'} that never occur{'s' * (len(names) == 1)}: {shown}"
    )


def _note(pairs: Pairs, which: np.ndarray, many: str, one: str) -> list[Problem]:
    places = np.flatnonzero(which).tolist()
    if not places:
        return []
    root = pairs.listing.root
    names = [_below(root, pairs.masks[place].path) for place in places[:NAMED]]
    shown = ", ".join(names) + ", …" * (len(places) > NAMED)
    return [
        Problem(
            root, f"{len(places):,} mask{'s' * (len(places) > 1)} {many if len(places) > 1 else one}: {shown}", "note"
        )
    ]


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else one_line(path)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
