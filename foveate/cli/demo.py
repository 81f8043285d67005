"""foveate demo: the main job on the embedded set, in a few minutes."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.spec import DataSpec, Study, Training, Variant


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("demo"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: one a core.")] = None,
) -> None:
    """Does attention help a small U-Net find the ink of one digit among cut pieces of others? se and gc, 5 seeds.

    Example: foveate demo
    """
    from foveate.cli.study import carry_out

    carry_out(demo_study(), out, jobs=jobs, wait=False, command="foveate demo")
    typer.echo(f"what the attention weighs: {write_picture(out).resolve()}")


def write_picture(out: Path) -> Path:
    """report/attention.png: of the run with gc, whose mask of positions is the easiest to read."""
    from foveate.files import write_whole
    from foveate.study import summarise
    from foveate.tasks.gallery import ATTENTION

    pictures = [Path(picture) for picture in summarise(out).about["examples"]["gc"]]
    path = out / "report" / ATTENTION
    write_whole(path, next(picture for picture in pictures if picture.name == ATTENTION).read_bytes())
    return path


def demo_study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Study:
    """Both mechanisms weigh with the whole image in view: 5 seeds of a small network decide whether it helps.

    The controls have 1×1 layers of the same size in its place, which see one position each.
    """
    variants = (
        {"attention": "none"},
        {"attention": "se", "options": {"reduction": 4}, "label": "se"},
        {"attention": "gc", "options": {"ratio": 0.25}, "label": "gc"},
    )
    return Study(
        name="demo",
        task="segmentation",
        network="foveate:unet_small",
        network_options={"widths": [8, 16, 32]},
        variants=tuple(Variant.model_validate(variant) for variant in variants),
        seeds=seeds,
        control="size",
        data=DataSpec(train_items=600, test_items=300),
        train=Training(epochs=5, batch_size=16, optimizer="adamw", lr=0.005, weight_decay=0.01),
    )
