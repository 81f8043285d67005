"""Kind "clips": video files and folders of frames in class folders, or in a list with start and end."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.augmentation import uniforms
from foveate.data.cache import load_record, save_record
from foveate.data.checks import examine
from foveate.data.clips.files import Seen, look, read_frames, seeking_decoder
from foveate.data.clips.listing import Clip, ClipListing, few_clips, is_of_clips, list_clips
from foveate.data.dataset import Batch, Dataset, Progress, Split, Target, register_data
from foveate.data.division import divide
from foveate.data.listing import Part
from foveate.data.photos import random_part
from foveate.data.problems import Problem, complain
from foveate.data.source import folder_of
from foveate.data.transforms import MEAN, STD, Preprocessing
from foveate.spec import DataSpec

VERSION = 1  # of what is checked
FRAMES, SIDE = 8, 112
KEPT_BYTES = 256_000_000  # of decoded frames, of the clips of a split
SAMPLINGS = ("segments", "dense")


class Sampling:
    """Which frames of a clip a sample has.

    Args:
        how: "segments": one of each of `frames` equal segments, in training at random, else the middle one; "dense":
            every `stride`-th of a stretch, which begins at random in training, else evenly over the clip.
        frames: of a sample.
        stride: of "dense".
        views: samples of a clip that a test averages over.
    """

    def __init__(self, how: str, frames: int, stride: int, views: int) -> None:
        if how not in SAMPLINGS:
            raise ValueError(f"sampling: wanted {' or '.join(map(repr, SAMPLINGS))}; got {how!r}")
        for option, value in (("frames", frames), ("stride", stride), ("views", views)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{option}: wanted a whole number of 1 or more; got {value!r}")
        self.how, self.frames, self.stride, self.views = how, frames, stride, views

    @property
    def least(self) -> int:
        """Frames that a clip must have."""
        return self.frames if self.how == "segments" else (self.frames - 1) * self.stride + 1

    def of_training(self, length: int, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """(frames,) places in a clip of this length, from as many draws in 0 to 1. A short clip's last repeats."""
        if self.how == "segments":
            places = (np.arange(self.frames) + draws) * max(length, self.frames) / self.frames
        else:
            start = int(draws[0] * (max(length - self.least, 0) + 1))
            places = np.float64(start) + np.arange(self.frames) * self.stride
        return np.minimum(places.astype(np.int64), length - 1)

    def of_test(self, length: int, views: int) -> NDArray[np.int64]:
        """(views · frames,) places, view after view."""
        shares = (np.arange(views) + 0.5) / views
        if self.how == "segments":
            places = [(np.arange(self.frames) + share) * max(length, self.frames) / self.frames for share in shares]
        else:
            room = max(length - self.least, 0)
            places = [int(share * (room + 1)) + np.arange(self.frames) * self.stride for share in shares]
        return np.minimum(np.concatenate(places).astype(np.int64), length - 1)

    def __str__(self) -> str:
        stretch = "one of each of as many segments" if self.how == "segments" else f"every {self.stride} frames"
        return f"{self.frames} frames, {stretch}; {self.views} sample{'s' * (self.views > 1)} of each test clip"


