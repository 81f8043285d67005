"""Frames of a clip: of a video file through PyAV or torchcodec, or of a folder of images."""

import functools
import hashlib
import importlib
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.data import decode
from foveate.data.problems import one_line

ENDINGS = (".mp4", ".avi", ".mov", ".webm", ".mkv", ".gif")
FRAME_ENDINGS = tuple(ending for ending in decode.ENDINGS if ending != ".gif")


@dataclass(frozen=True)
class Seen:
    """What reading a whole clip showed.

    Attributes:
        first, frames: number of its first frame in the file, and how many it has from there.
        size: (width, height) of the first.
        digest: of its contents and range.
        reason: why it cannot be used; "": it can.
        note: what is odd about it; "": nothing.
    """

    first: int = 0
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    reason: str = ""
    note: str = ""


def look(path: Path, start: float | None, end: float | None) -> Seen:
    """Read every frame of a clip.

    Args:
        path: of a video file or of a folder of frames.
        start, end: of the clip: seconds of a video, counted from its first frame; numbers of frames in a folder. The
            end is not part of it. None: of the whole.
    """
    try:
        files = frame_files(path) if path.is_dir() else [path]
        hashed = hashlib.sha256(f"{start} {end}".encode())
        for file in files:
            hashed.update(file.read_bytes())
    except OSError as error:
        return Seen(reason=f"cannot be read: {error.strerror or error}")
    times: list[float] = []
    sizes: list[tuple[int, int]] = []
    broken = ""
    try:
        with closing(_frames(path)) as frames:
            for time, image in frames:
                times.append(time)
                sizes.append(image.size)
    except Exception as error:  # a decoder meets damage in many ways
        broken = error.args[0] if isinstance(error, NoVideoError) else one_line(error)
        if isinstance(error, NoVideoError) or not times:
            return Seen(reason=broken if isinstance(error, NoVideoError) else f"corrupt or cut short: {broken}")
    if not times:
        return Seen(reason="has no frames")
    inside = [n for n, time in enumerate(times) if (start or 0) <= time and (end is None or time < end)]
    if not inside:
        unit = "frames" if path.is_dir() else "s"
        return Seen(reason=f"has no frames from {start or 0:g} to {end} {unit}; it ends at {times[-1]:g} {unit}")
    notes = [f"{len(times)} frames are read; the rest is broken ({broken})"] if broken else []
    if len(set(sizes)) > 1:
        notes.append(f"its frames have {len(set(sizes))} sizes; each is resized on its own")
    return Seen(inside[0], len(inside), sizes[inside[0]], hashed.hexdigest(), "", "; ".join(notes))


def read_frames(path: Path, numbers: Sequence[int]) -> list[Image.Image]:
    """These frames, RGB and upright. numbers: of the frames in the file, in any order.

    Raises: ValueError: if one of them cannot be read any more.
    """
    wanted, found = set(numbers), {}
    try:
        if path.is_dir():
            files = frame_files(path)
            found = {number: decode.read_image(files[number]) for number in wanted}
        elif (decoder := seeking_decoder()) is not None and path.suffix.lower() != ".gif":
            order = sorted(wanted)
            frames = decoder(str(path), dimension_order="NHWC").get_frames_at(order).data.numpy()
            found = {number: Image.fromarray(frame) for number, frame in zip(order, frames, strict=True)}
        else:
            with closing(_frames(path)) as frames:
                for number, (_, image) in enumerate(frames):
                    if number in wanted:
                        found[number] = image
                    if len(found) == len(wanted):
                        break
        return [found[number] for number in numbers]
    except Exception as error:  # as above
        raise ValueError(f"{path}: {one_line(error)}; it could be read when the data were checked") from None


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], rate: float = 8.0) -> None:
    """Pictures (H, W, 3) of one size as an mp4 file in H.264; odd sides get a white row or column.

    Raises: ValueError: no frames, or PyAV is not installed.
    """
    if not frames:
        raise ValueError(f"{path}: wanted frames to write; got none")
    av = _reader()
    high, wide = (side + side % 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
        for frame in frames:
            whole = np.full((high, wide, 3), 255, np.uint8)
            whole[: frame.shape[0], : frame.shape[1]] = frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(whole, format="rgb24")))
        container.mux(stream.encode())


def clip_paths(path: Path) -> list[Path]:
    """The clips at a path or below it, sorted: video files, and folders with frames.

    Raises: ValueError: if there is none.
    """
    if path.is_file() or (path.is_dir() and frame_files(path)):
        return [path]
    below = sorted(path.rglob("*"))
    found = [one for one in below if (one.suffix.lower() in ENDINGS if one.is_file() else frame_files(one))]
    if not found:
        there = "none in it" if path.is_dir() else "no such file or folder"
        raise ValueError(
            f"{path}: wanted a video ({', '.join(ENDINGS)}), a folder of frames, or a folder of them; {there}"
        )
    return found


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder of frames, in the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in FRAME_ENDINGS and file.name[0] != "."]
    return sorted(
        files, key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]
    )


class NoVideoError(ValueError):
    """A file without a video in it, or one that no installed package reads."""


def _frames(path: Path) -> Generator[tuple[float, Image.Image], None, None]:
    """(time, image) of every frame: seconds from the first, in a folder their numbers."""
    if path.is_dir():
        for number, file in enumerate(frame_files(path)):
            yield number, decode.read_image(file)
        return
    av = _reader()
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        reason = "not a video, whatever its name says" if path.stat().st_size else "empty file (0 bytes)"
        raise NoVideoError(f"{reason} ({one_line(error.strerror)})" if path.stat().st_size else reason) from None
    with container:
        if not container.streams.video:
            kind = "audio only" if container.streams.audio else "no stream of images"
            raise NoVideoError(f"{kind}: it has no video")
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        first: float | None = None
        for number, frame in enumerate(container.decode(stream)):
            time = number / rate if frame.time is None else float(frame.time)
            first = time if first is None else first
            pixels = frame.to_ndarray(format="rgb24")
            turned = np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90))
            yield time - first, Image.fromarray(np.ascontiguousarray(turned))


@functools.cache
def seeking_decoder() -> Any:
    """torchcodec's VideoDecoder, which reads single frames without those before them; None: it is not installed, or the
    system has no FFmpeg for it. Its frames equal PyAV's."""
    try:
        codec = importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError):
        return None
    return codec.decoders.VideoDecoder if codec.ffmpeg_major_version else None  # it can be imported without FFmpeg


def _reader() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise NoVideoError("a video; PyAV is needed for it (pip install 'foveate[video]')") from None
