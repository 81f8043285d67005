"""A study's progress in the terminal: one bar over all steps, with the time left, and a line for every run."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from foveate.data.dataset import Dataset
from foveate.spec import Run, Study
from foveate.study import Watcher, what_seeds_can_show
from foveate.study.estimate import in_words as duration
from foveate.study.ledger import claims_of
from foveate.study.plan import Plan
from foveate.study.tuning import in_words
from foveate.summary import Summary


class Progress(Watcher):
    """Draws on standard error, so that standard output holds the table (or the JSON) alone; `quiet` draws nothing."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = folder
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            refresh_per_second=4,
        )
        self.fractions: dict[str, float] = {}
        self.done, self.total = 0, 0
        self.listed: tuple[str, ...] = ()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars.live.is_started:
            self.bars.stop()

    def planned(self, study: Study, data: Dataset, plan: Plan, done: int) -> None:
        compared = len(claims_of(study, [arm.summary() for arm in plan.arms]))
        self.listed = study.train.listed
        self.console.print(f"{study.network} on {data.description}")
        parts = [f"{len(plan.arms)} networks", _count(len(study.seeds), "seed")]
        if study.train.listed:
            parts.append(f"{len(study.train.each())} values of {' and '.join(study.train.listed)}")
        if "epochs" not in study.train.listed:
            most = "up to " if study.train.early_stop else ""
            parts.append(most + _count(study.train.epochs, "epoch"))
        runs = f": {len(plan.runs)} runs" if study.train.listed else ""
        self.console.print(f"{' × '.join(parts)}{runs} → {self.folder}")
        for arm in plan.arms:
            if arm.kind == "control":
                self.console.print(f"  control: {arm.label}")
        for note in plan.notes:
            self.console.print(f"  note: {note}")
        self.console.print(what_seeds_can_show(len(study.seeds), compared).text)
        if done:
            self.console.print(f"{done} of {len(plan.runs)} runs are finished already")
        self.done, self.total = done, len(plan.runs)
        if self.bars.task_ids:
            self.bars.update(self.bars.task_ids[0], total=self.total, completed=done)
        else:
            self.bars.add_task("training", total=self.total, completed=done)

    def placed(self, text: str) -> None:
        self.console.print(f"runs: {text}")

    def measuring(self) -> None:
        self.console.print("measuring the costs …")

    def estimated(self, runs: int, jobs: int, seconds: float) -> None:
        at_a_time = f", {min(jobs, runs)} at a time" if jobs > 1 < runs else ""
        time = f"{duration(seconds)} at the measured speed"
        self.console.print(f"training {runs} run{'s' if runs > 1 else ''}{at_a_time}: {time}")

    def started(self, run: Run, attempt: int) -> None:
        self.bars.start()
        self.fractions[run.key] = 0.0
        if attempt > 1:
            self.bars.print(f"  goes on: {run.arm}, seed {run.seed}{self._values(run)} (start {attempt})")

    def progressed(self, run: Run, step: int, steps: int) -> None:
        self.fractions[run.key] = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
        running = ", ".join(f"{100 * f:.0f} %" for f in self.fractions.values())
        self.bars.update(
            self.bars.task_ids[0],
            description=f"training ({running})",
            completed=self.done + sum(self.fractions.values()),
        )

    def ended(self, run: Run, error: str | None) -> None:
        self.fractions.pop(run.key, None)
        self.done += 1
        self.bars.update(self.bars.task_ids[0], completed=self.done + sum(self.fractions.values()))
        if error:
            self.bars.print(f"  failed: {run.arm}, seed {run.seed}{self._values(run)}: {error}")

    def _values(self, run: Run) -> str:
        """ ", lr 0.1", of the values that the study lists."""
        return "".join(f", {in_words({name: getattr(run.train, name)})}" for name in self.listed)

    def undecided(self, summary: Summary, seeds: int) -> None:
        self.console.print(f"{summary.answer.short} with {len(summary.setting.seeds)} seeds: goes on to {seeds}")

    def waiting(self, who: str) -> None:
        self.console.print(f"waiting for {who} ({time.strftime('%H:%M:%S')})")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
