"""Folders of class folders: real photos open whatever their kind, and what cannot be used is listed before training."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import inspect_data, open_data
from foveate.spec import DataSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(shared):
    return sorted((shared / "data" / "imagenet_sample" / "images").iterdir())


@pytest.fixture
def folder(photos, tmp_path):
    """20 real photos in two classes."""
    root = tmp_path / "pets"
    for index, photo in enumerate(photos[:20]):
        place = root / ("cats" if index % 2 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        (place / photo.name).symlink_to(photo)
    return root


def refused(root, **options):
    with pytest.raises(ValueError) as caught:
        open_data(DataSpec(source=str(root), **options))
    return str(caught.value)


def shown(split):
    return [split.name_of(item).rpartition("/")[2] for item in range(len(split))]


def problems_of(root, **options):
    return list(inspect_data(str(root), options=options).problems)


def test_opens(folder):
    data = open_data(DataSpec(source=str(folder), size=64))
    assert (data.name, data.targets["label"].names, data.inputs) == ("pets", ("cats", "dogs"), (3, 64, 64))
    assert (len(data.train), len(data.test)) == (16, 4)
    assert np.bincount(data.test.strata).tolist() == [2, 2]
    assert not set(shown(data.train)) & set(shown(data.test))
    for split in (data.train, data.test):
        labels = split.batch(range(len(split)), None).targets["label"].tolist()
        for item, label in enumerate(labels):
            assert split.name_of(item) == f"{('cats', 'dogs')[label]}/{split.contents[item].name}"
    assert open_data(DataSpec(source=str(folder))).inputs == (3, 224, 224)


def test_split_is_the_same_in_any_order_of_listing_and_place(folder, tmp_path, monkeypatch):
    from pathlib import Path

    one = open_data(DataSpec(source=str(folder)))
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache2"))
    shutil.copytree(folder, tmp_path / "moved" / "pets")
    other = open_data(DataSpec(source=str(tmp_path / "moved" / "pets")))
    assert (shown(one.train), shown(one.test)) == (shown(other.train), shown(other.test))
    assert one.fingerprint == other.fingerprint


def test_fingerprint_follows_names_and_contents_but_not_times(folder, photos):
    before = open_data(DataSpec(source=str(folder))).fingerprint
    file = folder / "cats" / photos[1].name
    file.unlink()
    shutil.copy(photos[1], file)
    os.utime(file, (1, 1))
    assert open_data(DataSpec(source=str(folder))).fingerprint == before
    Image.open(file).rotate(90).save(file, "JPEG")
    after = open_data(DataSpec(source=str(folder))).fingerprint
    assert after != before
    file.rename(file.with_name("renamed.jpg"))
    assert open_data(DataSpec(source=str(folder))).fingerprint not in (before, after)


def test_limits_are_stratified_and_obeyed(folder):
    data = open_data(DataSpec(source=str(folder), train_items=6, test_items=2, test_fraction=0.4))
    assert np.bincount(data.train.strata).tolist() == [3, 3]
    assert np.bincount(data.test.strata).tolist() == [1, 1]
    assert "train_items=17; the data allow 2 (one a class) to 16" in refused(folder, train_items=17)


def test_every_unusable_file_is_listed_with_its_path(folder, photos):
    cats = folder / "cats"
    (cats / "empty.jpg").touch()
    (cats / "cut.jpg").write_bytes(photos[30].read_bytes()[:20000])
    (cats / "text.png").write_text("not a picture")
    (cats / "notes.txt").write_text("about cats")
    (cats / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    Image.open(photos[31]).save(cats / "cut.png")
    (cats / "cut.png").write_bytes((cats / "cut.png").read_bytes()[:5000])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(cats / "float.tiff")
    for ignored in (".hidden.jpg", "Thumbs.db", ".DS_Store"):
        (cats / ignored).write_text("ignored")
    told = refused(folder)
    reasons = {
        "empty.jpg": "empty file",
        "cut.jpg": "corrupt or cut short: image file is truncated",
        "cut.png": "corrupt or cut short",
        "text.png": "not an image",
        "notes.txt": "not an image file; wanted one of .jpg",
        "gone.jpg": "a link to nothing",
        "float.tiff": "floating-point",
    }
    for name, reason in reasons.items():
        assert f"{cats / name}: {reason}" in told or (name == "float.tiff" and reason in told), told
    assert f"{len(reasons)} problems" in told
    assert not any(name in told for name in ("hidden", "Thumbs", "DS_Store"))
    assert {problem.path.name for problem in problems_of(folder)} == set(reasons)
    kept = open_data(DataSpec(source=str(folder), options={"skip_bad": True}))
    assert len(kept.notes) == len(reasons)
    assert all("left out: " in note for note in kept.notes)
    for name in reasons:
        (cats / name).unlink()
    assert problems_of(folder) == []
    whole = open_data(DataSpec(source=str(folder)))
    assert (shown(kept.train), shown(kept.test)) == (shown(whole.train), shown(whole.test))
    assert kept.fingerprint == whole.fingerprint


def test_a_long_list_is_cut_but_counted(folder):
    for index in range(33):
        (folder / "dogs" / f"{index:02d}.jpg").write_bytes(b"junk")
    told = refused(folder)
    assert told.count("not an image") == 20
    assert "… and 13 more" in told
    assert len(problems_of(folder)) == 33


def test_one_bad_file_is_one_line(folder):
    (folder / "dogs" / "bad.jpg").write_bytes(b"junk")
    assert refused(folder) == f"{folder / 'dogs' / 'bad.jpg'}: not an image, whatever its name says"


def test_what_was_checked_is_not_decoded_again_until_it_changes(folder, photos, tmp_path):
    asked = []
    progress = lambda done, whole: asked.append((done, whole))  # noqa: E731
    first = open_data(DataSpec(source=str(folder)), progress=progress)
    assert asked[-1] == (20, 20)
    asked.clear()
    assert open_data(DataSpec(source=str(folder)), progress=progress).fingerprint == first.fingerprint
    assert not asked
    file = folder / "cats" / photos[1].name
    file.unlink()
    content = photos[1].read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))  # of the same size
    Image.open(file).verify()
    os.truncate(file, len(content) // 2)
    assert str(file) in refused(folder)
    assert str(file) in refused(folder), "a failed check was remembered as passed"


@pytest.mark.parametrize("name", ["val", "valid", "Test", "validation"])
def test_a_folder_with_its_own_split(folder, photos, tmp_path, name):
    root = tmp_path / "own"
    shutil.copytree(folder, root / "train")
    for label, photo in (("cats", photos[40]), ("dogs", photos[41])):
        (root / name / label / "deep").mkdir(parents=True)
        shutil.copy(photo, root / name / label / "deep" / "1.JPG")
    data = open_data(DataSpec(source=str(root)))
    assert (len(data.train), shown(data.test)) == (20, ["1.JPG", "1.JPG"])
    shutil.copy(photos[1], root / name / "cats" / "again.jpg")
    told = f"1 photo is both in the train and in the test folder: train/cats/{photos[1].name} = {name}/cats/again.jpg"
    taken = [] if name == "Test" else [f"{name} is the test part, as there is no test folder"]
    assert [(note.kind, note.reason) for note in problems_of(root)] == [("note", one) for one in (*taken, told)]
    assert open_data(DataSpec(source=str(root))).notes == (*taken, told)
    shutil.rmtree(root / name / "dogs")
    assert f"{root / name}: lacks the class 'dogs' that train has" in refused(root)
    shutil.rmtree(root / name)
    assert f"give {root / 'train'} itself" in refused(root)


def test_folders_that_are_no_data_set(folder, tmp_path, photos):
    assert f"did you mean '{folder}'?" in refused(tmp_path / "pet")
    assert "did you mean 'embedded'?" in refused("embeded")
    assert "got a file" in refused(photos[0])
    (tmp_path / "nothing").mkdir()
    assert "wanted at least two class folders" in refused(tmp_path / "nothing")
    assert "got an empty folder" in refused(tmp_path / "nothing")
    shutil.copy(photos[0], tmp_path / "nothing" / "loose.jpg")
    assert "got 1 loose image and no folder" in refused(tmp_path / "nothing")
    assert [problem.kind for problem in problems_of(tmp_path / "nothing")] == ["folder"]
    with pytest.raises(ValueError, match="there is no such folder"):
        inspect_data(str(tmp_path / "missing"))
    assert "got an empty name" in refused("")
    shutil.rmtree(folder / "dogs")
    assert refused(folder) == f"{folder}: wanted at least two class folders, got 1: 'cats'"
    (folder / "mice").mkdir()
    assert refused(folder) == f"{folder / 'mice'}: class 'mice' has no images"
    shutil.copy(photos[0], folder / "mice" / "1.jpg")
    assert "class 'mice' has 1 image, too few to hold one out" in refused(folder)


def test_loose_images_are_left_out_and_told(folder, photos):
    shutil.copy(photos[50], folder / "loose.jpg")
    (folder / "README.md").write_text("mine")
    (note,) = problems_of(folder)
    assert note.kind == "note"
    data = open_data(DataSpec(source=str(folder)))
    assert data.notes == ("1 loose image beside the class folders left out: loose.jpg",)
    assert len(data.train) + len(data.test) == 20


def test_links_in_a_circle_end(folder):
    (folder / "cats" / "again").symlink_to(folder / "cats")
    assert len(open_data(DataSpec(source=str(folder))).train) == 16


def test_a_photo_lost_while_training_is_named(folder):
    data = open_data(DataSpec(source=str(folder), size=32))
    file = data.train.contents[0]
    file.unlink()
    with pytest.raises(ValueError, match=f"{file.name}: cannot be read: No such file .* could be read when"):
        data.train.batch([0], None)


def test_train_val_and_test_are_three_parts(folder, photos, tmp_path):
    root = tmp_path / "three"
    shutil.copytree(folder, root / "train")
    for name, first in (("val", 40), ("test", 42), ("validation", 44)):
        for index, label in enumerate(("cats", "dogs")):
            (root / name / label).mkdir(parents=True)
            shutil.copy(photos[first + index], root / name / label / "1.jpg")
    left_out = f"{root / 'validation'}: left out: the folders used are val and test beside train"
    data = open_data(DataSpec(source=str(root)))
    assert [data.test.name_of(item) for item in range(len(data.test))] == ["test/cats/1.jpg", "test/dogs/1.jpg"]
    assert [data.validation.name_of(item) for item in (0, 1)] == ["val/cats/1.jpg", "val/dogs/1.jpg"]
    assert (len(data.train), data.notes) == (20, (left_out,))
    assert "20 train, 2 validation and 2 test photos" in data.description
    whole = open_data(DataSpec(source=str(root), validation_fraction=0.5))
    assert len(whole.train) == 20, "a part of its own is used as it is"
    shutil.copy(photos[40], root / "test" / "cats" / "again.jpg")
    assert problems_of(root)[-1].reason == (
        "1 photo is in more than one of the train, validation and test folders: val/cats/1.jpg = test/cats/again.jpg"
    )
    shutil.rmtree(root / "val" / "dogs")
    assert f"{root / 'val'}: lacks the class 'dogs' that train has" in refused(root)
    shutil.rmtree(root / "val" / "cats")
    assert f"{root / 'val'}: wanted class folders of the validation part; got none" in refused(root)


def test_a_validation_part_is_taken_out_of_training_with_all_copies_of_a_photo(folder, photos):
    for file in sorted((folder / "cats").iterdir()):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    for photo in photos[20:28]:
        shutil.copy(photo, folder / "dogs" / photo.name)
    plain = open_data(DataSpec(source=str(folder)))
    data = open_data(DataSpec(source=str(folder), validation_fraction=0.25))
    assert shown(data.test) == shown(plain.test), "the test part stays as it is"
    assert sorted(shown(data.train) + shown(data.validation)) == sorted(shown(plain.train))
    train, held = ({name.removeprefix("copy of ") for name in shown(part)} for part in (data.train, data.validation))
    assert not train & held
    assert np.bincount(data.validation.strata).tolist() == [4, 4]
    assert data.notes[-1] == "8 of the 30 training items are the validation part and are not trained on"
    batch = data.validation.batch([3, 0], None)
    assert batch.items.tolist() == [3, 0]
    assert batch.targets["label"].tolist() == data.validation.strata[[3, 0]].tolist()
    assert torch.equal(
        data.train.batch([5], (1, 2)).inputs,
        plain.train.batch([shown(plain.train).index(shown(data.train)[5])], (1, 2)).inputs,
    )


def test_a_folder_one_level_too_high_is_guessed(folder, tmp_path):
    (tmp_path / "above").mkdir()
    folder.rename(tmp_path / "above" / "pets")
    inside = tmp_path / "above" / "pets"
    assert f"got 1: 'pets'; did you mean '{inside}', which has 'cats', 'dogs'?" in refused(tmp_path / "above")


def test_copies_in_a_class_stay_on_one_side_and_are_named(folder, photos):
    for file in sorted((folder / "cats").iterdir()):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    data = open_data(DataSpec(source=str(folder), test_fraction=0.3))
    train, test = ({name.removeprefix("copy of ") for name in shown(split)} for split in (data.train, data.test))
    assert not train & test
    assert np.bincount(data.test.strata).tolist() == [6, 3]
    (note,) = data.notes
    first = photos[1].name
    assert note.startswith(f"10 photos are there more than once in their class: cats/copy of {first} = cats/{first}, ")
    assert note.endswith(", …; all copies are kept on one side of the split")
    assert open_data(DataSpec(source=str(folder), test_fraction=0.3)).notes == (note,), "remembered"
    for file in (folder / "dogs").iterdir():
        file.unlink()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        shutil.copy(photos[0], folder / "dogs" / name)
    assert "class 'dogs' has 3 copies of one item, nothing to hold out" in refused(folder)


def test_both_files_of_a_photo_in_two_classes_are_named(folder, photos):
    shutil.copy(photos[1], folder / "dogs" / "cat.jpg")
    (note,) = problems_of(folder)
    assert note.reason == f"1 photo is there under more than one class: cats/{photos[1].name} = dogs/cat.jpg"


def test_heic_is_called_heic(folder, monkeypatch):
    import sys

    heic = bytes([0, 0, 0, 24]) + b"ftypheic" + bytes(12) + b"junk" * 9
    (folder / "cats" / "IMG_1.HEIC").write_bytes(heic)
    (folder / "cats" / "renamed.jpg").write_bytes(heic)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    found = {problem.path.name: problem.reason for problem in problems_of(folder)}
    assert found.keys() == {"IMG_1.HEIC", "renamed.jpg"}
    assert all(reason.startswith("a HEIC photo; reading it needs pillow-heif") for reason in found.values())


def test_a_class_whose_files_are_all_bad_is_refused_even_when_bad_files_are_skipped(folder):
    for file in (folder / "dogs").iterdir():
        file.unlink()
        file.write_bytes(b"junk")
    problems = problems_of(folder, skip_bad=True)
    assert [str(problem) for problem in problems if problem.kind == "folder"] == [
        f"{folder / 'dogs'}: class 'dogs' has 0 images that can be used; wanted at least 2"
    ]
    with pytest.raises(ValueError, match="class 'dogs' has 0 images that can be used"):
        open_data(DataSpec(source=str(folder), options={"skip_bad": True}))


def test_options_of_the_kind(folder):
    options = {"bgr": True, "mean": [0, 0, 0], "std": [1, 1, 1]}
    plain = open_data(DataSpec(source=str(folder), size=32, options=options | {"bgr": False}))
    turned = open_data(DataSpec(source=str(folder), size=32, options=options))
    for augment in (None, (0, 0)):
        one, other = (data.train.batch([0, 1], augment).inputs for data in (plain, turned))
        assert torch.equal(one.flip(1), other)
        assert 0 <= one.min() < one.max() <= 1
    assert inspect_data(str(folder), options=options).data is not None
    with pytest.raises(TypeError, match=r"'folders' has no option 'skip_bda'; did you mean 'skip_bad'"):
        open_data(DataSpec(source=str(folder), options={"skip_bda": True}))
    with pytest.raises(ValueError, match=r"wanted one side such as 224; got \[32, 48\]"):
        open_data(DataSpec(source=str(folder), size=(32, 48)))


def test_a_photo_of_ones_own_is_prepared_as_the_test_split_gives_it(folder):
    data = open_data(DataSpec(source=str(folder), size=64))
    expected = data.test.batch([0], None).inputs[0]
    assert torch.equal(data.prepare(data.test.contents[0]), expected)
    assert torch.equal(data.prepare(Image.open(data.test.contents[0])), expected)


def test_a_name_with_a_line_break_is_one_line(folder):
    (folder / "cats" / "a\nb.jpg").write_bytes(b"junk")
    assert refused(folder).splitlines() == [f"{folder / 'cats'}/a\ufffdb.jpg: not an image, whatever its name says"]


def test_evaluation_decodes_a_photo_once(folder, monkeypatch):
    from foveate.data import photos as module

    monkeypatch.setenv("FOVEATE_PIXEL_CACHE", "off")
    data = open_data(DataSpec(source=str(folder), size=32))
    decoded, read = [], module.read_image
    monkeypatch.setattr(module, "read_image", lambda *args: decoded.append(args[0]) or read(*args))
    first = data.test.batch(range(4), None).inputs
    assert len(decoded) == 4
    assert torch.equal(data.test.batch([2, 0], None).inputs, first[[2, 0]])
    assert len(decoded) == 4
    data.test.batch([0], (0, 0))
    assert len(decoded) == 5, "training shows another part each time"
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * 32 * 32 * 3)
    small = open_data(DataSpec(source=str(folder), size=32)).test
    for _ in range(2):
        assert torch.equal(small.batch(range(4), None).inputs, first)
    assert len(decoded) == 5 + 4 + 2, "there is room for two"
