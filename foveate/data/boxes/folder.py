"""Images with boxes as a reader found them in a folder, before anything is decoded or checked."""

from dataclasses import dataclass
from pathlib import Path

from foveate.data.annotation import Annotation
from foveate.data.listing import Part
from foveate.data.problems import Problem


@dataclass(frozen=True)
class BoxedImage:
    """One image of a source.

    Attributes:
        path: of the image file.
        name: in results: its path below the folder of the data.
        part: "train", "validation" or "test"; "": the source does not say.
        annotation: its boxes, in pixels of the file; none: a negative.
        annotated: does the source say something of the image, be it that it has no box?
        written: (width, height) that the source says the image has; None: it does not.
        fractions: are the boxes fractions of the image's sides, until they are checked?
    """

    path: Path
    name: str
    part: Part
    annotation: Annotation
    written: tuple[int, int] | None = None
    fractions: bool = False


@dataclass(frozen=True)
class BoxedFolder:
    """What a reader found: images with boxes, names of the classes in the order of the labels, and problems."""

    root: Path
    classes: tuple[str, ...]
    images: tuple[BoxedImage, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that the source names, train first; ("",): none."""
        there = {image.part for image in self.images}
        return tuple(part for part in ("", "train", "validation", "test") if part in there)
