"""Under which corruptions of the test images the trained networks of a study are measured."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from foveate.metric import Frozen
from foveate.registry import nearest

NOISE = ("gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise")
_BLUR = ("motion_blur", "defocus_blur", "glass_blur")
_DIGITAL = ("brightness", "contrast", "jpeg_compression")
_WEATHER = ("snow", "fog", "frost")
CITYSCAPES_C = (*_BLUR, "gaussian_blur", *NOISE, *_DIGITAL, "saturate", *_WEATHER, "spatter")
IMAGENET_C = (*NOISE[:3], *_BLUR, "zoom_blur", *_WEATHER, *_DIGITAL, "elastic_transform", "pixelate")
SETS = {"cityscapes-c": CITYSCAPES_C, "imagenet-c": IMAGENET_C}
CORRUPTIONS = tuple(dict.fromkeys((*CITYSCAPES_C, *IMAGENET_C)))
SEVEREST, SEVEREST_NOISE = 5, 3


class Robustness(Frozen):
    """Corruptions of the test images, as in Cityscapes-C and ImageNet-C.

    Sources: Kamann, Rother, "Benchmarking the Robustness of Semantic Segmentation Models", CVPR 2020, arXiv:1908.05005;
    Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
    arXiv:1903.12261.

    Attributes:
        corruptions: names of corruptions, or of the sets "cityscapes-c" (16) and "imagenet-c" (15).
        severities: 1 to 5; None: 1 to 3 for the four noises and 1 to 5 for the others, the protocol of SegFormer.
        items: the most test items that are corrupted, evenly among them; None: all.
        seed: of what is drawn.
    """

    corruptions: tuple[str, ...] = Field(CITYSCAPES_C, min_length=1, max_length=100)
    severities: tuple[Annotated[int, Field(ge=1, le=SEVEREST)], ...] | None = Field(None, min_length=1, max_length=5)
    items: int | None = Field(None, ge=2)
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("corruptions", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            return value
        names = [name for one in value for name in (SETS.get(one, (one,)) if isinstance(one, str) else (one,))]
        for name in names:
            if isinstance(name, str) and name not in CORRUPTIONS:
                raise ValueError(f"no corruption {name!r}; {nearest(name, [*CORRUPTIONS, *SETS])}")
        return tuple(dict.fromkeys(names))

    def severities_of(self, corruption: str) -> tuple[int, ...]:
        """Those that a corruption is measured at."""
        if self.severities is not None:
            return self.severities
        return tuple(range(1, (SEVEREST_NOISE if corruption in NOISE else SEVEREST) + 1))
