"""foveate demo: the main job on the embedded set, in a few minutes."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.spec import DataSpec, Study, Training, Variant


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("demo"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: one a core.")] = None,
) -> None:
    """Does attention help a small network find digits in clutter? A study of se, eca and cbam against plain, 3 seeds.

    Example: foveate demo
    """
    from foveate.cli.study import carry_out

    carry_out(demo_study(), out, jobs=jobs, wait=False, command="foveate demo")


def demo_study() -> Study:
    """4 variants, their equal-cost control, 3 seeds: small enough for a laptop."""
    return Study(
        name="demo",
        network="foveate:resnet8",
        variants=tuple(Variant.model_validate(name) for name in ("none", "se", "eca", "cbam")),
        seeds=(0, 1, 2),
        data=DataSpec(train_items=1600, test_items=500),
        train=Training(epochs=5, batch_size=32, optimizer="adamw", lr=0.01, weight_decay=0.01),
    )