class Clips(Split):
    """Clips with their classes, their frames decoded when a batch needs them. Inputs (N, 3, T, H, W).

    Augmentation: other frames, a random part of the image and a mirror image, the same for all frames of a sample.

    Args:
        clips, seen: n.
        labels: (n,) class numbers: the target "label".
        identities: (n,) numbers of the groups: the target "identity"; None: the clips have none.
        sampling, preprocessing: of the frames.
        views: samples of each clip that evaluation gives, one after the other along T.
        crops: squares of each of these samples, one after the other too: 1, the middle, or 3 along the long side.
        flip: half of the samples of training are mirrored.
        contents_alike: as `Split` has it.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seen: Sequence[Seen],
        labels: NDArray[np.int64],
        identities: NDArray[np.int64] | None,
        sampling: Sampling,
        preprocessing: Preprocessing,
        *,
        views: int,
        crops: int,
        flip: bool,
        contents_alike: NDArray[np.int64],
    ) -> None:
        self.clips, self.seen, self.sampling, self.preprocessing = clips, seen, sampling, preprocessing
        self.views, self.crops, self.flip, self.contents_alike = views, crops, flip, contents_alike
        self.labels = self.strata = labels
        self.identities = identities
        if clips and clips[0].group is not None:
            self.groups = np.array([clip.group for clip in clips], np.str_)
        sizes = [one.frames * one.size[0] * one.size[1] * 3 for one in seen]
        self._keep = sum(sizes) <= KEPT_BYTES
        self._kept: dict[int, list[Image.Image]] = {}
        self._offset = torch.tensor(preprocessing.mean).view(1, -1, 1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(preprocessing.std).view(1, -1, 1, 1, 1) * 255)

    def __len__(self) -> int:
        return len(self.labels)

    def name_of(self, item: int) -> str:
        return f"{self.clips[item].label}/{self.clips[item].name}"

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        draws = None if augment is None else uniforms(augment, wanted, 5 + self.sampling.frames)
        count = self.sampling.frames * (self.views * self.crops if draws is None else 1)
        side = self.preprocessing.image_size
        pixels = np.empty((len(wanted), count, side, side, 3), np.uint8)
        for place, item in enumerate(wanted):
            self._fill(pixels[place], int(item), None if draws is None else draws[place])
        x = torch.from_numpy(pixels).permute(0, 4, 1, 2, 3).float().contiguous()
        x.sub_(self._offset).mul_(self._scale)
        targets = {"label": torch.from_numpy(self.labels[wanted])}
        if self.identities is not None:
            targets["identity"] = torch.from_numpy(self.identities[wanted])
        return Batch(x, targets, torch.from_numpy(wanted))

    def _fill(self, pixels: NDArray[np.uint8], item: int, draws: NDArray[np.float64] | None) -> None:
        length = self.seen[item].frames
        if draws is None:
            shown = pixels.reshape(self.views, self.crops, self.sampling.frames, *pixels.shape[1:])
            for place, image in enumerate(self._frames(item, self.sampling.of_test(length, self.views))):
                view, frame = divmod(place, self.sampling.frames)
                for crop, square in enumerate(_squares(image, self.crops)):
                    shown[view, crop, frame] = self.preprocessing.pixels(square)
            return
        images = self._frames(item, self.sampling.of_training(length, draws[5:]))
        side, (wide, high) = self.preprocessing.image_size, images[0].size
        left, top, right, bottom = random_part((wide, high), draws[:4])
        for place, image in enumerate(images):
            x, y = image.width / wide, image.height / high  # 1, but where the size changes within a clip
            box = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
            part = self.preprocessing.in_order(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
            pixels[place] = part[:, ::-1] if self.flip and draws[4] < 0.5 else part

    def _frames(self, item: int, places: NDArray[np.int64]) -> list[Image.Image]:
        first, path = self.seen[item].first, self.clips[item].path
        if not self._keep:
            return read_frames(path, [first + int(place) for place in places])
        if item not in self._kept:
            self._kept[item] = read_frames(path, range(first, first + self.seen[item].frames))
        return [self._kept[item][place] for place in places]

    def prepare(self, source: str | Path) -> Tensor:
        """A video or a folder of frames as a sample (3, T, H, W) of evaluation. Raises: ValueError: if it is none."""
        path = Path(source)
        found = look(path, None, None)
        if found.reason:
            raise ValueError(f"{path}: {found.reason}")
        images = read_frames(path, [found.first + int(n) for n in self.sampling.of_test(found.frames, 1)])
        pixels = np.stack([self.preprocessing.pixels(image) for image in images])[None]
        x = torch.from_numpy(pixels).permute(0, 4, 1, 2, 3).float()
        return ((x - self._offset) * self._scale)[0].contiguous()


def _squares(image: Image.Image, crops: int) -> list[Image.Image]:
    """The image, of which a square is shown; of three crops the first, middle and last square along its long side."""
    if crops == 1:
        return [image]
    side, (wide, high) = min(image.size), image.size
    starts = [(share * (wide - side) // 2, share * (high - side) // 2) for share in range(crops)]
    return [image.crop((left, top, left + side, top + side)) for left, top in starts]


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    frames: int = FRAMES,
    sampling: str = "segments",
    stride: int = 2,
    short: str = "refuse",
    labels: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
) -> list[Problem]:
    """Everything that is wrong with the clips of a folder, and notes on what is merely odd; every clip is read."""
    least = 1 if _is_repeated(short) else Sampling(sampling, frames, stride, 1).least
    return _usable(list_clips(folder, labels, group), least, skip_bad, progress)[2]


@register_data("clips", recognises=is_of_clips, check=find_problems, tasks=("video", "reidentification"))
def open_clips(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    frames: int = FRAMES,
    sampling: str = "segments",
    stride: int = 2,
    views: int = 1,
    crops: int = 1,
    short: str = "refuse",
    flip: bool = True,
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    labels: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Videos (mp4, avi, mov, webm, mkv, gif) and folders of frames as root/<class>/…, root/train/<class>/…, or a list.

    A list is clips.csv with the columns file, label and, where wanted, start, end, split and group; or labels.json. It
    lies in the folder, as its files do. Start and end are seconds of a video, or numbers of frames in a folder of
    them. Of clips without parts of their own, test_fraction of each class is held out. Augmentation: other frames, a
    random part and mirror images, the same for all frames of a sample. The targets are "label" and, of clips with
    groups, "identity", the group.

    Args:
        spec: its size is the side of square frames; None: 112.
        progress: called with (clips read, clips in all) while they are read for the first time.
        frames, sampling, stride, views: of a sample, as `Sampling` has them.
        crops: of each of these samples: 1, the middle square of its frames, or 3 squares along the long side.
        short: of a clip with too few frames: "refuse" the folder, or "repeat" its last one.
        flip: mirror half of the samples of training.
        crop_pct, interpolation, mean, std: of `Preprocessing`.
        labels: the list, where it is another.
        group: column of the list that says what a clip belongs to, such as "subject", or of class folders a regular
            expression as in kind "folders"; clips of one group stay on one side. None: the list's column "group", if it
            has it.
        skip_bad: leave clips out that cannot be used, instead of refusing the folder.

    Raises: ValueError: if clips or rows cannot be used, each by its place, or an option is out of its range.
    """
    folder = folder_of(spec.source)
    chosen = Sampling(sampling, frames, stride, views)
    size = spec.size or (SIDE, SIDE)
    preprocessing = Preprocessing.square(folder, size, crop_pct, interpolation, mean, std, False)
    if crops not in (1, 3):
        raise ValueError(f"crops: wanted 1 or 3; got {crops!r}")
    listing = list_clips(folder, labels, group)
    if any(problem.kind == "folder" for problem in listing.problems):
        complain(folder, listing.problems, 0)
    listing, seen, problems = _usable(listing, 1 if _is_repeated(short) else chosen.least, skip_bad, progress)
    complain(folder, problems, 0)
    number = {name: place for place, name in enumerate(listing.classes)}
    numbers = np.array([number[clip.label] for clip in listing.clips], np.int64)
    alike = np.unique([one.digest for one in seen], return_inverse=True)[1].astype(np.int64)
    groups = [clip.group for clip in listing.clips]
    targets, identities = {"label": Target("class", listing.classes)}, None
    if groups[0] is not None:
        names, identities = np.unique(np.array(groups, np.str_), return_inverse=True)
        targets["identity"] = Target("class", tuple(names.tolist()))
    divided = divide(
        folder,
        [clip.part for clip in listing.clips],
        np.array([clip.key for clip in listing.clips], np.uint64),
        spec,
        alike=alike,
        strata=numbers,
        belonging=None if groups[0] is None else np.array(groups, np.str_),
        names=listing.classes,
    )
    made: dict[Part, Clips] = {}
    for part, places in divided.items():
        made[part] = Clips(
            [listing.clips[place] for place in places],
            [seen[place] for place in places],
            numbers[places],
            None if identities is None else identities[places].astype(np.int64),
            chosen,
            preprocessing,
            views=views if part == "test" else 1,
            crops=crops if part == "test" else 1,
            flip=flip,
            contents_alike=alike[places],
        )
    side, name = preprocessing.image_size, folder.resolve().name
    lengths = [one.frames for one in seen]
    text = "\n".join(
        f"{clip.part}/{clip.key}/{clip.group}/{one.digest}" for clip, one in zip(listing.clips, seen, strict=True)
    )
    counts = ", ".join(f"{len(split):,} {part}" for part, split in made.items())
    return Dataset(
        name=name,
        inputs=(3, frames, side, side),
        targets=targets,
        train=made["train"],
        test=made["test"],
        fingerprint=hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16],
        description=f"{name}: {counts} clips, {frames} frames of {side}×{side} pixels, {len(listing.classes)} classes",
        about={
            "augmentation": "other frames, a random part of the image" + ", mirror images" * flip,
            "sampling": str(chosen) + f", {crops} squares of each" * (crops > 1),
            "preprocessing": str(preprocessing),
            "decoder": "PyAV" if seeking_decoder() is None else "torchcodec",
            "clip lengths": f"{min(lengths)} to {max(lengths)} frames",
        },
        notes=tuple(str(problem) for problem in problems),
        prepare=made["test"].prepare,
        validation=made.get("validation"),
    )


