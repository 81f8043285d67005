"""Under which corruptions of the test images the trained networks of a study are measured."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from foveate.metric import Frozen
from foveate.registry import nearest

NOISE = ("gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise")
_BLUR = ("motion_blur", "defocus_blur", "glass_blur")
_DIGITAL = ("brightness", "contrast", "jpeg_compression")
_WEATHER = ("snow", "fog", "frost")
CITYSCAPES_C = (*_BLUR, "gaussian_blur", *NOISE, *_DIGITAL, "saturate", *_WEATHER, "spatter")
IMAGENET_C = (*NOISE[:3], *_BLUR, "zoom_blur", *_WEATHER, *_DIGITAL, "elastic_transform", "pixelate")
SEISMIC = ("seismic_noise", "dead_receivers", "missing_shot", "time_shift", "gain")  # of shot gathers
SETS = {"cityscapes-c": CITYSCAPES_C, "imagenet-c": IMAGENET_C, "seismic": SEISMIC}
OF_IMAGES = tuple(dict.fromkeys((*CITYSCAPES_C, *IMAGENET_C)))
CORRUPTIONS = (*OF_IMAGES, *SEISMIC)
SEVEREST, SEVEREST_NOISE = 5, 3
OF_THREE = (*NOISE, *SEISMIC)  # corruptions with the severities 1 to 3 where a study does not say


class Robustness(Frozen):
    """Corruptions of the test images, as in Cityscapes-C and ImageNet-C, or of shot gathers.

    Of shot gathers the severities 1, 2, 3 are: seismic_noise 30, 20, 10 dB below the reflections; dead_receivers 5, 10,
    20 % of them; missing_shot 1, 2, 3 shots; time_shift 4, 8, 16 ms to either side; gain 1.1, 1.2, 1.5 times or its
    inverse.

    Sources: Kamann, Rother, "Benchmarking the Robustness of Semantic Segmentation Models", CVPR 2020, arXiv:1908.05005;
    Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
    arXiv:1903.12261.

    Attributes:
        corruptions: names of corruptions, or of the sets "cityscapes-c" (16), "imagenet-c" (15) and "seismic" (5).
        severities: 1 to 5, of shot gathers 1 to 3; None: 1 to 3 for the four noises and those of shot gathers, 1 to 5
            for the others, the protocol of SegFormer.
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

    @model_validator(mode="after")
    def _within_three(self) -> "Robustness":
        seismic = [name for name in self.corruptions if name in SEISMIC]
        if seismic and max(self.severities or (1,)) > SEVEREST_NOISE:
            raise ValueError(
                f"{seismic[0]} has the severities 1 to {SEVEREST_NOISE}; got {max(self.severities or (1,))}"
            )
        return self

    def severities_of(self, corruption: str) -> tuple[int, ...]:
        """Those that a corruption is measured at."""
        if self.severities is not None:
            return self.severities
        return tuple(range(1, (SEVEREST_NOISE if corruption in OF_THREE else SEVEREST) + 1))
