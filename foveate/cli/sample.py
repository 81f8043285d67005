"""--shape, --image-size, --channels and --num-classes: what a network is built for and run on."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

Shape = Annotated[
    str | None,
    typer.Option(
        help="Of one sample: C,H,W of an image; C,L of a signal; C,T,H,W of a clip. Default: as published.",
        metavar="C,…",
    ),
]
Size = Annotated[int | None, typer.Option(min=1, help="Side of the image in pixels.")]
Channels = Annotated[int | None, typer.Option(min=1, help="Channels of the image.")]
Classes = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Outputs of the classifier. Default: as published.")
]


def sample_shape(
    model: str, shape: str | None, image_size: int | None, channels: int | None, *, batch_size: int = 1
) -> tuple[int, ...]:
    """(C, *S) of one sample: what the flags say, the rest as the network was published.

    Raises: ValueError: flags that contradict one another, no such shape, a batch of more than 2³¹ numbers.
        LookupError: no such network of ours.
    """
    from foveate.networks import check_shape, usual_shape

    if shape is None:
        usual = usual_shape(model)
        sides = usual[1:] if image_size is None else (*usual[1:-2], *(image_size,) * min(2, len(usual) - 1))
        found = (channels or usual[0], *sides)
    else:
        if image_size is not None or channels is not None:
            raise ValueError("--shape says channels and sides; it goes without --image-size and --channels")
        try:
            found = tuple(int(part) for part in shape.split(","))
        except ValueError:
            raise ValueError(f"--shape: wanted whole numbers such as 3,224,224; got {shape!r}") from None
    check_shape(found, batch_size)
    return found


def build(model: str, shape: tuple[int, ...], num_classes: int | None) -> "nn.Module":
    """The network for samples of this shape; num_classes None: as published. Raises: as `build_network`."""
    from foveate.networks import build_network, usual_classes

    classes = usual_classes(model) if num_classes is None else num_classes
    return build_network(model, num_classes=classes, in_channels=shape[0])


def in_words(shape: tuple[int, ...], batch_size: int) -> str:
    """ "batch 2 of 32×32"."""
    return f"batch {batch_size} of {'×'.join(map(str, shape[1:]))}"
