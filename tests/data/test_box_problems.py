"""Everything that is wrong with boxes is listed at once, each by its file; what is left out is said."""

import json

import pytest
from box_folders import coco_folder, picture, voc_folder, yolo_folder

from foveate.data import inspect_data, open_data
from foveate.spec import DataSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path):
    return coco_folder(tmp_path / "pets")


def changed(folder, change, part="train"):
    file = folder / "annotations" / f"instances_{part}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def reasons(folder, **options):
    """The problems, and the data where they can be used."""
    found = inspect_data(str(folder), options=options)
    return [f"{'note: ' * (one.kind == 'note')}{one}" for one in found.problems], found.data


BOXES = {
    "reaches outside": ([50, 10, 30, 20], "box [50, 10, 80, 30] of 'cat' reaches 20 pixels outside the image of 60×40"),
    "lies outside": ([70, 10, 5, 5], "box [70, 10, 75, 15] of 'cat' lies outside the image of 60×40 pixels"),
    "zero area": ([5, 5, 0, 10], "box [5, 5, 5, 15] of 'cat' has no area"),
    "inverted": ([25, 5, -10, 10], "box [25, 5, 15, 15] of 'cat' is inverted: its second corner lies before its first"),
    "no box": ([1, 2, 3], "annotation 1 (0.png): wanted bbox [x, y, width, height] in pixels; got [1, 2, 3]"),
    "no number": ([1, 2, None, 3], "annotation 1 (0.png): wanted bbox [x, y, width, height] in pixels"),
}


@pytest.mark.parametrize("which", BOXES)
def test_a_box_that_is_none_is_named_and_left_out_or_cut_where_bad_ones_are_skipped(which, pets):
    box, reason = BOXES[which]
    changed(pets, lambda content: content["annotations"][0].update(bbox=box))
    found, data = reasons(pets)
    assert data is None
    assert any(reason in line for line in found if not line.startswith("note"))
    found, data = reasons(pets, skip_bad=True)
    how = "cut" if which == "reaches outside" else "left out"
    assert any(f"{how}: {reason}" in line for line in found)
    assert len(data.train.annotations[0]) == (which == "reaches outside")
    if which == "reaches outside":
        assert data.train.annotations[0].boxes.tolist() == [[50, 10, 60, 30]]
        assert data.train.annotations[0].area.tolist() == [200]


def test_identities_and_classes_that_do_not_fit_are_named(pets):
    def change(content):
        content["images"].append({"id": 100, "file_name": "9.png"})
        content["annotations"][1]["id"] = 1
        content["annotations"][2].update(category_id=4)
        content["annotations"][3].update(image_id=7)
        content["categories"].append({"id": 3, "name": "owl"})
        content["categories"].append("owl")
        content["annotations"][4].update(image_id=[1])
        content["annotations"][5].update(area="large")

    changed(pets, change)
    found = " ".join(reasons(pets)[0])
    assert "images: id 100 is there twice: '0.png' and '9.png'" in found
    assert "annotation 1 (1.png): its id is there twice" in found
    assert "unknown class: category id 4; known: 11, 3" in found
    assert "no image has the id 7" in found
    assert 'annotations: entry 4: wanted {"image_id": …, "category_id": …}; got {"id": 6, "image_id": [1]' in found
    assert "categories: id 3 stands for 'cat' and 'owl'" in found
    assert 'categories: entry 3: wanted {"id": …, "name": …}; got "owl"' in found


def test_a_file_that_is_no_json_of_boxes_is_named_with_its_place(pets):
    file = pets / "annotations" / "instances_train.json"
    text = file.read_text()
    file.write_text(
        text.replace('"annotations"', '\n "annotations"', 1).replace('"image_id": 100', '"image_id" 100', 1)
    )
    with pytest.raises(ValueError, match=r"instances_train\.json: broken JSON in line 2, column \d+: Expecting ':'"):
        open_data(DataSpec(source=str(pets)))
    file.write_text("")
    assert "broken JSON in line 1, column 1: Expecting value" in reasons(pets)[0][0]
    file.write_text(text.replace('"categories"', '"categorys"'))
    (line,) = reasons(pets)[0][:1]
    assert "wanted a list 'categories', as COCO's files have; got nothing; did you mean 'categorys'?" in line


def test_a_folder_without_boxes_is_told_what_they_look_like(pets):
    with pytest.raises(ValueError, match=r"images: looks like no data for detection, which are of the kinds coco, dig"):
        inspect_data(str(pets / "images"), task="detection")


def test_missing_images_are_named_with_the_nearest(pets):
    changed(pets, lambda content: content["images"][2].update(file_name="22.png"))
    found, _ = reasons(pets)
    assert any("names 22.png; there is no such file; did you mean '2.png'?" in line for line in found)
    for name in ("train", "test"):
        changed(pets, lambda content: [row.update(file_name=f"x{row['id']}.png") for row in content["images"]], name)
    (first, *_), data = reasons(pets)
    assert data is None
    assert "annotations of another data set? None of the 8 images it names is there, such as 'x100.png'" in first
    assert "; nearest to 'x100.png': '10.png'" in first


