"""Images with boxes: each form of annotations gives the same boxes, and these move with their images."""

import json

import numpy as np
import pytest
import torch
from box_folders import CLASSES, box, coco_content, coco_folder, picture, voc_folder, yolo_folder
from pycocotools import mask as coco_masks

from foveate.data import inspect_data, open_data
from foveate.data.boxes.digits import digit_scenes
from foveate.data.boxes.outlines import masks_of
from foveate.data.open import kind_of
from foveate.spec import DataSpec, Study
from foveate.study.plan import opened_data

FOLDERS = {"coco": coco_folder, "voc": voc_folder, "yolo": yolo_folder}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def opened(folder, kind="auto", **options):
    return open_data(DataSpec(source=str(folder), kind=kind, size=(40, 60), options=options))


@pytest.mark.parametrize("form", FOLDERS)
def test_every_form_gives_the_same_boxes_classes_and_parts(form, tmp_path):
    folder = FOLDERS[form](tmp_path / "pets")
    assert kind_of(str(folder)) == form
    data = opened(folder)
    assert (data.targets["boxes"].kind, data.targets["boxes"].names) == ("boxes", CLASSES)
    assert (len(data.train), len(data.test), data.inputs) == (8, 4, (3, 40, 60))
    batch = data.train.batch([1, 3], None)
    assert [tuple(image.shape) for image in batch.inputs] == [(3, 40, 60)] * 2
    assert 0 <= batch.inputs[0].min() < batch.inputs[0].max() <= 1
    first, negative = batch.targets["boxes"]
    x, y, w, h = box(1)
    torch.testing.assert_close(first["boxes"], torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32))
    assert first["labels"].tolist() == [1]
    assert first["area"].tolist() == pytest.approx([320])
    assert first["scale"].tolist() == [1, 1]
    assert negative["boxes"].shape == (0, 4)
    assert "3 of 12 images without a box: negatives" in " ".join(data.notes)


def test_what_is_difficult_counts_as_a_crowd_unless_it_is_kept(tmp_path):
    folder = voc_folder(tmp_path / "pets")
    crowd = [opened(folder, **options).train.annotations[0].crowd.tolist() for options in ({}, {"difficult": "keep"})]
    assert crowd == [[False, True], [False, False]]
    assert opened(folder, first_pixel=0).train.annotations[0].boxes[0].tolist() == [6, 4, 26, 20]


def test_images_of_another_shape_are_fitted_and_their_boxes_with_them(tmp_path):
    folder = coco_folder(tmp_path / "pets")
    x, y, w, h = box(0)
    for resize, shape, factor in (("letterbox", (3, 120, 120), 2), ("shorter", (3, 120, 180), 3)):
        data = open_data(DataSpec(source=str(folder), size=(120, 120), options={"resize": resize}))
        batch = data.test.batch([0], None), data.train.batch([0], None)
        image, target = batch[1].inputs[0], batch[1].targets["boxes"][0]
        assert tuple(image.shape) == shape
        assert target["boxes"][0].tolist() == pytest.approx([factor * side for side in (x, y, x + w, y + h)])
        assert target["area"].tolist() == [320]
        assert target["scale"].tolist() == [factor, factor]
        if resize == "letterbox":
            assert (image[:, 80:] == 114 / 255).all()
            own = data.prepare(folder / "images" / "0.png")
            torch.testing.assert_close(own, image)
        assert data.scale_of((60, 40)) == (factor, factor)


def test_training_changes_an_image_with_its_boxes_by_seed_epoch_and_item_alone(tmp_path):
    folder = coco_folder(tmp_path / "pets")
    data = opened(folder, multi_scale=[1.0, 2.0], scales=[0.5, 2.0])
    one, again, other = (data.train.batch([2, 0], augment) for augment in ((3, 1), (3, 1), (3, 2)))
    for left, right in zip(one.inputs, again.inputs, strict=True):
        assert torch.equal(left, right)
    assert torch.equal(one.inputs[0], data.train.batch([0, 2], (3, 1)).inputs[1])
    assert any(not torch.equal(left, right) for left, right in zip(one.inputs, other.inputs, strict=True))
    assert len({tuple(data.train.batch([0], (0, epoch)).inputs[0].shape) for epoch in range(12)}) > 1
    for epoch in range(12):
        batch = data.train.batch([0, 1], (0, epoch))
        for image, target in zip(batch.inputs, batch.targets["boxes"], strict=True):
            assert image.shape[1] % 32 == image.shape[2] % 32 == 0
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"] <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all()
    wrong = [{"scales": [1, 2, 3]}, {"scales": 3}, {"multi_scale": [2, 1]}, {"multi_scale": ["1", 2]}, {"colour": 2}]
    for options in (*wrong, {"colour": "much"}, {"flip": "maybe"}, {"resize": "squash"}):
        with pytest.raises(ValueError, match="wanted"):
            opened(folder, **options)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own
