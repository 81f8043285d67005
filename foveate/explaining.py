"""How the maps of trained networks are measured against the objects of the test images."""

from pydantic import Field, field_validator

from foveate.metric import Frozen, Metric
from foveate.registry import nearest

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "eigencam", "rollout", "classtoken")
POINTING, ENERGY, COVERAGE, IOU = "pointing game", "energy inside", "coverage", "map IoU"
PROBABILITY = "true class probability"
DELETION, INSERTION, ROAD = "deletion area", "insertion area", "ROAD area"
ON_OBJECTS, ON_DISTRACTORS = "let through on objects", "let through on distractors"
SELECTIVITY = "let through difference"
SIMILARITY = "similarity to random weights"  # of maps, to those of the network with random weights
ALIKE = 0.5  # mean rank correlation from which maps of a network with random weights are called alike


class Explaining(Frozen):
    """The table [explain] of a study: maps of the true class of each test image, or of a detector's best box, and the
    mask or boxes of its objects.

    Attributes:
        method: as `foveate.explain` has it.
        layer: name or glob pattern of the layers; "": found as `foveate.explain` does.
        threshold: share of a map's maximum from which a position counts as covered.
        tolerance: pixels by which the maximum may lie beside the object in the pointing game.
        items: the most test images, evenly among them; None: all.
        curves: measure deletion, insertion and ROAD too, which take 30 more passes an image.
        passing: measure how much of its map each attention lets through on the object and on distractors, of data that
            have the boxes of these.
        sanity: images whose maps are compared with those of the network with random weights; 0: none. Not of
            detectors: with random weights they find no box.
    """

    method: str = "gradcam"
    layer: str = ""
    threshold: float = Field(0.5, gt=0, le=1)
    tolerance: int = Field(0, ge=0, le=1000)
    items: int | None = Field(None, ge=2)
    curves: bool = False
    passing: bool = False
    sanity: int = Field(32, ge=0, le=10_000)

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(f"no method {value!r}; {nearest(value, METHODS)}")
        return value

    def metrics(self, *, detects: bool = False) -> tuple[Metric, ...]:
        """What is measured of each trained network; of a detector, where the maps lie."""
        places = tuple(Metric(name) for name in (POINTING, ENERGY, COVERAGE, IOU))
        if detects:
            return places
        curves = (Metric(DELETION, better="lower"), Metric(INSERTION), Metric(ROAD, better="lower"))
        similar = (Metric(SIMILARITY, "", "neither"),) if self.sanity else ()
        shares = (Metric(ON_OBJECTS, better="neither"), Metric(ON_DISTRACTORS, better="neither"))
        through = (*shares, Metric(SELECTIVITY, "", shown="percent"))  # less than 0 where distractors get more through
        more = (*(curves if self.curves else ()), *(through if self.passing else ()))
        return (*places, Metric(PROBABILITY), *more, *similar)