def test_damaged_images_and_those_of_another_size_are_named(pets):
    (pets / "images" / "1.png").write_bytes(b"nothing")
    picture(pets / "images" / "2.png", 2, (20, 10))
    picture(pets / "images" / "4.png", 4, (80, 80))
    found, _ = reasons(pets)
    assert any("1.png: not an image, whatever its name says" in line for line in found)
    another = "is annotated as an image of 60×40 pixels; the file has 20×10, and boxes lie outside it"
    assert any(f"2.png: {another}" in line for line in found)
    assert any(
        "images of another size than their annotations say: 1, images/4.png (60×40; 80×80)" in line for line in found
    )
    _, data = reasons(pets, skip_bad=True)
    assert [data.train.name_of(item) for item in range(len(data.train))] == [
        f"images/{n}.png" for n in (0, 3, 4, 5, 6, 7)
    ]


def test_classes_without_boxes_and_sets_without_any_are_named(pets):
    changed(pets, lambda content: content["categories"].append({"id": 1, "name": "animal"}))
    changed(pets, lambda content: content["categories"].append({"id": 1, "name": "animal"}), "test")
    found, data = reasons(pets)
    assert f"note: {pets}: classes without a single box: 1, 'animal'" in found
    assert data.targets["boxes"].names == ("animal", "cat", "dog")
    changed(pets, lambda content: [row.update(category_id=11) for row in content["annotations"]])
    found, _ = reasons(pets)
    assert f"{pets}: class 'cat' has no training box, and 2 in the other parts" in found
    changed(pets, lambda content: content.update(annotations=[]))
    assert f"{pets}: no image of the train part has a box" in reasons(pets)[0]
    changed(pets, lambda content: content.update(annotations=[]), "test")
    assert f"{pets}: no image has a box" in reasons(pets)[0]


def test_corners_in_place_of_sides_are_seen(pets):
    def change(content):
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            row["bbox"] = [x + 20, y + 10, x + 20 + w, y + 10 + h]

    for part in ("train", "test"):
        changed(pets, change, part)
    found = " ".join(reasons(pets)[0])
    assert "boxes look like [x0, y0, x1, y1]; COCO's files have [x, y, width, height]" in found


def test_notes_count_crowds_negatives_boxes_cut_images_left_out_and_copies(pets):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["bbox"] = [-1, 5, 20, 16]

    changed(pets, change)
    picture(pets / "images" / "more.png", 99)
    (pets / "images" / "8.png").write_bytes((pets / "images" / "2.png").read_bytes())
    found, data = reasons(pets)
    assert data is not None
    told = " ".join(found)
    assert "boxes that are crowds or difficult: 1, neither trained on nor counted" in told
    assert "boxes that reach up to 1 pixel beyond their image: 1, cut" in told
    assert "3 of 12 images without a box: negatives" in told
    assert "1 image beside them is in no annotation and left out: more.png" in told
    assert "1 photo is both in the train and in the test folder: images/2.png = images/8.png" in told
    assert data.train.annotations[1].boxes[0].tolist() == [0, 5, 19, 21]


def test_what_is_wrong_with_xml_is_named(tmp_path):
    folder = voc_folder(tmp_path / "pets")
    home = folder / "VOC2007"
    (home / "Annotations" / "001.xml").write_text("<annotation>\n<object></annotation>")
    (home / "Annotations" / "002.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (home / "ImageSets" / "Main" / "test.txt").write_text("008\n009\n0010\n")
    found = " ".join(reasons(folder, classes=["cat", "dgo"])[0])
    assert "001.xml: broken XML in line 2, column 11" in found
    assert "002.xml: object 1 ('cat'): wanted bndbox with xmin, ymin, xmax and ymax" in found
    assert "test.txt: names '0010'; there is no Annotations/0010.xml; did you mean '010'?" in found
    assert "unknown class 'dog'; did you mean 'dgo'?" in found
    assert "note: " in found
    assert "2 annotated images are in no list and left out" in found
    with pytest.raises(ValueError, match="difficult: wanted 'ignore' or 'keep'; got 'drop'"):
        open_data(DataSpec(source=str(folder), options={"difficult": "drop"}))


def test_what_is_wrong_with_text_files_is_named(tmp_path):
    folder = yolo_folder(tmp_path / "pets")
    file = folder / "labels" / "train" / "0.txt"
    file.write_text("0 0.5 0.5 0.2\n7 0.5 0.5 0.2 0.2\n1 30 20 10 10\n1.5 0.5 0.5 0.2 0.2\n")
    found = [line.removeprefix(f"{file}: ") for line in reasons(folder)[0]]
    assert found[:3] == [
        "line 1: wanted 'class x y width height' or 'class x y x y …'; got '0 0.5 0.5 0.2'",
        "line 2: unknown class 7; known: 0 to 1",
        "line 3: wanted shares of the image's sides, 0 to 1; got '1 30 20 10 10'; pixels?",
    ]
    for text, reason in (
        ("train: images/train\nval: images/val\nnames: [cat]\nnc: 3", "nc is 3, and there are 1 names"),
        ("train: images/train\nval: images/val\nnames: {1: cat}", "names: wanted the numbers 0 to 0"),
        ("train: images/none\nval: images/val\nnames: [cat, dog]", "train: there is no 'images/none' beside it"),
        ("train: [images", "broken YAML in line 1"),
    ):
        (folder / "data.yaml").write_text(text)
        with pytest.raises(ValueError, match="data.yaml") as raised:
            open_data(DataSpec(kind="yolo", source=str(folder)))
        assert reason in str(raised.value)
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]")
    (folder / "labels").rename(folder / "lables")
    assert "none of the 12 images has a text file, such as" in " ".join(reasons(folder)[0])
