"""Where results are kept: one SQLite file a study, written by its coordinator alone, read by anyone.

One row a run, one row a run and a metric, one row a run, an epoch and a metric, one row an arm and a cost. The view
`results` joins runs and metrics: arm, seed, attention, site, options, metric, value, unit, better, machine, versions.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from foveate.spec import Run
from foveate.variant import PLAIN

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
  key TEXT PRIMARY KEY, state TEXT NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'running', 'done', 'failed')),
  arm TEXT NOT NULL, network TEXT NOT NULL, attention TEXT NOT NULL, site TEXT NOT NULL, options TEXT NOT NULL,
  init TEXT NOT NULL, width REAL NOT NULL, seed INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT,
  started REAL, finished REAL, machine TEXT, versions TEXT, spec TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS metrics (
  run TEXT NOT NULL REFERENCES runs (key), metric TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL,
  better TEXT NOT NULL, PRIMARY KEY (run, metric));
CREATE TABLE IF NOT EXISTS history (
  run TEXT NOT NULL REFERENCES runs (key), epoch INTEGER NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (run, epoch, metric));
CREATE TABLE IF NOT EXISTS costs (
  arm TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL, unit TEXT NOT NULL,
  machine TEXT NOT NULL, versions TEXT NOT NULL, PRIMARY KEY (arm, metric));
CREATE VIEW IF NOT EXISTS results AS
  SELECT key AS run, arm, network, attention, site, options, init, width, seed, metric, value, unit, better, machine,
    versions
  FROM runs JOIN metrics ON metrics.run = runs.key WHERE state = 'done';
"""


