"""What is wrong with images and masks is named in one round, each by its file, before anything is trained."""

import numpy as np
import pytest
from PIL import Image

from foveate.data import inspect_data, open_data
from foveate.spec import DataSpec

SIZE = (12, 8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def picture(number, size=SIZE):
    return np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)


def mask(classes=3, size=SIZE):
    return (np.arange(size[0] * size[1], dtype=np.uint8) % classes).reshape(size[1], size[0])


@pytest.fixture
def root(tmp_path):
    """Six images with masks of three classes, four of them for training."""
    place = tmp_path / "set"
    for number in range(6):
        part = "train" if number < 4 else "test"
        save(place / part / "images" / f"{number}.png", picture(number))
        save(place / part / "masks" / f"{number}.png", mask())
    return place


def problems(root, **options):
    return [(one.kind, str(one.path).removeprefix(f"{root}/"), one.reason) for one in found(root, **options).problems]


def found(root, **options):
    return inspect_data(str(root), kind="masks", options=options)


def test_every_problem_is_named_at_once_and_bad_pairs_may_be_left_out(root):
    masks, images = root / "train" / "masks", root / "train" / "images"
    values = mask()
    values[0, :5] = 9
    save(masks / "0.png", values)
    save(masks / "1.png", mask(size=(11, 8)))
    for number in range(10, 15):
        save(images / f"{number}.png", picture(number))
    save(masks / "11.png", np.stack([mask() * 9, mask(), mask()], -1))
    (masks / "12.png").write_bytes(b"")
    (masks / "13.png").write_text("not a picture")
    save(images / "14.png", picture(14, (1, 1)))
    save(masks / "14.png", mask(size=(1, 1)))
    save(masks / "77.png", mask())
    save(masks / "3_mask.png", mask())
    classes = ["a", "b", "c"]
    rows = problems(root, classes=classes)
    reasons = {path: reason for kind, path, reason in rows if kind == "file"}
    assert reasons == {
        "train/masks/0.png": "value that stands for no class: 9 in 5 pixels; known: 0, 1, 2",
        "train/masks/1.png": "11×8 pixels; its image 1.png has 12×8 (width × height)",
        "train/images/10.png": f"an image without a mask; wanted one such as {masks / '10.png'}",
        "train/masks/11.png": reasons["train/masks/11.png"],
        "train/masks/12.png": "empty file (0 bytes)",
        "train/images/12.png": f"an image without a mask; wanted one such as {masks / '12.png'}",
        "train/masks/13.png": "not an image, whatever its name says",
        "train/images/14.png": "an image of 1×1 pixel; wanted at least 2 pixels",
        "train/masks/77.png": "a mask without an image",
        "train/masks/3_mask.png": "a second mask of 3.png, beside 3.png",
    }
    assert "(0, 0, 0) in 32 pixels, (9, 1, 1) in 32 pixels, (18, 2, 2) in 32 pixels" in reasons["train/masks/11.png"]
    with pytest.raises(ValueError, match="10 problems in 9 image files") as caught:
        open_data(DataSpec(source=str(root), options={"classes": classes}))
    assert all(path in str(caught.value) for path in reasons)
    left = found(root, classes=classes, skip_bad=True)
    assert left.serious == 0
    assert [problem.reason.startswith("left out: ") for problem in left.problems].count(True) == 10
    assert (len(left.data.train), len(left.data.test)) == (2, 2)
    for number in range(4):
        (masks / f"{number}.png").write_text("not a picture")
    (problem,) = [one for one in found(root, classes=classes, skip_bad=True).problems if one.kind == "folder"]
    assert problem.reason == "wanted a training part; got test alone"


def test_classes_that_never_occur_are_noted_for_all_masks_and_for_each_part(root):
    save(root / "test" / "masks" / "4.png", np.full(SIZE[::-1], 3, np.uint8))
    rows = problems(root, classes=["a", "b", "c", "d", "e"])
    assert [reason for kind, _, reason in rows if kind == "note"] == [
        "class that never occurs: 'e' in no mask",
        "class that never occurs: 'd' in no mask of the train part",
    ]
    data = open_data(DataSpec(source=str(root), options={"classes": ["a", "b", "c", "d", "e"]}))
    assert "classes of the test part that no training mask has: 'd'" in data.notes
    row = found(root, classes=["a", "b", "c", "d", "e"]).row()
    assert row["train"] == {"items": 4, "classes": {"a": 4, "b": 4, "c": 4, "d": 0, "e": 0}}
    assert row["test"]["classes"]["d"] == 1


def test_one_class_alone_is_refused(root):
    for file in root.glob("*/masks/*"):
        save(file, np.zeros(SIZE[::-1], np.uint8))
    assert problems(root)[0][2] == "wanted masks of two or more classes; got '0' (as the masks number them)"
    assert problems(root, classes=["a", "b"])[0][2] == "wanted masks of two or more classes; only 'a' occurs"
    assert "of two or more classes; got 'a'" in problems(root, classes=["a", "b"], ignore=1)[0][2]


