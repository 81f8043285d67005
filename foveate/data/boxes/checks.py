"""What is wrong with boxes, and which of them can be used."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foveate.data.boxes.folder import BoxedFolder, BoxedImage
from foveate.data.problems import Problem

SLACK = 1.0  # pixels that a box may reach beyond its image, by rounding or counting from 1; it is cut
MANY = 0.2  # share of boxes outside their images that speaks of another format
NAMED = 3


@dataclass
class BoxCheck:
    """Image after image; collects problems and what notes say of the whole.

    Args:
        classes: names.
    """

    classes: Sequence[str]
    problems: list[Problem] = field(default_factory=list)
    cut: list[Problem] = field(default_factory=list)  # boxes that are of use without what lies outside
    boxes: int = 0
    outside: int = 0
    slack: int = 0
    crowds: int = 0
    other_sizes: list[str] = field(default_factory=list)

    def usable(self, image: BoxedImage, size: tuple[int, int]) -> BoxedImage | None:
        """The image with the boxes that can be used, cut at its sides; None where it cannot be used.

        size: (width, height) of the file.
        """
        own = image.annotation
        self.boxes += len(own)
        self.crowds += int(own.crowd.sum())
        beyond = self._beyond(own.boxes, size)
        if image.written not in (None, size):
            written, there = (f"{side[0]}×{side[1]}" for side in (image.written or size, size))
            if (beyond > SLACK).any():
                reason = f"is annotated as an image of {written} pixels; the file has {there}, and boxes lie outside it"
                self.problems.append(Problem(image.path, reason))
                return None
            self.other_sizes.append(f"{image.name} ({written}; {there})")
        width, height = (own.boxes[:, side + 2] - own.boxes[:, side] for side in (0, 1))
        cut = own.boxes.clip(0, np.array(size * 2, np.float32))
        left = (cut[:, 2:] - cut[:, :2]).min(1, initial=np.inf)
        self.outside += int(((beyond > SLACK) & (width > 0) & (height > 0)).sum())
        for place in np.flatnonzero((width <= 0) | (height <= 0) | (beyond > SLACK) | (left <= 0)).tolist():
            if width[place] < 0 or height[place] < 0:
                what = "is inverted: its second corner lies before its first"
            elif width[place] == 0 or height[place] == 0:
                what = "has no area"
            elif left[place] <= 0:
                what = f"lies outside the image of {size[0]}×{size[1]} pixels"
            else:
                what = f"reaches {beyond[place]:.0f} pixels outside the image of {size[0]}×{size[1]}"
                self.cut.append(Problem(image.path, f"{self._named(image, place)} {what}"))
                continue
            self.problems.append(Problem(image.path, f"{self._named(image, place)} {what}"))
        kept = (width > 0) & (height > 0) & (left > 0)
        self.slack += int((kept & (beyond > 0) & (beyond <= SLACK)).sum())
        area = np.where(beyond > 0, (cut[:, 2:] - cut[:, :2]).prod(1), own.area)
        return dataclasses.replace(image, annotation=dataclasses.replace(own, boxes=cut, area=area).only(kept))

    def _beyond(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """(n,) the most pixels by which a box reaches beyond its image."""
        return np.concatenate([-boxes, boxes - np.array(size * 2, np.float32)], 1).max(1, initial=0)

    def _named(self, image: BoxedImage, place: int) -> str:
        x0, y0, x1, y1 = (f"{float(side):g}" for side in image.annotation.boxes[place])
        return f"box [{x0}, {y0}, {x1}, {y1}] of {self.classes[image.annotation.labels[place]]!r}"

    def other_format(self, found: BoxedFolder) -> list[Problem]:
        """A hint where many boxes lie outside and would lie inside if their last two numbers were a corner."""
        if self.outside <= MANY * self.boxes:
            return []
        for image in found.images:
            boxes = image.annotation.boxes
            corners = boxes[:, 2:] - boxes[:, :2]
            if (
                image.written is None
                or not ((corners > boxes[:, :2]) & (corners <= np.array(image.written) + SLACK)).all()
            ):
                return []
        reason = "boxes look like [x0, y0, x1, y1]; COCO's files have [x, y, width, height]"
        return [Problem(found.root, f"{self.outside:,} of {self.boxes:,} {reason}", "folder")]

    def notes(self, found: BoxedFolder) -> list[Problem]:
        """What a person should know about the whole: negatives, classes without boxes, crowds, sizes, boxes cut."""
        negatives = sum(not len(image.annotation) for image in found.images)
        lines = []
        if negatives:
            lines.append(f"{negatives:,} of {len(found.images):,} images without a box: negatives")
        there = {label for image in found.images for label in image.annotation.labels.tolist()}
        if there and (empty := [name for label, name in enumerate(found.classes) if label not in there]):
            some = ", ".join(map(repr, empty[:NAMED])) + ", …" * (len(empty) > NAMED)
            lines.append(f"classes without a single box: {len(empty):,}, {some}")
        if self.crowds:
            lines.append(f"boxes that are crowds or difficult: {self.crowds:,}, neither trained on nor counted")
        if self.slack:
            lines.append(f"boxes that reach up to 1 pixel beyond their image: {self.slack:,}, cut")
        if self.other_sizes:
            some = ", ".join(self.other_sizes[:NAMED]) + ", …" * (len(self.other_sizes) > NAMED)
            lines.append(f"images of another size than their annotations say: {len(self.other_sizes):,}, {some}")
        return [Problem(found.root, line, "note") for line in lines]


def class_problems(found: BoxedFolder) -> list[Problem]:
    """Parts without a box, and classes that are to be found and have no box to learn from."""
    counts = {part: Counter[int]() for part in found.parts}
    for image in found.images:
        counts[image.part].update(image.annotation.labels[~image.annotation.crowd].tolist())
    if not any(counts.values()):
        return [Problem(found.root, "no image has a box", "folder")]
    problems = [
        Problem(found.root, f"no image of the {part} part has a box", "folder") for part in counts if not counts[part]
    ]
    if counts.get("train"):
        for label, name in enumerate(found.classes):
            others = sum(of_part[label] for part, of_part in counts.items() if part != "train")
            if others and not counts["train"][label]:
                reason = f"class {name!r} has no training box, and {others:,} in the other parts"
                problems.append(Problem(found.root, reason, "folder"))
    return problems
