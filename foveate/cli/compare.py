"""foveate compare: the verdict of results that somebody already has."""

import math
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from foveate.cli.outcome import Language, write_and_print, write_and_print_across
from foveate.spec import Metric


def compare(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with columns variant, seed and one for each metric; or a runs table of W&B or MLflow.",
            metavar="RESULTS.csv",
            show_default=False,
        ),
    ],
    metric: Annotated[str, typer.Option(help="Column that the verdict is about.", show_default=False)],
    better: Annotated[str, typer.Option(help="Which direction is better: higher or lower.", show_default=False)],
    unit: Annotated[
        str, typer.Option(help="Of the metric: px, m/s, %, …; 'fraction' is shown in percent. Default: none.")
    ] = "",
    plain: Annotated[
        str | None, typer.Option(help="Variant that the others are compared with. Default: plain or none.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Column of the variants. Default: variant.")] = None,
    seed: Annotated[str | None, typer.Option(help="Column of the seeds. Default: seed.")] = None,
    item: Annotated[
        str | None, typer.Option(help="Column that names the item of a row; a seed's score is the mean of its items.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of what an item belongs to (subject, recording): resampled whole.")
    ] = None,
    resplit: Annotated[
        float | None,
        typer.Option(
            help="Each seed has its own division of the data: test items over training items, such as 0.25.",
            metavar="RATIO",
        ),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            help="Primary comparison, named before the runs; all else is described. ARM alone: with plain; again for "
            "another.",
            metavar="ARM[:OTHER]",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Column of data sets: each judged alone, and the variants ranked over all.")
    ] = None,
    matters: Annotated[
        float | None,
        typer.Option(
            help="Smallest difference that matters, in points of a percentage or the metric's unit. Default: 0.5 "
            "points, else 1 % of plain's mean.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the page. Default: RESULTS-report; none with --json.")] = (
        None
    ),
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Judge results from a table: paired differences, intervals, Holm's correction, figures and page as of a study.

    Example: foveate compare results.csv --metric map50 --better higher
    """
    from foveate.study.results_table import by_dataset
    from foveate.study.results_table import compare as compare_table
    from foveate.summary import Claim

    judged = _judged(metric, unit, better)
    if matters is not None and not (math.isfinite(matters) and matters >= 0):
        raise ValueError(f"--matters: wanted a difference of 0 or more; got {matters:g}")
    if resplit is not None and not (math.isfinite(resplit) and resplit > 0):
        raise ValueError(f"--resplit: wanted test items over training items, such as 0.25; got {resplit:g}")
    command = shlex.join(["foveate", *sys.argv[1:]])
    options: dict[str, Any] = {"plain": plain, "variant": variant, "seed": seed, "item": item, "group": group}
    options |= {"overlap": resplit or 0.0, "matters": matters, "command": command}
    options["claims"] = [Claim(arm, other or "plain") for arm, _, other in (one.partition(":") for one in claim or [])]
    folder = out or (None if as_json else Path(f"{file.stem}-report"))
    if dataset is not None:
        tables = by_dataset(file, dataset)
        found = {name: compare_table(table, judged, **options) for name, table in tables.items()}
        write_and_print_across(found, folder, as_json=as_json, language=lang)
    else:
        write_and_print(compare_table(file, judged, **options), folder, as_json=as_json, language=lang)


def _judged(name: str, unit: str, better: str) -> Metric:
    if better not in ("higher", "lower"):
        raise ValueError(f"--better: wanted higher or lower; got {better!r}")
    try:
        return Metric(name, unit, better)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("unit",):
            raise ValueError(f"--unit: wanted at most 30 characters; got {unit[:60]!r}") from None
        raise ValueError(f"--metric: wanted letters, digits, spaces and @./%+()[]:-; got {name[:60]!r}") from None
