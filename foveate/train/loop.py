"""One training, from a run's specification to its metrics: one readable loop.

Every batch is a pure function of (seed, epoch, position), the learning rate of the step, and a checkpoint holds the
rest (weights, optimiser, generator): a run killed at any moment goes on and ends with the weights of an unbroken one.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.data import ImageData, Split
from foveate.networks import build_variant, input_channels
from foveate.spec import Run, Training
from foveate.tasks import Classification
from foveate.train.checkpoint import CHECKPOINT, TrainingFailed, load_checkpoint, save_checkpoint, write_whole
from foveate.train.machine import machine, versions

HELD_OUT = 0.1  # of the training images, where early stopping needs something to look at


def train(
    run: Run,
    data: ImageData,
    folder: Path,
    *,
    on_progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    checkpoint_s: float = 30.0,
) -> dict[str, Any]:
    """Train what the run says, in its folder; goes on from the folder's checkpoint if there is one.

    Args:
        run: the specification.
        data: opened from `run.data`.
        folder: of this run; holds the checkpoint, and at the end model.safetensors and right.safetensors (which test
            images were classified rightly).
        on_progress: called with (steps done, steps in all, loss).
        checkpoint_s: seconds between checkpoints within an epoch; one is written at the end of each epoch besides.

    Returns: {"metrics": {name: [value, unit]}, "history": [{"epoch", …}], "machine", "versions", "seconds"}.
    Raises: TrainingFailed: the loss became nan or infinite (step and learning rate named), or the disk is full.
    """
    torch.set_num_threads(run.train.threads)
    with _deterministic():
        return _Loop(run, data, folder, on_progress, checkpoint_s).run_to_the_end()


class _Loop:
    def __init__(
        self,
        run: Run,
        data: ImageData,
        folder: Path,
        on_progress: Callable[[int, int, float], None],
        checkpoint_s: float,
    ) -> None:
        self.run, self.data, self.folder, self.spec = run, data, folder, run.train
        self.on_progress, self.checkpoint_s = on_progress, checkpoint_s
        self.device = torch.device(self.spec.device)
        self.format = torch.channels_last if self.spec.channels_last else torch.contiguous_format
        self.channels = input_channels(run.network, data.channels)
        self.task = Classification(label_smoothing=self.spec.label_smoothing)
        self.train_indices, self.held_out = self._parts()
        self.batches_an_epoch = batches_an_epoch(len(self.train_indices), self.spec.batch_size)
        self.steps = self.batches_an_epoch * self.spec.epochs

        torch.manual_seed(run.seed)
        example = torch.zeros(2, self.channels, *data.image_size)
        model = build_variant(run, num_classes=len(data.classes), example=example)
        self.model = model.to(self.device).to(memory_format=self.format)
        self.optimizer = make_optimizer(self.model, self.spec)
        self.step, self.history = 0, list[dict[str, float]]()
        self.losses: list[float] = []  # of this epoch's steps so far
        self.seconds, self.started = 0.0, time.monotonic()  # spent before this start; when it began
        self.best_loss, self.best_epoch = math.inf, 0
        torch.manual_seed(run.seed)  # dropout and the like: the same draws whatever was drawn for the weights
        self._resume()

    def run_to_the_end(self) -> dict[str, Any]:
        saved = time.monotonic()
        while self.step < self.steps and not self._stopped_early():
            epoch, first = divmod(self.step, self.batches_an_epoch)
            self.model.train()
            order = epoch_order(self.train_indices, self.run.seed, epoch)
            parts = evenly(order, self.batches_an_epoch)[first:]
            augment = (self.run.seed, epoch) if self.run.data.augment else None
            for x, labels in self._batches(self.data.train, parts, augment):
                self.losses.append(self._learn(x, labels))
                self.step += 1
                if time.monotonic() - saved > self.checkpoint_s and self.step % self.batches_an_epoch:
                    self._save()
                    saved = time.monotonic()
            self._end_epoch(epoch + 1)
            self._save()
            saved = time.monotonic()
        return self._finish()

    def _learn(self, x: Tensor, labels: Tensor) -> float:
        rate = learning_rate(self.step, self.steps, self.batches_an_epoch, self.spec)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast():
            loss = self.task.loss(self.model(x), labels)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the loss is {value} at step {self.step + 1} of {self.steps} "
                f"(epoch {self.step // self.batches_an_epoch + 1}), learning rate {rate:.4g}; a smaller one may do"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.on_progress(self.step + 1, self.steps, value)
        return value

    def _end_epoch(self, epoch: int) -> None:
        test, _ = self._evaluate(self.data.test, range(len(self.data.test)))
        mean_loss = math.fsum(self.losses) / len(self.losses)
        entry = {"epoch": epoch, "train_loss": mean_loss, "test_accuracy": test["accuracy"], "test_loss": test["loss"]}
        self.losses = []
        if self.spec.early_stop:
            held, _ = self._evaluate(self.data.train, self.held_out)
            entry["held_out_loss"] = held["loss"]
            if held["loss"] < self.best_loss:
                self.best_loss, self.best_epoch = held["loss"], epoch
        self.history.append(entry)

    def _stopped_early(self) -> bool:
        epochs = len(self.history)
        return bool(self.spec.early_stop) and epochs - self.best_epoch >= self.spec.early_stop

    def _finish(self) -> dict[str, Any]:
        metrics, right = self._evaluate(self.data.test, range(len(self.data.test)))
        state = {name: value.contiguous().cpu() for name, value in self.model.state_dict().items()}
        write_whole(self.folder / "model.safetensors", {name: value.clone() for name, value in state.items()}, {})
        write_whole(self.folder / "right.safetensors", {"right": right}, {})
        return {
            "metrics": {
                "accuracy": [metrics["accuracy"], "fraction"],
                "test_loss": [metrics["loss"], "nats"],
                "epochs": [len(self.history), "epochs"],
                "seconds": [self._spent(), "s"],
            },
            "history": self.history,
            "machine": machine(),
            "versions": versions(),
        }

    def _spent(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _evaluate(self, split: Split, indices: Any) -> tuple[dict[str, float], Tensor]:
        self.model.eval()
        size = max(self.spec.batch_size, 128)
        parts = [list(indices[i : i + size]) for i in range(0, len(indices), size)]
        with torch.inference_mode(), self._autocast():
            return self.task.evaluate(self.model, self._batches(split, parts, None))

    def _batches(
        self, split: Split, parts: list[list[int]], augment: tuple[int, int] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each part's images and labels on the device; the next is read while this one is worked on."""

        def read(part: list[int]) -> tuple[Tensor, Tensor]:
            x, labels = split.batch(part, augment)
            return x.expand(-1, self.channels, -1, -1), labels

        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(read, parts[0]) if parts else None
            for part in [*parts[1:], None]:
                if coming is None:
                    return
                x, labels = coming.result()
                coming = reader.submit(read, part) if part is not None else None
                yield x.to(self.device, memory_format=self.format, non_blocking=True), labels.to(self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.amp)

    def _parts(self) -> tuple[list[int], list[int]]:
        """Indices to learn from and, for early stopping, those held out; the same for every seed and variant."""
        indices = list(range(len(self.data.train)))
        if not self.spec.early_stop:
            return indices, []
        order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0)).tolist()
        cut = max(1, round(HELD_OUT * len(indices)))
        return sorted(order[cut:]), sorted(order[:cut])

    def _save(self) -> None:
        facts = {
            "step": self.step,
            "history": self.history,
            "losses": self.losses,
            "best": [self.best_loss, self.best_epoch],
            "seconds": self._spent(),
        }
        save_checkpoint(self.folder / CHECKPOINT, self.run.key, self.model, self.optimizer, facts)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        facts = load_checkpoint(path, self.run.key, self.model, self.optimizer)
        self.step, self.history = facts["step"], facts["history"]
        self.losses, self.seconds = facts["losses"], facts["seconds"]
        self.best_loss, self.best_epoch = facts["best"]


def make_optimizer(model: nn.Module, spec: Training) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; weight decay on matrices and kernels only, not on norms and biases."""
    wide = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    thin = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": wide, "weight_decay": spec.weight_decay}, {"params": thin, "weight_decay": 0.0}]
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=(spec.momentum, 0.999))
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


def learning_rate(step: int, steps: int, batches_an_epoch: int, spec: Training) -> float:
    """Linear warm-up, then half a cosine down to zero; a function of the step alone."""
    warmup = min(spec.warmup_epochs * batches_an_epoch, steps / 2)
    if step < warmup:
        return spec.lr * (step + 1) / (warmup + 1)
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches_an_epoch(images: int, batch_size: int) -> int:
    """How many batches of at most `batch_size` use every image once."""
    return max(1, math.ceil(images / batch_size))


def evenly(order: list[int], count: int) -> list[list[int]]:
    """The order cut into so many parts, none more than one longer than another: no small batch is left over."""
    return [order[i * len(order) // count : (i + 1) * len(order) // count] for i in range(count)]


def epoch_order(indices: list[int], seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a function of the seed and the epoch alone, so the same for every variant."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