def _is_repeated(short: str) -> bool:
    if short not in ("refuse", "repeat"):
        raise ValueError(f"short: wanted 'refuse' or 'repeat'; got {short!r}")
    return short == "repeat"


def _usable(
    listing: ClipListing, least: int, skip_bad: bool, progress: Progress | None
) -> tuple[ClipListing, list[Seen], list[Problem]]:
    """The clips to use, what reading them showed, and all problems; with `skip_bad`, bad clips are left out."""
    seen = _read(listing, progress)
    problems = list(listing.problems)
    bad = set()
    for place, (clip, one) in enumerate(zip(listing.clips, seen, strict=True)):
        reason = one.reason
        if not reason and one.frames < least:
            reason = f"has {one.frames} frames; wanted at least {least}, or short = 'repeat'"
        if reason:
            bad.add(place)
            problems.append(Problem(clip.path, reason))
        elif one.note:
            problems.append(Problem(clip.path, one.note, "note"))
    if skip_bad and any(problem.kind == "file" for problem in problems):
        problems = [
            replace(problem, reason=f"left out: {problem.reason}", kind="note") if problem.kind == "file" else problem
            for problem in problems
        ]
        kept = tuple(clip for place, clip in enumerate(listing.clips) if place not in bad)
        seen = [one for place, one in enumerate(seen) if place not in bad]
        listing = replace(listing, clips=kept)
        problems += few_clips(listing.root, listing.classes, kept) if bad else []
    return listing, seen, problems


def _read(listing: ClipListing, progress: Progress | None) -> list[Seen]:
    """Every clip read; what passed is remembered by each file's name, size and time of change."""
    state = hashlib.sha256(f"{VERSION} {listing.root.resolve()}\n".encode(errors="replace"))
    for clip in listing.clips:
        files = sorted(clip.path.iterdir()) if clip.path.is_dir() else [clip.path]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        state.update(f"{clip.path} {clip.start} {clip.end} {stats}\n".encode(errors="replace"))
    name = f"clips-{state.hexdigest()[:32]}"
    kept = load_record(name)
    if kept is not None:
        return [
            Seen(first, frames, (wide, high), digest, "", note)
            for first, frames, wide, high, digest, note in kept["seen"]
        ]
    seen = examine(listing.clips, lambda clip: look(clip.path, clip.start, clip.end), progress)
    if not any(one.reason for one in seen):
        save_record(name, {"seen": [[s.first, s.frames, *s.size, s.digest, s.note] for s in seen]})
    return seen
