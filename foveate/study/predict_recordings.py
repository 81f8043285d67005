"""What a trained network gives for recordings that belong to no data set: a row each, and a row for each window."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.signals.batches import Scaling, SignalWindows
from foveate.data.signals.files import read_signal
from foveate.data.signals.listing import Recording, SignalListing, list_signals
from foveate.data.signals.recordings import usable
from foveate.data.source import folder_of
from foveate.spec import DataSpec
from foveate.tasks.task import main_output

LISTED = ("table", "label", "key", "factor", "only")  # options of the data that say which recordings there are
SAYS_ITS_RATE = ".wav"
OF_ONE_ARRAY = (".wav", ".npy")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class RecordingForm:
    """How a recording becomes windows, and how they decide.

    Attributes:
        window: samples; windows follow one another from the first sample, and what is left at the end is not read.
        channels: of a recording.
        scaling: of a window.
        classes: names.
        majority: most of the windows' answers decide a recording, not the mean of their log-probabilities.
        rate: samples a second of the recordings that the network was trained on; None: not known.
        resample: recordings of another rate to that one.
        key: of the array in a file that may have several.
    """

    window: int
    channels: int
    scaling: Scaling
    classes: tuple[str, ...]
    majority: bool = False
    rate: float | None = None
    resample: bool = False
    key: str | None = None

    def read(
        self, file: Path, key: str | None = None, rate: float | None = None
    ) -> tuple[NDArray[np.float32], float | None]:
        """Samples (C, T), and how many a second, None where that is not known.

        key: in place of the form's. rate: of a file that does not say it.

        Raises: ValueError: a file that cannot be read, or that the network cannot take; names it and says why.
        """
        if file.suffix.lower() == SAYS_ITS_RATE:
            rate = None
        elif self.resample and rate is None:
            raise ValueError(f"{file}: does not say its rate, to be resampled from; wanted --rate")
        if key is None and file.suffix.lower() not in OF_ONE_ARRAY:
            key = self.key
        one = Recording(file, key, file.name, "", rate=rate)
        alone = SignalListing(file.parent, (one,), (), ())
        kept, signals, problems = usable(alone, self.window, self.rate if self.resample else None, False, None)
        if problems:
            raise ValueError(str(problems[0]))
        signal, found = signals[0], kept.recordings[0].rate
        if len(signal) != self.channels:
            raise ValueError(f"{file}: has {len(signal)} channels; the network takes {self.channels}")
        if None not in (found, self.rate) and found != self.rate:
            raise ValueError(
                f"{file}: has {found:g} samples a second; the network was trained on {self.rate:g}"
                " (rate = … among the data's options of a study resamples)"
            )
        return signal, found

    def windows(self, signal: NDArray[np.float32], start: int, count: int) -> Tensor:
        """The scaled windows from number `start` on, at most `count`, (n, C, window)."""
        whole = signal[:, : signal.shape[1] // self.window * self.window]
        cut = whole.reshape(len(whole), -1, self.window)[:, start : start + count].swapaxes(0, 1)
        return torch.from_numpy(np.stack([self.scaling(one) for one in cut]))


def form_of(spec: DataSpec, split: SignalWindows, task: Any) -> RecordingForm:
    """What a network that was trained on these data takes.

    Raises: ValueError: the data's recordings were multiplied by numbers of a table, which other files do not have.
    """
    options = spec.options
    if options.get("factor") is not None and split.scaling.how == "training":
        raise ValueError(
            f"{spec.source}: its recordings are multiplied by the table's {options['factor']!r} and scaled by those of"
            " the training part; files by themselves have no such number"
        )
    resampled = options.get("rate")
    return RecordingForm(
        window=split.window,
        channels=len(split.signals[0]),
        scaling=split.scaling,
        classes=task.classes,
        majority=getattr(task, "recordings", "mean") == "majority",
        rate=_rate_of(spec) if resampled is None else float(resampled),
        resample=resampled is not None,
        key=options.get("key"),
    )


def _rate_of(spec: DataSpec) -> float | None:
    """Samples a second of the data's recordings, which all have one rate; None where they do not say it."""
    listed = {name: spec.options[name] for name in LISTED if name in spec.options}
    for one in list_signals(folder_of(spec.source), **listed).recordings:
        try:
            return read_signal(one.path, one.key)[1] if one.rate is None else one.rate
        except ValueError:  # one that the study left out
            continue
    return None


def predict_recordings(
    model: nn.Module,
    form: RecordingForm,
    files: Sequence[Path],
    root: Path,
    *,
    device: str = "cpu",
    batch_size: int = 32,
    key: str | None = None,
    rate: float | None = None,
) -> tuple[Rows, Rows]:
    """A row {"file", "windows", "class", "score", …} a recording, and a row {"file", "start", "start_s", …} a window.

    Args:
        files: recordings.
        root: folder that names are given below.
        key, rate: as `RecordingForm.read` takes them.

    Raises: ValueError: as `RecordingForm.read`; a rate where all files say their own.
    """
    if rate is not None and all(file.suffix.lower() == SAYS_ITS_RATE for file in files):
        raise ValueError(f"--rate: of files that do not say theirs; {files[0]} does")
    model = model.to(device).eval()
    recordings: Rows = []
    windows: Rows = []
    for file in files:
        signal, found = form.read(file, key, rate)
        name = str(file.relative_to(root))
        logs = _answers(model, form, signal, device, batch_size)
        if form.majority:
            whole = torch.eye(len(form.classes))[logs.argmax(1)].mean(0)
        else:
            whole = torch.softmax(logs.double().mean(0), 0)
        recordings.append({"file": name, "windows": len(logs)} | _scores(form, whole))
        for number, one in enumerate(logs.exp()):
            start = number * form.window
            seconds = None if found is None else start / found
            windows.append({"file": name, "start": start, "start_s": seconds} | _scores(form, one))
    return recordings, windows


def _answers(
    model: nn.Module, form: RecordingForm, signal: NDArray[np.float32], device: str, batch_size: int
) -> Tensor:
    """Log-probabilities (windows, classes)."""
    found = []
    with torch.inference_mode():
        for start in range(0, signal.shape[1] // form.window, batch_size):
            logits = main_output(model(form.windows(signal, start, batch_size).to(device)))
            found.append(torch.log_softmax(logits.float(), 1).cpu())
    return torch.cat(found)


def _scores(form: RecordingForm, given: Tensor) -> dict[str, Any]:
    return {"class": form.classes[int(given.argmax())], "score": float(given.max())} | {
        f"score {name}": float(value) for name, value in zip(form.classes, given, strict=True)
    }