class Store:
    """The results of one study folder. A finished run is frozen: it is never written again.

    Raises: ValueError: there is no such file to read, or it is none of ours.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only:
            if not path.is_file():
                raise ValueError(f"{path.parent}: wanted the folder of a study; it holds no {path.name}")
            # without a writer's log beside it nobody writes, and reading need not leave files of its own
            alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{alone}", uri=True, timeout=30)
        else:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
                self._db.close()
                raise ValueError(f"{path}: results of an older foveate that this one cannot read; use another --out")
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(SCHEMA)
            self._db.execute("SELECT name FROM meta")
        except sqlite3.DatabaseError as error:
            self._db.close()
            if isinstance(error, sqlite3.OperationalError) and not read_only:
                raise  # the disk is full, or the like
            raise ValueError(
                f"{path}: not a study's results ({error}); move it away and resume: finished runs are kept in runs/"
            ) from None
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        self._db.close()

    def set_meta(self, name: str, value: Any) -> None:
        """Store a JSON value under a name."""
        text = json.dumps(value, allow_nan=False)
        self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, text))

    def get_meta(self, name: str) -> Any:
        """The JSON value stored under a name, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def plan(self, runs: Iterable[Run]) -> None:
        """Add the runs that are not there yet."""
        named: list[tuple[str, str, str]] = []

        def rows() -> Iterator[tuple[Any, ...]]:
            for run in runs:
                key = run.key
                named.append((run.arm, key, run.arm))
                yield key, run.arm, run.network, *_insertion_columns(run), run.width, run.seed, run.model_dump_json()

        columns = "key, arm, network, attention, site, options, init, width, seed, spec"
        with self._transaction():
            self._db.executemany(
                f"INSERT OR IGNORE INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows()
            )
            self._db.executemany("UPDATE runs SET arm = ? WHERE key = ? AND arm != ?", named)

    def start(self, key: str, machine: str = "") -> int:
        """A run begins (again), on this type of machine where there are several; returns the number of this attempt, 1
        for the first."""
        change = (
            "UPDATE runs SET state = 'running', attempts = attempts + 1, started = ?, machine = coalesce(?, machine) "
            "WHERE key = ? AND state != 'done'"
        )
        self._db.execute("PRAGMA synchronous=NORMAL")  # a machine that goes out now forgets a start, no result
        self._db.execute(change, (time.time(), machine or None, key))
        self._db.execute("PRAGMA synchronous=FULL")
        return self.attempts(key)

    def state(self, key: str) -> str:
        """'todo', 'running', 'done' or 'failed'."""
        return str(self._db.execute("SELECT state FROM runs WHERE key = ?", (key,)).fetchone()[0])

    def states(self) -> dict[str, str]:
        """Key → state of every run, in the order planned."""
        return {row["key"]: row["state"] for row in self._db.execute("SELECT key, state FROM runs ORDER BY rowid")}

    def machines(self) -> dict[int, str]:
        """Seed → type of machine that its first finished run was trained on or, where none is, one that began."""
        rows = self._db.execute(
            "SELECT seed, machine FROM runs WHERE machine IS NOT NULL ORDER BY state = 'done', rowid DESC"
        )
        return {row["seed"]: row["machine"] for row in rows}

    def attempts(self, key: str) -> int:
        """How often the run was started."""
        return int(self._db.execute("SELECT attempts FROM runs WHERE key = ?", (key,)).fetchone()[0])

    def finish(self, key: str, result: dict[str, Any]) -> None:
        """A run is done: its metrics and history in one transaction.

        result: {"metrics": [{"name", "unit", "better", "value"}], "history": [{"epoch", metric: value, …}], "machine",
            "versions"}.
        """
        with self._transaction():
            metrics = [(key, one["name"], one["value"], one["unit"], one["better"]) for one in result["metrics"]]
            self._db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", metrics)
            history = [
                (key, entry["epoch"], name, value)
                for entry in result["history"]
                for name, value in entry.items()
                if name != "epoch"
            ]
            self._db.executemany("INSERT INTO history VALUES (?, ?, ?, ?)", history)
            change = (
                "UPDATE runs SET state = 'done', error = NULL, finished = ?, machine = ?, versions = ? WHERE key = ?"
            )
            self._db.execute(change, (time.time(), result["machine"], json.dumps(result["versions"]), key))

    def put_back(self, key: str) -> None:
        """A run that began waits again."""
        self._db.execute("UPDATE runs SET state = 'todo' WHERE key = ? AND state = 'running'", (key,))

    def fail(self, key: str, error: str) -> None:
        """A run ended with an error that would only come again."""
        self._db.execute(
            "UPDATE runs SET state = 'failed', error = ?, finished = ? WHERE key = ?", (error, time.time(), key)
        )

    def reset(self, states: tuple[str, ...]) -> None:
        """Runs in these states are to do again (a coordinator that was killed leaves 'running' behind)."""
        marks = ", ".join("?" * len(states))
        self._db.execute(f"UPDATE runs SET state = 'todo' WHERE state IN ({marks}) AND state != 'done'", states)

    def put_costs(
        self,
        rows: Iterable[tuple[str, str, float, float | None, float | None, str]],
        machine: str,
        versions: dict[str, str],
    ) -> None:
        """Replace the costs: (arm, metric, value, low, high, unit), measured on one machine."""
        with self._transaction():
            self._db.execute("DELETE FROM costs")
            full = [(*row, machine, json.dumps(versions)) for row in rows]
            self._db.executemany("INSERT INTO costs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", full)

    def copy_to(self, path: Path) -> None:
        """Write all of it to a new file."""
        with contextlib.closing(sqlite3.connect(path)) as other:
            self._db.backup(other)

    def add_from(self, path: Path) -> None:
        """Add the runs of another study's file that are not done here: done there, or else to do."""
        self._db.execute("ATTACH ? AS other", (str(path),))
        with self._transaction():
            new = "key NOT IN (SELECT key FROM main.runs WHERE state = 'done')"
            self._db.execute(f"CREATE TEMP TABLE added AS SELECT key FROM other.runs WHERE state = 'done' AND {new}")
            self._db.execute("INSERT OR REPLACE INTO main.runs SELECT * FROM other.runs WHERE key IN added")
            self._db.execute("INSERT INTO main.metrics SELECT * FROM other.metrics WHERE run IN added")
            self._db.execute("INSERT INTO main.history SELECT * FROM other.history WHERE run IN added")
            self._db.execute("INSERT OR IGNORE INTO main.runs SELECT * FROM other.runs")
        self._db.execute("DETACH other")

    def runs(self) -> list[dict[str, Any]]:
        """Every run with its state, in the order planned."""
        return list(self._rows("SELECT * FROM runs ORDER BY rowid"))

    def metrics(self) -> list[dict[str, Any]]:
        """Every metric of every finished run, with its arm and seed."""
        query = "SELECT run, arm, seed, metric, value, unit, better FROM results ORDER BY run, metric"
        return list(self._rows(query))

    def history(self) -> Iterator[dict[str, Any]]:
        """Every epoch's metrics of every finished run, one by one."""
        return self._rows("SELECT * FROM history ORDER BY run, epoch, metric")

    def costs(self) -> list[dict[str, Any]]:
        """Every cost of every arm."""
        return list(self._rows("SELECT * FROM costs ORDER BY arm, metric"))

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        cursor = self._db.cursor()
        cursor.row_factory = None  # tuples
        found = cursor.execute(query)
        names = [column[0] for column in found.description]
        return (dict(zip(names, row, strict=True)) for row in found)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


def _insertion_columns(run: Run) -> tuple[str, str, str, str]:
    """attention, site, options and init of what the run inserts; of several insertions joined by " + "."""
    parts = run.variant.insert
    return (
        " + ".join(part.attention for part in parts) or PLAIN,
        " + ".join(part.at if isinstance(part.at, str) else json.dumps(part.at) for part in parts),
        " + ".join(json.dumps(part.options, sort_keys=True) for part in parts),
        " + ".join(part.init for part in parts),
    )


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