def test_masks_come_from_polygons_and_run_lengths_as_coco_draws_them(tmp_path):
    polygon = [[4.2, 3.0, 30.5, 6.0, 20.0, 30.0]]
    runs = coco_masks.encode(np.asfortranarray(np.tri(40, 60, dtype=np.uint8)))
    plain = {"size": [2, 3], "counts": [1, 2, 3]}
    masks = masks_of([polygon, {**runs, "counts": runs["counts"].decode()}, None], (40, 60))
    expected = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygon, 40, 60)))
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[1], np.tri(40, 60))
    assert not masks[2].any()
    assert masks_of([plain], (2, 3))[0].tolist() == [[False, True, False], [True, False, False]]
    with pytest.raises(ValueError, match="wanted the outline of an object in 60×40 pixels; got \\(3, 2\\)"):
        masks_of([plain], (40, 60))
    for wrong in ([[1.0, 2.0]], [["a"] * 6], {"size": [40, 60]}):
        with pytest.raises(ValueError, match="outline of an object: wanted polygons or run lengths"):
            masks_of([wrong], (40, 60))
    folder = coco_folder(tmp_path / "pets")
    with pytest.raises(ValueError, match="masks = true: wanted outlines of objects; the annotations have boxes alone"):
        opened(folder, masks=True)
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    x, y, w, h = box(0)
    content["annotations"][0]["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    file.write_text(json.dumps(content))
    data = opened(folder, masks=True)
    target = data.train.batch([0], None).targets["boxes"][0]
    assert target["masks"].shape == (1, 40, 60)
    assert int(target["masks"].sum()) == w * h
    for epoch in range(6):
        (target,) = data.train.batch([0], (1, epoch)).targets["boxes"]
        for mask, corners in zip(target["masks"], target["boxes"], strict=True):
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert corners.tolist() == pytest.approx([float(side) for side in around], abs=1.01)


def test_sets_without_parts_are_divided_and_every_class_stays_in_training(tmp_path):
    folder = tmp_path / "pets"
    content = coco_content(range(20))
    content["categories"].append({"id": 20, "name": "owl"})
    content["annotations"][4]["category_id"] = 20
    for number in range(20):
        picture(folder / f"{number}.png", number)
    (folder / "pets.json").write_text(json.dumps(content))
    data = opened(folder)
    assert data.targets["boxes"].names == ("cat", "dog", "owl")
    assert len(data.train) + len(data.test) == 20
    assert any(2 in one.labels for one in data.train.annotations)
    drawn = open_data(DataSpec(source=str(folder), size=(40, 60), split=3, validation_fraction=0.2))
    assert len(drawn.train) + len(drawn.validation) + len(drawn.test) == 20
    batch = drawn.train.batch([0, 1, 2], None)
    for item, target in enumerate(batch.targets["boxes"]):
        np.testing.assert_array_equal(target["labels"].numpy(), drawn.train.annotations[item].labels)
    limited = open_data(DataSpec(source=str(folder), size=(40, 60), train_items=6))
    assert {label for one in limited.train.annotations for label in one.labels.tolist()} == {0, 1, 2}
    grouped = opened(folder, group=r"^(\d)\d?\.png")
    assert not set(grouped.train.groups) & set(grouped.test.groups)
    assert grouped.fingerprint != data.fingerprint
    with pytest.raises(ValueError, match="group: 'z' finds|wanted a regular expression with one group"):
        opened(folder, group="z")


def test_large_photos_are_decoded_smaller_in_training_and_their_boxes_with_them(tmp_path):
    content = coco_content(range(8))
    for number, row in enumerate(content["images"]):
        row.update(file_name=f"{number}.jpg", width=960, height=640)
        picture(tmp_path / "pets" / f"{number}.jpg", number, (960, 640))
    for row in content["annotations"]:
        row.update(bbox=[16 * side for side in row["bbox"]])
    (tmp_path / "pets" / "pets.json").write_text(json.dumps(content))
    data = opened(tmp_path / "pets", scales=[1, 1], flip=False)
    split = data.train
    assert split._image(0, split._least((960, 640))).size == (120, 80)
    for item in range(len(split)):
        changed, whole = (split.batch([item], augment).targets["boxes"][0] for augment in ((0, 0), None))
        torch.testing.assert_close(changed["boxes"], whole["boxes"], atol=0.01, rtol=0)


def test_a_validation_part_alone_is_the_test_part_and_a_training_part_alone_is_divided(tmp_path):
    folder = coco_folder(tmp_path / "pets")
    (folder / "annotations" / "instances_test.json").rename(folder / "annotations" / "instances_val.json")
    data = opened(folder)
    assert (len(data.train), data.validation, len(data.test)) == (8, None, 4)
    assert "the validation part is the test part, as there is no test part" in data.notes
    (folder / "annotations" / "instances_train.json").rename(folder / "train.json")
    with pytest.raises(ValueError, match="wanted a training part; got a validation part alone"):
        opened(folder)
    (folder / "annotations" / "instances_val.json").unlink()
    (folder / "annotations").rmdir()
    data = opened(folder)
    assert len(data.train) + len(data.test) == 8


def test_changed_boxes_are_other_data(tmp_path):
    folder = coco_folder(tmp_path / "pets")
    before = opened(folder).fingerprint
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    assert opened(folder).fingerprint != before


def test_yolo_reads_outlines_lists_and_folders_without_a_yaml(tmp_path):
    folder = yolo_folder(tmp_path / "pets")
    (folder / "labels" / "train" / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n")
    (folder / "train.txt").write_text("images/train/0.png\nimages/train/1.png\n")
    (folder / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\nnc: 2\n")
    data = opened(folder, masks=True)
    assert len(data.train) == 2
    target = data.train.batch([0], None).targets["boxes"][0]
    assert target["boxes"][0].tolist() == pytest.approx([6, 4, 30, 24])
    assert int(target["masks"].sum()) == 24 * 20
    (folder / "data.yaml").unlink()
    data = opened(folder)
    assert (data.targets["boxes"].names, len(data.train)) == (("0", "1"), 8)
    assert "classes are called by their numbers" in " ".join(data.notes)


def test_digits_with_boxes_are_the_embedded_set_of_detection():
    assert (kind_of("embedded"), kind_of("embedded", "detection")) == ("embedded", "digit_boxes")
    assert opened_data(Study(task="detection"), 0).kind == "digit_boxes"
    assert opened_data(Study(task="classification"), 0).kind == "auto"
    spec = DataSpec(kind="digit_boxes", train_items=12, test_items=8, size=(48, 48), options={"masks": True})
    data = open_data(spec)
    assert (len(data.train), len(data.test), data.inputs) == (12, 8, (3, 48, 48))
    targets = data.train.batch(list(range(12)), None).targets["boxes"]
    assert {len(target["labels"]) for target in targets} > {0, 1}
    for target in targets:
        for mask, corners in zip(target["masks"], target["boxes"], strict=True):
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            assert corners.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    fewer, more = (digit_scenes(n, 0, 48) for n in (4, 12))
    np.testing.assert_array_equal(fewer["images"], more["images"][:4])
    for wrong in ({"size": (32, 32)}, {"source": "elsewhere"}):
        with pytest.raises(ValueError, match="wanted"):
            open_data(DataSpec(kind="digit_boxes", **wrong))


def test_real_sets_open_with_their_parts_and_classes(shared):
    cells = open_data(DataSpec(source=str(shared / "data" / "det_bccd")))
    assert (len(cells.train), len(cells.validation), len(cells.test)) == (205, 87, 72)
    assert cells.targets["boxes"].names == ("RBC", "WBC", "Platelets")
    assert sum(len(one) for part in (cells.train, cells.validation, cells.test) for one in part.annotations) == 4888
    steel = inspect_data(str(shared / "data" / "det_neu"))
    row = steel.row()
    assert (row["usable"], row["kind"], row["train"]["items"], row["test"]["items"]) == (True, "coco", 240, 60)
    assert (row["train"]["boxes"], row["test"]["boxes"], len(row["test"]["classes"])) == (549, 152, 6)