def test_values_that_can_be_no_class_numbers_are_shown_with_their_file(root):
    values = mask()
    values[0, 0] = 200
    save(root / "train" / "masks" / "2.png", values)
    (row,) = problems(root)
    assert row[0] == "folder"
    assert f"values 0, 1, 2, 200 ({root / 'train/masks/2.png'} alone); wanted numbers of classes from 0 on" in row[2]
    for file in root.glob("*/masks/*"):
        save(file, np.stack([mask() * 50, mask(), mask()], -1))
    (row,) = problems(root)
    assert "masks with 3 colours, (0, 0, 0), (50, 1, 1), (100, 2, 2); wanted what they stand for: classes = {" in row[2]
    for file in root.glob("*/masks/*"):
        save(file, mask().astype(np.uint16) * 1000)
    (row,) = problems(root)
    assert "values 0, 1000, 2000; wanted numbers" in row[2]


def test_masks_saved_as_jpeg_are_recognised(root):
    for file in sorted(root.glob("*/masks/*")):
        Image.fromarray(mask(2) * 255).save(file.with_suffix(".jpg"))
        file.unlink()
    rows = problems(root, classes=["a", "b"])
    assert len(rows) == 6
    assert all(
        reason.partition("known: ")[2].endswith("; JPEG changes values: save masks as PNG") for _, _, reason in rows
    )


def test_masks_of_which_all_or_most_is_ignored_are_noted_and_copies_across_parts_too(root):
    for number in (0, 1, 2, 4):
        part = "train" if number < 4 else "test"
        save(root / part / "masks" / f"{number}.png", np.full(SIZE[::-1], 255, np.uint8))
    save(root / "test" / "images" / "5.png", picture(3))
    notes = [reason for _, _, reason in problems(root)]
    assert notes[:2] == [
        "4 masks hold only ignored pixels: train/masks/0.png, train/masks/1.png, train/masks/2.png, …",
        "67% of all pixels are ignored",
    ]
    assert "1 photo is both in the train and in the test folder: train/images/3.png = test/images/5.png" in notes[2]
    data = open_data(DataSpec(source=str(root)))
    assert data.train.batch(range(4), (0, 0)).inputs.isfinite().all()


def test_a_folder_one_level_too_high_or_without_masks_says_so(root, tmp_path):
    for place in (root.parent, root / "train" / "images"):
        inspection = inspect_data(str(place), task="segmentation")
        (problem,) = inspection.problems
        assert (inspection.kind, problem.path) == ("masks", place)
        assert "wanted images and masks, such as images/1.jpg and masks/1.png" in problem.reason
        assert (f"did you mean {str(root)!r}" in problem.reason) == (place == root.parent)
    rows = problems(root, masks="labels")
    assert "masks = 'labels': wanted folders of images and of masks" in rows[0][2]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"classes": ["a", "a", "b"]}, "2 different names|3 different names|different names; got 2"),
        ({"classes": {"a": 1, "b": 1}}, "'a' and 'b' have one value"),
        ({"classes": {"a": [1, 2]}}, "'a': wanted a value or [r, g, b]; got [1, 2]"),
        ({"classes": "citiscapes"}, "did you mean 'cityscapes'"),
        ({"classes": "none.csv"}, "none.csv: cannot be read"),
        ({"classes": 300}, "wanted 1 to 255 classes; got 300"),
        ({"ignore": ["sky"]}, "ignore: no class is called 'sky'"),
        ({"ignore": [1.5]}, "ignore: wanted values, colours"),
        ({"scales": [1]}, "scales: wanted a list of 2 numbers; got [1]"),
        ({"scales": 2}, "scales: wanted a list of 2 numbers; got 2"),
        ({"scales": [2, 1]}, "scales: wanted the smallest and the largest"),
        ({"mean": [0.5]}, "mean: wanted a list of 3 numbers; got [0.5]"),
        ({"std": [1, 1, 0]}, "std: wanted deviations above 0"),
        ({"colour": 2}, "colour: wanted a share"),
        ({"group": "("}, "group: wanted a regular expression"),
        ({"clases": ["a"]}, "did you mean 'classes'"),
    ],
)
def test_options_that_do_not_fit_are_refused(root, options, wanted):
    with pytest.raises((ValueError, TypeError)) as caught:
        open_data(DataSpec(source=str(root), options=options))
    assert any(one in str(caught.value) for one in wanted.split("|")), str(caught.value)


def test_a_file_that_changes_after_the_check_is_named(root):
    data = open_data(DataSpec(source=str(root)))
    (root / "test" / "masks" / "4.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"masks/4.png: not an image.*; it could be read when the data were checked"):
        data.test.batch([0], None)
    save(root / "test" / "masks" / "5.png", mask() + 90)
    with pytest.raises(ValueError, match=r"masks/5.png: values 90, 91, 92 stand for no class"):
        data.test.batch([1], None)
