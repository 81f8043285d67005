"""A study's rows as a table for other tools: CSV or Parquet, a row a run and metric, or a run, epoch and metric."""

import csv
import io
from pathlib import Path
from typing import Any

from foveate.files import write_whole
from foveate.store import Store
from foveate.study.folder import RESULTS
from foveate.study.results import runs_of_the_plan

RESULT_COLUMNS = (
    "run", "arm", "network", "attention", "site", "options", "init", "width", "seed", "metric", "value", "unit",
    "better", "machine", "versions",
)  # fmt: skip
CURVE_COLUMNS = ("run", "arm", "seed", "epoch", "metric", "value")


def export(folder: Path, out: Path, *, curves: bool = False) -> int:
    """Write the finished runs of the study in a folder to a file, by its ending; returns the number of rows.

    curves: what was logged after each epoch, in place of the final metrics.

    Raises: ValueError: the ending is neither .csv nor .parquet, pyarrow is not installed, or there is no study.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out: wanted a file that ends in .csv or .parquet; got {out}")
    columns = CURVE_COLUMNS if curves else RESULT_COLUMNS
    rows = _rows(folder, curves)
    write_whole(out, _csv(columns, rows) if out.suffix == ".csv" else _parquet(columns, rows))
    return len(rows)


def _rows(folder: Path, curves: bool) -> list[dict[str, Any]]:
    store = Store(folder / RESULTS, read_only=True)
    try:
        runs = runs_of_the_plan(store)
        rows = store.history() if curves else store.metrics()
        return [runs[row["run"]] | row for row in rows if row["run"] in runs]
    finally:
        store.close()


def _csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("--out: .parquet needs pyarrow; pip install 'foveate[parquet]'") from None
    types = {"seed": pyarrow.int64(), "epoch": pyarrow.int64(), "value": pyarrow.float64(), "width": pyarrow.float64()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
    table = pyarrow.Table.from_pylist([{name: row[name] for name in columns} for row in rows], schema=schema)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
