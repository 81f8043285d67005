"""Clips of files, of folders of frames and of lists: which frames a sample has, what is refused, who stays together."""

import struct
import wave

import av
import numpy as np
import pytest
from PIL import Image

from foveate.data.clips import files
from foveate.data.clips.files import clip_paths, look, read_frames
from foveate.data.clips.kind import Sampling, find_problems
from foveate.data.clips.moving_digits import AXES, CLASSES, moving_digits
from foveate.data.open import kind_of, open_data
from foveate.spec import DataSpec

CODECS = {".mp4": "mpeg4", ".avi": "mpeg4", ".mov": "mpeg4", ".mkv": "mpeg4", ".webm": "libvpx", ".gif": "gif"}


def video(path, frames=12, size=(32, 24), rate=10, first=0):
    """Frame n is grey of level 10·(first + n)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 10 * ((first + number) % 26), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    return path


def levels(images):
    return [round(float(np.asarray(image).mean()) / 10) for image in images]


def folder(root):
    for label in ("run", "walk"):
        for number in range(3):
            video(root / label / f"{number}.mp4", first=number)
    return root


@pytest.mark.parametrize("ending", CODECS)
def test_every_kind_of_file_is_read(ending, tmp_path):
    seen = look(video(tmp_path / f"a{ending}"), None, None)
    assert (seen.reason, seen.frames, seen.size) == ("", 12, (32, 24))
    if ending != ".gif":  # whose palette has eight greys
        assert levels(read_frames(tmp_path / f"a{ending}", [7, 2])) == [7, 2]


def test_a_range_is_seconds_of_a_video_and_numbers_of_frames_in_a_folder(tmp_path):
    seen = look(video(tmp_path / "a.mp4"), 0.3, 0.8)
    assert (seen.first, seen.frames) == (3, 5)
    assert "has no frames from 5 to 6 s; it ends at 1.1 s" in look(tmp_path / "a.mp4", 5, 6).reason
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(12):
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(frames / f"f{number}.png")
    seen = look(frames, 9, 11)
    assert (seen.first, seen.frames) == (9, 2)
    assert levels(read_frames(frames, [9, 10, 2])) == [9, 10, 2], "f10 comes after f9"
    assert clip_paths(tmp_path) == [tmp_path / "a.mp4", frames]
    assert clip_paths(frames) == [frames]
    with pytest.raises(ValueError, match="wanted a video .*; no such file or folder"):
        clip_paths(tmp_path / "b")


def test_torchcodec_reads_the_frames_that_pyav_reads(tmp_path, monkeypatch):
    if files.seeking_decoder() is None:
        pytest.skip("torchcodec is not installed, or the system has no FFmpeg")
    for ending in (".mp4", ".webm", ".avi"):
        clip = video(tmp_path / f"a{ending}")
        sought = read_frames(clip, [9, 2, 9])
        with monkeypatch.context() as patch:
            patch.setattr(files, "seeking_decoder", lambda: None)
            assert np.array_equal(sought, read_frames(clip, [9, 2, 9]))


def test_what_is_no_clip_is_said_by_name(tmp_path):
    root = folder(tmp_path / "set")
    (root / "run" / "text.mp4").write_text("no video")
    (root / "run" / "none.mp4").write_bytes(b"")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    (tmp_path / "sound.wav").rename(root / "walk" / "sound.avi")
    video(root / "walk" / "short.mp4", frames=3)
    whole = video(tmp_path / "long.avi", frames=60, size=(64, 64)).read_bytes()
    (root / "walk" / "tail.avi").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "walk" / "notes.txt").write_text("x")
    found = {problem.path.name: problem for problem in find_problems(root)}
    assert "not a video, whatever its name says" in found["text.mp4"].reason
    assert "empty file" in found["none.mp4"].reason
    assert "audio only" in found["sound.avi"].reason
    assert found["short.mp4"].reason == "has 3 frames; wanted at least 8, or short = 'repeat'"
    assert "not a video file" in found["notes.txt"].reason
    assert look(root / "walk" / "tail.avi", None, None).frames in range(20, 60)
    assert "short.mp4" not in {problem.path.name for problem in find_problems(root, short="repeat")}
    with pytest.raises(ValueError, match=r"5 problems:"):
        open_data(DataSpec(source=str(root), kind="clips"))
    data = open_data(DataSpec(source=str(root), kind="clips", size=16, options={"skip_bad": True}))
    assert len(data.train) + len(data.test) == 7
    assert sum("left out" in note for note in data.notes) == 5
    (tmp_path / "one").mkdir()
    for label in ("run", "walk"):
        video(tmp_path / "one" / label / "0.mp4")
    with pytest.raises(ValueError, match="class 'run' has 1 clip, too few to hold one out"):
        open_data(DataSpec(source=str(tmp_path / "one"), kind="clips"))


def test_a_list_has_ranges_parts_and_groups_and_names_what_is_not_there(tmp_path):
    root = folder(tmp_path)
    rows = [
        f"{label}/{n}.mp4,{label},{start},,s{n}" for label in ("run", "walk") for n in range(3) for start in ("", 0.2)
    ]
    head = "file,label,start,end,group\n"
    (root / "clips.csv").write_text(head + "\n".join(rows))
    assert kind_of(str(root)) == kind_of(str(root), "video") == "clips"
    data = open_data(DataSpec(source=str(root), size=16, options={"frames": 4}))
    assert len(data.train) + len(data.test) == 12
    assert not set(data.train.groups) & set(data.test.groups)
    (root / "clips.csv").write_text(head + "\n".join([*rows, "run/7.mp4,run,,,s1"]))
    with pytest.raises(ValueError, match=r"clips.csv: line 14: names run/7.mp4; there is no such file; did you mean"):
        open_data(DataSpec(source=str(root)))
    (root / "clips.csv").write_text(head + "run/0.mp4,run,2,1,a")
    with pytest.raises(ValueError, match="line 2: wanted an end after the start; got 2 to 1"):
        open_data(DataSpec(source=str(root)))
    (root / "clips.csv").write_text("name,label\n")
    with pytest.raises(ValueError, match="'file' is not in name,label"):
        open_data(DataSpec(source=str(root)))


def test_samples_are_a_pure_function_of_seed_epoch_and_item(tmp_path):
    data = open_data(DataSpec(source=str(folder(tmp_path)), size=16, options={"frames": 4, "views": 3}))
    once, again = data.train.batch([0, 1], (3, 5)), data.train.batch([1, 0], (3, 5))
    assert once.inputs.shape == (2, 3, 4, 16, 16)
    assert (once.inputs == again.inputs.flip(0)).all()
    assert (once.inputs != data.train.batch([0, 1], (3, 6)).inputs).any()
    assert data.test.batch([0], None).inputs.shape == (1, 3, 12, 16, 16), "three samples, one after the other"
    frames = once.inputs[0, 0].mean((1, 2))
    assert (frames.diff() > 0).all(), "later frames are brighter"
    sample = data.prepare(str(data.test.clips[0].path))
    assert sample.shape == (3, 4, 16, 16)


def test_sampling_takes_one_frame_of_each_segment_or_every_second():
    segments, dense = Sampling("segments", 4, 2, 1), Sampling("dense", 4, 2, 2)
    draws = np.random.default_rng(0).random((200, 4))
    places = np.array([segments.of_training(40, each) for each in draws])
    assert (places // 10 == np.arange(4)).all()
    assert len(np.unique(places[:, 0])) == 10
    assert segments.of_test(40, 1).tolist() == [5, 15, 25, 35]
    assert segments.of_training(2, draws[0]).max() == 1, "the last frame repeats"
    starts = np.array([dense.of_training(10, each) for each in draws])
    assert (np.diff(starts) == 2).all()
    assert set(starts[:, 0]) == {0, 1, 2, 3}
    assert dense.of_test(10, 2).tolist() == [1, 3, 5, 7, 3, 5, 7, 9]


def test_people_of_the_real_clips_stay_on_one_side(shared):
    source = str(shared / "data/video_weizmann4")
    assert kind_of(source, "video") == "clips"
    data = open_data(DataSpec(source=source, kind="clips", size=32, options={"group": "subject", "frames": 4}))
    assert len(data.train) + len(data.test) == 72
    assert not set(data.train.groups) & set(data.test.groups)
    assert data.targets["label"].names == ("bend", "jack", "wave1", "wave2")
    assert data.train.batch([0], (0, 0)).inputs.shape == (1, 3, 4, 32, 32)


def test_the_moving_digit_goes_along_its_axis_to_either_side_and_begins_anywhere():
    made = moving_digits(80, frames=4, clutter=0)
    assert (moving_digits(9, frames=4, clutter=0)["clips"] == made["clips"][:9]).all()
    counts = np.zeros((10, 4), int)
    np.add.at(counts, (made["digits"], made["labels"]), 1)
    assert (counts == 2).all(), "a digit says nothing of its axis"
    axes = np.array([AXES[CLASSES[label]] for label in made["labels"]])
    speeds = (made["steps"] * axes).sum(1) // (axes**2).sum(1)
    assert (made["steps"] == speeds[:, None] * axes).all()
    assert set(np.sign(speeds)) == {-1, 1}
    for clip, step in zip(made["clips"].astype(int), made["steps"], strict=True):
        ink = clip[0] > 120
        assert (clip[1][np.roll(ink, tuple(step), (0, 1))] > 70).all(), "the next frame has the ink a step away"


def test_three_squares_along_the_long_side_are_shown_of_each_sample(tmp_path):
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:, 16:32], pixels[:, 32:] = 100, 200
    for label, turned in (("wide", False), ("tall", True)):
        for clip in range(2):
            for number in range(2):
                file = tmp_path / label / str(clip) / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                shown = pixels.transpose(1, 0, 2) if turned else pixels
                Image.fromarray(shown + np.uint8(10 * number + clip)).save(file)
    options = {"frames": 2, "crops": 3, "mean": [0, 0, 0], "std": [1, 1, 1]}
    test = open_data(DataSpec(kind="clips", source=str(tmp_path), size=24, test_fraction=0.5, options=options)).test
    x = test.batch(range(2), None).inputs * 255
    assert x.shape == (2, 3, 6, 24, 24), "the frames of each square, one square after the other"
    for sample, clip in zip(x.mean((1, 3, 4)), test.clips, strict=True):
        off = int(clip.name)
        wanted = [level + 10 * frame + off for level in (100 / 3, 100, 500 / 3) for frame in (0, 1)]
        assert np.allclose(sample, wanted, atol=0.5)
    with pytest.raises(ValueError, match="crops: wanted 1 or 3; got 2"):
        open_data(DataSpec(kind="clips", source=str(tmp_path), size=24, options={"crops": 2}))


def turned(path, degrees):
    """The file with this rotation in the matrix of its track: degrees clockwise that a player turns its frames by."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4
    matrix = place + (52 if content[place] == 1 else 40)
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    content[matrix : matrix + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("degrees", "corner"), [(90, "right"), (180, "bottom right"), (270, "bottom")])
def test_a_clip_is_turned_as_its_rotation_flag_says(degrees, corner, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[:16, :16] = 240  # upper left
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    seen = look(turned(tmp_path / "a.mp4", degrees), None, None)
    assert (seen.frames, seen.size) == (3, (48, 32) if degrees == 180 else (32, 48))
    frame = np.asarray(read_frames(tmp_path / "a.mp4", [1])[0]).mean(2)
    high, wide = frame.shape
    rows = slice(high - 16, None) if "bottom" in corner else slice(16)
    columns = slice(wide - 16, None) if "right" in corner else slice(16)
    assert frame[rows, columns].mean() > 200
    assert frame.sum() - frame[rows, columns].sum() < 0.1 * frame.sum()
