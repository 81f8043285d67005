"""Folders of images and masks: every usual layout and format opens, and each pixel gets the class its file means."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import IGNORED, inspect_data, open_data
from foveate.spec import DataSpec

HEIGHT, WIDTH = 10, 14


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def picture(number, size=(WIDTH, HEIGHT)):
    """Another image for each number, the same for the same."""
    values = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def indices(number, classes=3, size=(WIDTH, HEIGHT)):
    """(H, W) of class numbers with every class in it."""
    values = np.random.default_rng(number).integers(0, classes, (size[1], size[0]), dtype=np.uint8)
    values.reshape(-1)[:classes] = range(classes)
    return values


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def folder(root, made, *, layout="{part}/{what}/{name}", parts=(("train", 4), ("test", 2)), ending=".png"):
    """Images and masks; made: (number) → the mask as a file has it."""
    number = 0
    for part, count in parts:
        for _ in range(count):
            save(root / (layout.format(part=part, what="images", name=f"i{number}") + ".png"), picture(number))
            save(root / (layout.format(part=part, what="masks", name=f"i{number}") + ending), made(number))
            number += 1
    return root


def opened(root, **options):
    given = {key: options.pop(key) for key in ("size", "train_items", "test_items", "split") if key in options}
    return open_data(DataSpec(source=str(root), options=options, **given))


def masks_of(data, part="test"):
    """{name: mask (H, W)} as evaluation gives it."""
    split = getattr(data, part)
    masks = split.batch(range(len(split)), None).targets["mask"]
    return {split.name_of(item): mask.numpy() for item, mask in enumerate(masks)}


def number_of(name):
    """Of a file that `folder` made."""
    return int("".join(filter(str.isdigit, name.rpartition("/")[2])))


def numbered(data):
    """{number in the name: mask} of all splits."""
    found = masks_of(data, "train") | masks_of(data, "test")
    return {number_of(name): mask for name, mask in found.items()}


def same(data, expected):
    found = numbered(data)
    assert found
    for number, mask in found.items():
        np.testing.assert_array_equal(mask, expected(number))


@pytest.mark.parametrize(
    "layout",
    [
        "{part}/{what}/{name}",
        "{what}/{part}/{name}",
        "{what}/{part}/town/{name}",
        "{what}/{name}",
        "{part}{beside}/{name}",
    ],
)
def test_usual_layouts_are_seen(tmp_path, layout):
    root = tmp_path / "set"
    number = 0
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        for _ in range(count):
            for what, beside, image in (("images", "", picture(number)), ("masks", "annot", indices(number))):
                save(root / (layout.format(part=part, what=what, beside=beside, name=f"i{number}") + ".png"), image)
            number += 1
    data = opened(root)
    assert data.targets["mask"].names == ("0", "1", "2")
    assert data.inputs == (3, HEIGHT, WIDTH)
    assert [len(part) for part in (data.train, data.validation or [], data.test)] == (
        [4, 2, 2] if "{part}" in layout else [6, 0, 2]
    )
    same(data, indices)
    assert inspect_data(str(root)).serious == 0


def test_index_masks_with_a_palette_of_16_bits_and_with_alpha(tmp_path):
    def made(number):
        values = indices(number)
        if number == 0:
            image = Image.fromarray(values)
            image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
            return image
        if number == 1:
            return Image.fromarray(values.astype(np.uint16))
        if number == 2:
            return Image.merge("LA", (Image.fromarray(values), Image.new("L", (WIDTH, HEIGHT), 90)))
        if number == 3:
            return np.repeat(values[..., None], 3, 2)
        return values

    data = opened(folder(tmp_path / "set", made))
    same(data, indices)
    assert any("1 mask has an alpha channel" in note for note in data.notes)


def test_the_value_255_counts_nowhere_and_masks_of_0_and_255_have_two_classes(tmp_path):
    def voided(number):
        values = indices(number)
        values[:, -2:] = 255
        return values

    data = opened(folder(tmp_path / "void", voided))
    assert data.targets["mask"].names == ("0", "1", "2")
    same(data, voided)
    assert data.about["ignored pixels"] == f"{2 / WIDTH:.1%}"
    binary = opened(folder(tmp_path / "binary", lambda number: 255 * indices(number, 2)))
    assert binary.targets["mask"].names == ("background", "foreground")
    same(binary, lambda number: indices(number, 2))
    named = opened(tmp_path / "binary", classes=["rock", "salt"])
    assert named.targets["mask"].names == ("rock", "salt")
    same(named, lambda number: indices(number, 2))
    bits = opened(folder(tmp_path / "bits", lambda number: Image.fromarray(255 * indices(number, 2)).convert("1")))
    same(bits, lambda number: indices(number, 2))


COLOURS = np.array([[128, 64, 128], [0, 0, 0], [90, 90, 90]], np.uint8)


def test_colours_stand_for_classes_by_a_table_in_a_file_or_an_option(tmp_path):
    root = folder(tmp_path / "set", lambda number: COLOURS[indices(number)])
    named = {"road": [128, 64, 128], "void": [0, 0, 0], "wall": [90, 90, 90]}
    by_option = opened(root, classes=named)
    assert by_option.targets["mask"].names == ("road", "void", "wall")
    same(by_option, indices)
    lines = "".join(f"{name}, {r}, {g}, {b}\n" for name, (r, g, b) in named.items())
    (root / "class_dict.csv").write_text(f"name, r, g, b\n{lines}")
    by_file = opened(root, ignore=["void"])
    assert by_file.targets["mask"].names == ("road", "wall")
    same(by_file, lambda number: np.array([0, IGNORED, 1])[indices(number)])
    (root / "class_dict.csv").unlink()
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nwall:90,90,90::\nvoid:0,0,0::\n"
    )
    assert opened(root).targets["mask"].names == ("road", "wall", "void")

    def palette(number):
        image = Image.fromarray(indices(number))
        image.putpalette(COLOURS.reshape(-1).tolist())
        return image

    same(opened(folder(tmp_path / "palette", palette), classes=named), indices)


def test_numbers_names_and_a_file_of_names_say_the_classes(tmp_path):
    root = folder(tmp_path / "set", lambda number: 7 * indices(number))
    data = opened(root, classes={"b": 7, "c": 14, "a": 0})
    assert data.targets["mask"].names == ("a", "b", "c")
    same(data, indices)
    plain = folder(tmp_path / "plain", indices)
    assert opened(plain, classes=4).targets["mask"].names == ("0", "1", "2", "3")
    (plain / "classes.txt").write_text("sky\ntree\nroad\n")
    data = opened(plain)
    assert data.targets["mask"].names == ("sky", "tree", "road")
    assert data.about["classes"] == "classes.txt"


def test_with_reduce_zero_the_first_class_is_the_value_1(tmp_path):
    root = folder(tmp_path / "set", indices)
    for options in ({}, {"classes": ["wall", "sky"]}):
        data = opened(root, reduce_zero=True, **options)
        assert data.targets["mask"].names == (("wall", "sky") if options else ("1", "2"))
        same(data, lambda number: np.array([IGNORED, 0, 1])[indices(number)])
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tName\n1\t0.5\t9\twall\n2\t0.2\t9\tsky\n")
    assert opened(root, reduce_zero=True).targets["mask"].names == ("wall", "sky")


RAW = np.array([7, 26, 33, 0], np.uint8)  # road, car, bicycle and a raw id that is ignored


def test_cityscapes_raw_ids_are_translated_and_untranslated_ones_are_named(tmp_path):
    root = tmp_path / "city"
    number = 0
    for part, count in (("train", 4), ("val", 2)):
        for _ in range(count):
            frame = f"ulm_{number:06d}"
            values = indices(number, 4)
            save(root / "leftImg8bit" / part / "ulm" / f"{frame}_leftImg8bit.png", picture(number))
            masks = root / "gtFine" / part / "ulm"
            save(masks / f"{frame}_gtFine_labelIds.png", RAW[values])
            save(masks / f"{frame}_gtFine_color.png", COLOURS[values % 3])
            save(masks / f"{frame}_gtFine_instanceIds.png", values.astype(np.uint16) * 1000)
            number += 1
    for options in ({}, {"classes": "cityscapes"}):
        data = opened(root, **options)
        assert len(data.targets["mask"].names) == 19
        for name, mask in masks_of(data).items():
            expected = np.array([0, 13, 18, IGNORED])[indices(int(name.split("_")[1]), 4)]
            np.testing.assert_array_equal(mask, expected)
    save(root / "leftImg8bit" / "test" / "ulm" / "ulm_9_leftImg8bit.png", picture(9))
    hidden = root / "gtFine" / "test" / "ulm" / "ulm_9_gtFine_labelIds.png"
    save(hidden, np.zeros((HEIGHT, WIDTH), np.uint8))
    data = opened(root)
    assert (len(data.train), data.validation, len(data.test)) == (4, None, 2)
    assert any("test: left out: its masks hold only ignored pixels" in note for note in data.notes)
    hidden.unlink()
    data = opened(root)
    assert any("test: left out: none of its images has a mask" in note for note in data.notes)
    hidden.parent.rmdir()
    hidden.parents[1].rmdir()
    assert any("test: left out: it has no folder of masks" in note for note in opened(root).notes)
    for file in sorted(root.rglob("*_labelIds.png")):
        values = np.asarray(Image.open(file))
        train_ids = np.where(values == 7, 0, 1).astype(np.uint8)
        save(file.with_name(file.name.replace("labelIds", "labelTrainIds")), train_ids)
    data = opened(root)
    assert {1, 0} == set(np.unique(masks_of(data)["leftImg8bit/val/ulm/ulm_000004_leftImg8bit.png"]))
    plain = folder(tmp_path / "plain", lambda number: RAW[indices(number, 3)])
    with pytest.raises(ValueError) as caught:
        opened(plain, classes="cityscapes")
    assert "i0.png: values that stand for no class: 26 in " in str(caught.value)
    assert "33 in " in str(caught.value)
    assert "classes = 'cityscapes_raw'" in str(caught.value)
    same(opened(plain, classes="cityscapes_raw"), lambda number: np.array([0, 13, 18])[indices(number, 3)])


def test_voc_has_lists_and_a_border_that_counts_nowhere(tmp_path):
    root = tmp_path / "VOC2012"

    def made(number):
        values = np.array([0, 15, 255], np.uint8)[indices(number)]
        image = Image.fromarray(values)
        image.putpalette(np.arange(768, dtype=np.uint8).tolist())
        return image

    for number in range(8):
        save(root / "JPEGImages" / f"{number}.jpg", picture(number))
        if number < 6:
            save(root / "SegmentationClass" / f"{number}.png", made(number))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("4\n5\n")
    (lists / "trainval.txt").write_text("0\n1\n2\n4\n5\n")
    data = opened(root, classes="voc")
    assert [data.test.name_of(item) for item in range(2)] == ["JPEGImages/4.jpg", "JPEGImages/5.jpg"]
    assert data.targets["mask"].names[15] == "person"
    same(data, lambda number: np.array([0, 15, IGNORED])[indices(number)])
    for name, colours, numbers in (
        ("person", [[0, 0, 0], [192, 128, 128], [224, 224, 192]], [0, 15, IGNORED]),
        ("car", [[0, 0, 0], [128, 128, 128], [0, 0, 0]], [0, 7, 0]),
    ):
        palette, classes = np.array(colours, np.uint8), np.array(numbers)
        coloured = folder(tmp_path / name, lambda number, of=palette: of[indices(number)])
        same(opened(coloured, classes="voc"), lambda number, of=classes: of[indices(number)])
    (lists / "val.txt").write_text("4\n2\n")
    with pytest.raises(ValueError, match=r"val.txt: '2' is in train.txt as well"):
        opened(root, classes="voc")
    (lists / "val.txt").write_text("4\n5\n77\n")
    (problem,) = [one for one in inspect_data(str(root), options={"classes": "voc"}).problems if one.kind != "note"]
    assert problem.reason == "names 77; there is no such image"


def test_an_index_file_says_the_parts(tmp_path):
    root = folder(tmp_path / "set", indices, layout="{what}/{name}", parts=(("", 6),))
    (root / "index.csv").write_text("id,split\n" + "".join(f"i{n},{'test' if n > 3 else 'train'}\n" for n in range(6)))
    data = opened(root)
    assert [data.test.name_of(item) for item in range(2)] == ["images/i4.png", "images/i5.png"]
    (root / "index.csv").rename(root / "mine.csv")
    assert len(opened(root, lists="mine.csv").test) == 2
    with pytest.raises(ValueError, match="lists: wanted a folder of train.txt"):
        opened(root, lists="other.csv")


def test_outside_the_field_of_view_nothing_is_known(tmp_path):
    root = folder(tmp_path / "set", lambda number: 255 * indices(number, 2))
    views = {part: np.zeros((HEIGHT, WIDTH), np.uint8) for part in ("train", "test")}
    views["train"][2:8, 3:9] = views["test"][1:9, 2:12] = 255
    (root / "test" / "images" / "i4.png").rename(root / "test" / "images" / "i0.png")
    (root / "test" / "masks" / "i4.png").rename(root / "test" / "masks" / "i0.png")
    for layout in ("{part}/fov/{name}", "fov/{part}/{name}"):
        for image in root.glob("*/images/*"):
            part = image.parts[-3]
            save(root / layout.format(part=part, name=image.name), views[part])
        data = opened(root, field_of_view="fov")
        for part, numbers in (("train", {"i0": 0, "i3": 3}), ("test", {"i0": 4, "i5": 5})):
            for name, number in numbers.items():
                expected = np.where(views[part] > 0, indices(number, 2), IGNORED)
                np.testing.assert_array_equal(masks_of(data, part)[f"{part}/images/{name}.png"], expected)
        for file in root.rglob("fov/**/*.png"):
            file.unlink()
    with pytest.raises(ValueError, match="field_of_view: wanted a folder 'view'"):
        opened(root, field_of_view="view")


def test_coco_outlines_are_drawn_over_the_background_and_crowds_are_unknown(tmp_path):
    pytest.importorskip("faster_coco_eval")
    root = tmp_path / "set"
    images, rows = [], []
    runs = [HEIGHT * 6, 2, HEIGHT * WIDTH - HEIGHT * 6 - 2]  # the upper two pixels of column 6
    for number in range(6):
        save(root / "images" / f"i{number}.png", picture(number))
        images.append({"id": number, "file_name": f"i{number}.png", "width": WIDTH, "height": HEIGHT})
        whole = [[0, 0, 8, 0, 8, 8, 0, 8]]
        shapes = (
            (3, whole, 0, 64),
            (9, [[2, 2, 4, 2, 4, 4, 2, 4]], 0, 4),
            (9, {"size": [HEIGHT, WIDTH], "counts": runs}, 1, 2),
        )
        for category, outline, crowd, area in shapes[::-1]:
            row = {"image_id": number, "category_id": category, "segmentation": outline, "iscrowd": crowd}
            rows.append(row | {"id": len(rows), "area": area, "bbox": [0, 0, 8, 8]})
    categories = [{"id": 9, "name": "cell"}, {"id": 3, "name": "leaf"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:8, :8] = 1
    expected[2:4, 2:4] = 2
    expected[:2, 6] = IGNORED
    data = open_data(DataSpec(kind="masks", source=str(root)))
    assert data.targets["mask"].names == ("background", "leaf", "cell")
    assert (len(data.train), len(data.test)) == (5, 1)
    same(data, lambda number: expected)
    unknown = open_data(DataSpec(kind="masks", source=str(root), options={"background": ""}))
    same(unknown, lambda number: np.array([IGNORED, 0, 1, *[IGNORED] * 253])[expected])
    assert inspect_data(str(root), task="segmentation").kind == "masks"
    assert inspect_data(str(root)).kind == "coco"


def test_panoptic_files_give_the_category_of_each_segment(tmp_path):
    root = tmp_path / "set"
    for part, numbers in (("train", range(4)), ("val", range(4, 6))):
        images, rows = [], []
        for number in numbers:
            values = indices(number).astype(int) * 70000  # segments 0, 70000, 140000
            colours = np.stack([values & 255, values >> 8 & 255, values >> 16], -1).astype(np.uint8)
            save(root / part / f"i{number}.png", picture(number))
            save(root / "annotations" / f"panoptic_{part}" / f"i{number}.png", colours)
            images.append({"id": number, "file_name": f"i{number}.png"})
            segments = [{"id": 70000, "category_id": 21}, {"id": 140000, "category_id": 4}]
            rows.append({"image_id": number, "file_name": f"i{number}.png", "segments_info": segments})
        categories = [{"id": 4, "name": "sky"}, {"id": 21, "name": "road"}]
        text = json.dumps({"images": images, "annotations": rows, "categories": categories})
        (root / "annotations" / f"panoptic_{part}.json").write_text(text)
    data = open_data(DataSpec(kind="masks", source=str(root)))
    assert data.targets["mask"].names == ("sky", "road")
    assert (len(data.train), len(data.test)) == (4, 2)
    same(data, lambda number: np.array([IGNORED, 1, 0])[indices(number)])


def test_batches_are_pure_functions_and_image_and_mask_have_one_geometry(tmp_path):
    root = tmp_path / "set"
    for number in range(8):
        values = np.zeros((40, 52), np.uint8)
        values[8 + number : 28, 10:40] = 1
        save(root / "images" / f"{number}.png", np.repeat(values[..., None] * 200, 3, 2))
        save(root / "masks" / f"{number}.png", values)
    data = opened(root, size=(24, 32))
    before = torch.get_rng_state()
    one, other = (data.train.batch([1, 4, 2], (3, 5)) for _ in range(2))
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets["mask"], other.targets["mask"])
    assert torch.equal(data.train.batch([4], (3, 5)).inputs[0], one.inputs[1])
    assert not torch.equal(data.train.batch([4], (3, 6)).inputs[0], one.inputs[1])
    assert torch.equal(before, torch.get_rng_state())
    assert one.inputs.shape == (3, 3, 24, 32)
    small = opened(root, size=(8, 10), scales=[0.8, 1.2])  # far below the files' size: they are kept smaller
    batches = [split.batch(range(2), augment) for split, augment in ((data.train, (0, 0)), (data.test, None))]
    for batch in (*batches, small.train.batch(range(6), (0, 0))):
        bright, mask = batch.inputs.mean(1), batch.targets["mask"]
        assert bright[mask == 1].mean() > 0 > bright[mask == 0].mean()


def test_images_of_several_sizes_are_fitted_or_tested_at_their_own_size(tmp_path):
    root = tmp_path / "set"
    sizes = [(20, 30), (31, 17), (20, 30), (31, 17)]
    for number in range(12):
        save(root / "images" / f"{number}.png", picture(number, sizes[number % 4]))
        save(root / "masks" / f"{number}.png", indices(number, size=sizes[number % 4]))
    fitted = opened(root, size=(16, 16))
    batch = fitted.test.batch(range(len(fitted.test)), None)
    assert batch.inputs.shape[2:] == batch.targets["mask"].shape[1:] == (16, 16)
    assert (batch.targets["mask"] == IGNORED).any()
    assert fitted.test.shapes is None
    own = opened(root, size=(16, 16), own_size=True)
    assert own.train.batch(range(3), (0, 0)).inputs.shape == (3, 3, 16, 16)
    for item in range(len(own.test)):
        mask = own.test.batch([item], None).targets["mask"][0]
        assert tuple(mask.shape) == own.test.items[item].size
        number = int(own.test.name_of(item).rpartition("/")[2][:-4])
        np.testing.assert_array_equal(mask, indices(number, size=sizes[number % 4]))
    assert (np.diff(own.test.shapes) >= 0).all()
    with pytest.raises(ValueError, match="own_size: images of several sizes are trained on in crops"):
        open_data(DataSpec(source=str(root), size=16, options={"own_size": True}, augment=False))
    assert own.prepare(picture(3, (7, 5))).shape == (3, 5, 7)
    assert fitted.prepare(picture(3, (70, 35))).shape == (3, 8, 16)
    assert fitted.prepare(picture(3, (1, 1))).shape == (3, 16, 16)


def test_limits_another_division_and_groups_are_obeyed(tmp_path):
    root = folder(tmp_path / "set", indices, layout="{what}/{name}", parts=(("", 10),))
    few = opened(root, train_items=3, test_items=2)
    assert (len(few.train), len(few.test)) == (3, 2)
    names = [sorted(masks_of(opened(root, **draw))) for draw in ({}, {"split": 1}, {"split": 1})]
    assert names[0] != names[1] == names[2]
    grouped = opened(root, group="([0-4]|[5-9])[.]png$")
    assert grouped.train.groups is not None
    assert grouped.fingerprint != opened(root).fingerprint
    again = opened(root)
    values = indices(0)
    values[0, 0] = 2
    values[0, 1] = 2
    save(root / "masks" / "i0.png", values)
    changed = opened(root)
    (root / "classes.txt").write_text("sky\ntree\nroad\n")
    assert len({one.fingerprint for one in (again, changed, opened(root))}) == 3
