"""One training, from a network and a task to its scores: one readable loop.

Every batch is a pure function of (seed, epoch, position), the learning rate of the step, and a checkpoint holds the
rest (weights, optimiser, generator): a run killed at any moment goes on and ends with the weights of an unbroken one.
"""

import contextlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset, Split
from foveate.data.on_device import kept_on
from foveate.files import write_json, write_whole
from foveate.insertion import unfreeze
from foveate.items import ITEMS, write_items
from foveate.machine import machine_name, versions
from foveate.spec import Run
from foveate.summary import DETAILS
from foveate.tasks import Scores, Task
from foveate.tasks.gallery import ATTENTION, EXAMPLES, MISTAKES, attention_pictures
from foveate.tasks.pictures import above, png, sheet
from foveate.train.attention_state import DESCRIBED, AttentionWatch
from foveate.train.average import WeightAverage
from foveate.train.checkpoint import (
    CHECKPOINT,
    TrainingFailed,
    TrainingStopped,
    load_checkpoint,
    save_checkpoint,
    save_tensors,
)
from foveate.train.evaluation import batches_of, checked_metrics, evaluate, evaluation_batch, parts_for_evaluation
from foveate.train.optimizer import make_optimizer
from foveate.train.ranks import SEED_STEP, Ranks
from foveate.train.schedule import batches_an_epoch, epoch_order, evenly, learning_rate
from foveate.training import Training

SAVING_SHARE = 400  # of the time, a checkpoint at the end of an epoch may take one part
DRAWN, ATTENDED = 12, 4  # test items drawn at the end, and those with the maps of the attention

OnProgress = Callable[[int, int, float], None]  # (steps done, steps in all, loss)


def train(
    run: Run,
    model: nn.Module,
    task: Task,
    data: Dataset,
    folder: Path,
    *,
    on_progress: OnProgress = lambda step, steps, loss: None,
    stop: Callable[[], bool] = lambda: False,
    checkpoint_s: float = 30.0,
) -> dict[str, Any]:
    """Train the network as the run says, in its folder; goes on from the folder's checkpoint if there is one.

    torch's threads, generator and determinism are as before when this returns.

    Args:
        run: the specification.
        model: built for it, with fresh weights and its attention.
        task: on the data.
        data: opened from `run.data`.
        folder: of this run; holds the checkpoint, and at the end model.safetensors, items.npz and, where the run has
            pictures, examples.png, mistakes.png and attention.png.
        on_progress: called with (steps done, steps in all, loss).
        stop: asked after each step; True: a checkpoint is written, and the training stops.
        checkpoint_s: seconds between checkpoints within an epoch; one is written at the end of an epoch besides, unless
            epochs are so short that writing takes more than a four-hundredth of the time.

    Returns: {"metrics": [{"name", "unit", "better", "value"}], "history": [{"epoch", …}], "machine", "versions"}.
    Raises: TrainingStopped: if `stop` said so. TrainingFailed: if the loss or a metric is nan or infinite, or the disk
        is full. ValueError: if early
        stopping has no validation part.
    """
    with torch_settings(run.train):
        return _Loop(run, model, task, data, folder, on_progress, stop, checkpoint_s).run_to_the_end()


def repeated_step(run: Run, model: nn.Module, task: Task, data: Dataset) -> Callable[[], None]:
    """A step of this training on its first batch, again and again with the first learning rate, for measuring it."""
    loop = _Loop(run, model, task, data, Path(os.devnull), lambda step, steps, loss: None, lambda: False, math.inf)
    items = evenly(loop.train_items, loop.batches_an_epoch)[0]
    augment = (run.seed, 0) if run.data.augment else None
    batch = next(loop._batches(data.train, [items], augment))
    loop.model.train()
    return lambda: loop._learn(batch, len(items))


