"""Small folders of images with boxes, in each form that there is a reader of."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")
SIZE = (60, 40)  # (width, height)


def picture(path: Path, number: int, size: tuple[int, int] = SIZE) -> None:
    """An image that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def box(number: int) -> list[float]:
    """x, y, width, height in pixels."""
    return [number % 20 + 5, number % 7 + 3, 20, 16]


def coco_content(numbers, *, first_id: int = 1) -> dict:
    """Images of these numbers with one box each; category ids with gaps; every fourth image has none."""
    return {
        "images": [{"id": n + 100, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in numbers],
        "annotations": [
            {
                "id": n + first_id,
                "image_id": n + 100,
                "category_id": (3, 11)[n % 2],
                "bbox": box(n),
                "area": 320.0,
                "iscrowd": 0,
            }
            for n in numbers
            if n % 4 != 3
        ],
        "categories": [{"id": 11, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def coco_folder(root: Path, *, train: int = 8, test: int = 4) -> Path:
    """root/annotations/instances_train.json and instances_test.json, root/images/<number>.png."""
    (root / "annotations").mkdir(parents=True)
    for number in range(train + test):
        picture(root / "images" / f"{number}.png", number)
    for part, numbers in (("train", range(train)), ("test", range(train, train + test))):
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco_content(numbers)))
    return root


def voc_folder(root: Path, *, train: int = 8, test: int = 4) -> Path:
    """root/VOC2007 with JPEGImages, Annotations and ImageSets/Main/trainval.txt and test.txt; the boxes of
    `coco_folder`, counted from 1; in image 0 a second object is difficult."""
    home = root / "VOC2007"
    for name in ("Annotations", "ImageSets/Main"):
        (home / name).mkdir(parents=True)
    for number in range(train + test):
        picture(home / "JPEGImages" / f"{number:03d}.png", number)
        objects = [] if number % 4 == 3 else [(CLASSES[number % 2], box(number), 0)]
        objects += [("dog", [30, 5, 10, 10], 1)] if number == 0 else []
        text = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for name, (x, y, w, h), difficult in objects
        )
        size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        (home / "Annotations" / f"{number:03d}.xml").write_text(f"<annotation>{size}{text}</annotation>")
    for name, numbers in (("trainval", range(train)), ("test", range(train, train + test))):
        (home / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{number:03d}  1\n" for number in numbers))
    return root


def yolo_folder(root: Path, *, train: int = 8, test: int = 4) -> Path:
    """root/data.yaml with a path of another machine, images/<part>/ and labels/<part>/; the boxes of `coco_folder`."""
    for number in range(train + test):
        part = "train" if number < train else "val"
        picture(root / "images" / part / f"{number}.png", number)
        x, y, w, h = box(number)
        shares = [(x + w / 2) / SIZE[0], (y + h / 2) / SIZE[1], w / SIZE[0], h / SIZE[1]]
        file = root / "labels" / part / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number % 4 != 3:
            file.write_text(" ".join(map(str, [number % 2, *shares])) + "\n")
    lines = ["path: /home/somebody/pets", "train: images/train", "val: images/val", "names:", "  0: cat", "  1: dog"]
    (root / "data.yaml").write_text("\n".join(lines))
    return root