class _Loop:
    def __init__(
        self,
        run: Run,
        model: nn.Module,
        task: Task,
        data: Dataset,
        folder: Path,
        on_progress: OnProgress,
        stop: Callable[[], bool],
        checkpoint_s: float,
    ) -> None:
        self.run, self.task, self.folder, self.spec = run, task, folder, run.train
        self.on_progress, self.stop, self.checkpoint_s = on_progress, stop, checkpoint_s
        self.device = torch.device(self.spec.device)
        self.data = kept_on(data, self.device)
        if self.spec.early_stop and data.validation is None:
            raise ValueError("early_stop: wanted data with a validation part (data.validation_fraction); got none")
        self.train_items = list(range(len(data.train)))
        self.batches_an_epoch = batches_an_epoch(len(self.train_items), self.spec.batch_size)
        self.steps = self.batches_an_epoch * self.spec.epochs
        layout = torch.channels_last if self.spec.channels_last else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=layout)
        self.attention = AttentionWatch(self.model)
        self.optimizer = make_optimizer(self.model, self.spec, run.variant.attention_lr)
        self.average = None if self.spec.ema is None else WeightAverage(self.model, self.spec.ema)
        self.ranks = Ranks.here()
        self.ranks.check(len(self.train_items) // self.batches_an_epoch)
        self.stepping = self._for_steps()
        self.step, self.history = 0, list[dict[str, float]]()
        self.losses: dict[str, list[float]] = defaultdict(list)  # of this epoch's steps so far, by part
        self.seconds, self.started = 0.0, time.monotonic()  # spent before this start; when it began
        self.saved = self.started  # when the last checkpoint was
        self.agreed = False, False  # whether a rank is to stop, and to save, where there are several
        self.best_loss, self.best_epoch = math.inf, 0
        self.tested: Scores | None = None  # scores of the test part after the epoch before
        # dropout and the like: the same draws whatever was drawn for the weights
        torch.manual_seed(run.seed + SEED_STEP * self.ranks.number)
        self._resume()

    def run_to_the_end(self) -> dict[str, Any]:
        took = 0.0
        while self.step < self.steps and not self._stopped_early():
            epoch, first = divmod(self.step, self.batches_an_epoch)
            self._thaw(epoch + 1)
            self.model.train()
            order = epoch_order(self.train_items, self.run.seed, epoch)
            parts = evenly(order, self.batches_an_epoch)[first:]
            augment = (self.run.seed, epoch) if self.run.data.augment else None
            for whole, batch in zip(
                parts, self._batches(self.data.train, self.ranks.share(parts), augment), strict=True
            ):
                self._learn(batch, len(whole))
                self.step += 1
                stopped, due = self.agreed if self.ranks.count > 1 else self._to_stop_or_save(self.checkpoint_s)
                if (stopped or due) and self.step % self.batches_an_epoch:
                    took = self._save()
                    if stopped:
                        raise TrainingStopped
            self._end_epoch(epoch + 1)
            wishes = self._to_stop_or_save(min(self.checkpoint_s, SAVING_SHARE * took))
            stopped, due = (wish > 0 for wish in self.ranks.sums(wishes, self.device))
            if stopped or due:
                took = self._save()
            if stopped:
                raise TrainingStopped
        return self.ranks.from_first(self._finish() if self.ranks.number == 0 else {})

    def _to_stop_or_save(self, after_s: float) -> tuple[bool, bool]:
        """Is this process to stop, and is it time for a checkpoint, these seconds after the one before?"""
        return self.stop(), time.monotonic() - self.saved >= after_s

    def _thaw(self, epoch: int) -> None:
        """Train everything from this epoch on, if the variant says so."""
        variant = self.run.variant
        if variant.thaw is not None and epoch >= variant.thaw:
            with contextlib.suppress(LookupError):  # nothing is frozen any more
                unfreeze(self.model)
                self.stepping = self._for_steps()

    def _for_steps(self) -> nn.Module:
        """The network as a training step calls it."""
        model = self.ranks.wrapped(self.model)
        return cast(nn.Module, torch.compile(model)) if self.spec.compile else model

    def _losses(self, batch: Batch) -> Mapping[str, Tensor]:
        try:
            with self._autocast():
                return self.task.loss(self.stepping, batch)
        except Exception as error:
            if self.spec.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                reason = " ".join(str(error).split())[:300]
                raise TrainingFailed(
                    f"torch.compile cannot compile this network ({reason}); train without it"
                ) from error
            raise

    def _learn(self, batch: Batch, whole: int) -> None:
        """One step; whole: items of the batch in all ranks."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, self.batches_an_epoch, self.spec, group["highest_lr"])
        parts = self._losses(batch)
        loss = parts["loss"]
        share = len(batch) / whole
        values = [part.item() for part in parts.values()]
        if self.ranks.count > 1:
            loss = loss * (share * self.ranks.count)  # so that the average over ranks is that over items
            mine = (*(share * value for value in values), *self._to_stop_or_save(self.checkpoint_s))
            *values, stopped, due = self.ranks.sums(mine, self.device)
            self.agreed = stopped > 0, due > 0  # the ranks stop after the same step
        for name, part in zip(parts, values, strict=True):
            self.losses[name].append(part)
        value = self.losses["loss"][-1]
        if not math.isfinite(value):
            rate = self.optimizer.param_groups[0]["lr"]
            raise TrainingFailed(
                f"the loss is {value} at step {self.step + 1} of {self.steps} "
                f"(epoch {self.step // self.batches_an_epoch + 1}), learning rate {rate:.4g}; a smaller one may do"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.attention.after_backward()
        if self.spec.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model, self.step + 1)
        self.on_progress(self.step + 1, self.steps, value)

    def _end_epoch(self, epoch: int) -> None:
        if self.ranks.number == 0:  # the others wait for what it found
            with contextlib.nullcontext() if self.average is None else self.average.used(self.model):
                self._evaluate_epoch(epoch)
        self.losses.clear()
        found = self.ranks.from_first((self.history, self.best_loss, self.best_epoch))
        self.history, self.best_loss, self.best_epoch = found

    def _evaluate_epoch(self, epoch: int) -> None:
        entry: dict[str, float] = {"epoch": epoch}
        for name, values in self.losses.items():
            entry[f"train_{name}"] = math.fsum(values) / len(values)
        part, split = ("test", self.data.test) if self.data.validation is None else ("validation", self.data.validation)
        scores = self._evaluate(split)
        self.tested = scores if part == "test" else None
        entry |= {f"{part}_{name}": value for name, value in scores.values.items()}
        if self.spec.early_stop:
            if "validation_loss" not in entry:
                entry["validation_loss"] = self._mean_loss(split)
            if entry["validation_loss"] < self.best_loss:
                self.best_loss, self.best_epoch = entry["validation_loss"], epoch
        self.history.append(entry)

    def _mean_loss(self, split: Split) -> float:
        """The mean of the task's training loss over a split, for a task that has no metric "loss"."""
        total = 0.0
        with torch.inference_mode(), self._autocast():
            for batch in self._batches(split, self._parts(split), None):
                total += self.task.loss(self.model, batch)["loss"].item() * len(batch)
        return total / len(split)

    def _stopped_early(self) -> bool:
        epochs = len(self.history)
        return bool(self.spec.early_stop) and epochs - self.best_epoch >= self.spec.early_stop

    def _finish(self) -> dict[str, Any]:
        if self.average is not None:
            self.average.put_into(self.model)
        scores = self.tested or self._evaluate(self.data.test)  # of the last epoch, with these very weights
        metrics = checked_metrics(self.task, scores)
        if self.data.validation is not None:  # as it was after the last epoch
            last = self.history[-1]
            found = {name: last.get(f"validation_{name}", math.nan) for name in scores.values}
            metrics += checked_metrics(self.task, Scores(found, {}), on_validation=True)
        save_model(self.model, self.folder)
        try:
            names = [self.data.test.name_of(item) for item in range(len(self.data.test))]
            write_items(self.folder / ITEMS, names, scores.items, self.data.test.groups, scores.tables)
            with torch.inference_mode(), self._autocast():
                remarks = self.task.remarks(
                    self.model, self._batches(self.data.test, self._parts(self.data.test), None)
                )
            scores = replace(scores, findings=[*scores.findings, *remarks])
            if details := scores.details():
                write_json(self.folder / DETAILS, details)
            with self._autocast():
                write_attention(self.attention, self.model, self.task, self.data, self.run, self.folder)
            if self.run.pictures:
                self._draw_examples(scores)
        except OSError as error:
            raise TrainingFailed(str(error)) from None
        return {
            "metrics": metrics + run_facts(len(self.history), self._spent()),
            "history": self.history,
            "machine": machine_name(),
            "versions": versions(),
        }

    def _draw_examples(self, scores: Scores) -> None:
        """examples.png: some test items with their target and what the network gives; mistakes.png: what the task shows
        of its best and worst; attention.png: a few items with each inserted module's weight of each position."""
        count = len(self.data.test)
        items = [number * count // DRAWN for number in range(DRAWN)] if count > DRAWN else list(range(count))
        pictures = []
        with torch.inference_mode(), self._autocast():
            for batch in self._batches(self.data.test, self._parts(self.data.test, items), None):
                pictures += self.task.draw(batch.to("cpu"), self.task.answers(self.model, batch.inputs))
        if pictures:
            drawn = sheet(pictures)
            explained = self.task.legend(drawn.shape[1])
            write_whole(self.folder / EXAMPLES, png(drawn if explained is None else above(drawn, explained)))
        with torch.inference_mode(), self._autocast():
            mistakes = self.task.mistakes(self.model, scores, self._read_test)
        if mistakes is not None:
            write_whole(self.folder / MISTAKES, png(mistakes))
        if self.run.variant.is_plain or self.run.control is not None or len(self.data.inputs) != 3:
            return
        parts = self._parts(self.data.test, items[:: max(1, len(items) // ATTENDED)][:ATTENDED])
        with self._autocast():
            rows = []
            for batch in self._batches(self.data.test, parts, None):
                over = self.task.over(batch.to("cpu"), self.model(batch.inputs)) if self.task.detects else None
                background = partial(self.task.background, batch.to("cpu"))
                rows += attention_pictures(self.model, batch.inputs, over, background)
        if rows:
            write_whole(self.folder / ATTENTION, png(sheet(rows, columns=1)))

    def _read_test(self, items: list[int]) -> Iterator[Batch]:
        return self._batches(self.data.test, self._parts(self.data.test, items), None)

    def _spent(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _parts(self, split: Split, items: Sequence[int] | None = None) -> list[list[int]]:
        """The items, None: all, in batches for evaluation."""
        items = range(len(split)) if items is None else items
        return parts_for_evaluation(self.task, self.data, split, items, self.spec.batch_size)

    def _evaluate(self, split: Split) -> Scores:
        with self._autocast():
            parts = self._parts(split)
            return evaluate(self.model, self.task, self._batches(split, parts, None))

    def _batches(self, split: Split, parts: list[list[int]], augment: tuple[int, int] | None) -> Iterator[Batch]:
        return batches_of(split, parts, augment, self.run, self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.amp)

    def _save(self) -> float:
        """Write a checkpoint; the seconds it took."""
        began = time.monotonic()
        facts = {
            "step": self.step,
            "history": self.history,
            "losses": dict(self.losses),
            "best": [self.best_loss, self.best_epoch],
            "seconds": self._spent(),
            "attention": self.attention.facts(),
        }
        generators = self.ranks.generators()
        if self.ranks.number == 0:
            save_checkpoint(
                self.folder / CHECKPOINT, self.run.key, self.model, self.optimizer, facts, self.average, generators
            )
        self.saved = time.monotonic()
        return self.saved - began

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        facts = load_checkpoint(path, self.run.key, self.model, self.optimizer, self.average, self.ranks)
        self.step, self.history, self.seconds = facts["step"], facts["history"], facts["seconds"]
        self.losses.update(facts["losses"])
        self.best_loss, self.best_epoch = facts["best"]
        if "attention" in facts:  # not in a checkpoint of before this was kept
            self.attention.resume(facts["attention"])


def write_attention(watch: AttentionWatch, model: nn.Module, task: Task, data: Dataset, run: Run, folder: Path) -> None:
    """Write attention.json over a batch of test items, evenly among them; nothing where there is nothing inserted."""
    count, most = len(data.test), min(DESCRIBED, evaluation_batch(task, data, run.train.batch_size))
    if not watch.modules or not count:
        return
    items = [number * count // most for number in range(most)] if count > most else list(range(count))
    items = max(parts_for_evaluation(task, data, data.test, items, run.train.batch_size), key=len)[:most]  # of one size
    for batch in batches_of(data.test, [items], None, run, torch.device(run.train.device)):
        watch.write(folder, model, lambda batch=batch: task.meter().update(model, batch), len(items))  # type: ignore[misc]


def run_facts(epochs: int, seconds: float) -> list[dict[str, Any]]:
    """Epochs and seconds as rows that nobody judges."""
    return [
        {"name": "epochs", "unit": "epochs", "better": "neither", "value": epochs},
        {"name": "seconds", "unit": "s", "better": "neither", "value": seconds},
    ]


def save_model(model: nn.Module, folder: Path) -> None:
    """Write model.safetensors: the state dict. Raises: TrainingFailed: if it cannot be written."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    save_tensors(folder / "model.safetensors", state, {})


@contextlib.contextmanager
def torch_settings(training: Training) -> Iterator[None]:
    """torch as a training has it: its threads, and deterministic algorithms where there are some.

    Threads, generators and determinism are as before afterwards, also on an error.
    """
    threads = torch.get_num_threads()
    filling: Any = torch.utils.deterministic
    place = torch.device(training.device)
    own = [] if place.type == "cpu" else [torch.cuda.current_device() if place.index is None else place.index]
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    try:
        with torch.random.fork_rng(own):
            torch.set_num_threads(training.threads)
            torch.use_deterministic_algorithms(True, warn_only=True)
            filling.fill_uninitialized_memory = False  # a fiftieth of a step, for memory that is written right after
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before, warn_only=warn)
        filling.fill_uninitialized_memory = filled
