"""Average precision: by hand, against pycocotools, made again of what a run keeps; what may be wrong; the baseline."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveate.data.annotation import annotation
from foveate.detections import AREAS, RIGHT, UNCOUNTED, WRONG, Matches
from foveate.items import read_items, read_tables, write_items
from foveate.metric import Metric
from foveate.study.analyse.inference import item_variance, resampled_item_variance
from foveate.study.analyse.items import item_part, of_metric, sampled_variance, shared_values
from foveate.study.analyse.remade import TableReaders
from foveate.tasks.detection_scores import BACKGROUND, DetectionScores, detection_metrics
from foveate.tasks.mean_boxes import mean_boxes

CLASSES = ("cat", "dog", "owl")


def target(boxes, labels, *, crowd=None, area=None, scale=None):
    one = annotation(boxes, labels, crowd, area)
    found = {name: getattr(one, name) for name in ("boxes", "labels", "crowd", "area")}
    return found if scale is None else {**found, "scale": torch.tensor(scale)}


def found(boxes, labels, scores):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


def scored(predictions, targets, classes=CLASSES):
    scores = DetectionScores(classes)
    scores.add(predictions, targets)
    return scores


@pytest.fixture(scope="module")
def cells(shared):
    """Detections of the boxes of BCCD's test part, some right, some shifted, some of nothing, each with a score of its
    own; some boxes are crowds and some are small."""
    file = shared / "data" / "det_bccd" / "annotations" / "instances_test.json"
    content = json.loads(file.read_text())
    draw = np.random.default_rng(0)
    predictions, targets = [], []
    for image in content["images"]:
        rows = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        sides = np.array([one["bbox"] for one in rows], np.float32)
        boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1)
        labels = np.array([one["category_id"] - 1 for one in rows])
        places = draw.integers(0, len(rows), 60)
        near = boxes[places] + draw.normal(0, 9, (60, 4)) * draw.random((60, 1))
        corner = draw.random((60, 2)) * 400
        anywhere = np.concatenate([corner, corner + 10 + draw.random((60, 2)) * 200], 1)
        whole = np.concatenate([np.sort(near.reshape(-1, 2, 2), 1).reshape(-1, 4), anywhere])
        classes = np.concatenate([np.where(draw.random(60) < 0.9, labels[places], 1), draw.integers(0, 3, 60)])
        predictions.append(found(whole.astype(np.float32).tolist(), classes.tolist(), draw.random(120).tolist()))
        crowd, small = draw.random(len(rows)) < 0.05, draw.choice([1, 0.05], len(rows))
        targets.append(target(boxes, labels, crowd=crowd, area=np.array([one["area"] for one in rows]) * small))
    scores = scored(predictions, targets, ("RBC", "WBC", "Platelets"))
    return scores, scores.scores()


def evaluated_by_pycocotools(scores):
    """Precision (thresholds, recalls, classes, areas) and the twelve figures."""
    count = len(scores.classes)
    truth = {"images": [{"id": n + 1} for n in range(len(scores.boxes))], "annotations": []}
    truth["categories"] = [{"id": label + 1} for label in range(count)]
    given = []
    for image, (boxes, detections) in enumerate(zip(scores.boxes, scores.detections, strict=True), 1):
        for side, label, area, crowd in zip(boxes.sides, boxes.labels, boxes.area, boxes.crowd, strict=True):
            row = {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": int(label) + 1}
            truth["annotations"].append(row | {"bbox": side.tolist(), "area": float(area), "iscrowd": int(crowd)})
        for side, label, score in zip(detections.sides, detections.labels, detections.scores, strict=True):
            row = {"image_id": image, "category_id": int(label) + 1, "bbox": side.tolist(), "score": float(score)}
            given.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = truth
        whole.createIndex()
        evaluation = COCOeval(whole, whole.loadRes(given), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.eval["precision"][..., -1], evaluation.stats


def test_every_figure_is_that_of_pycocotools(cells):
    scores, result = cells
    precision, figures = evaluated_by_pycocotools(scores)
    names = ("mAP", "AP50", "AP75", "AP small", "AP medium", "AP large")
    assert [result.values[name] for name in names] == figures[:6].tolist()
    assert result.values["AR"] == figures[8]
    for label, name in enumerate(scores.classes):
        assert result.values[f"AP of {name}"] == precision[:, :, label, 0].mean()
        np.testing.assert_array_equal(result.curves[name], precision[0, :, label, 0])
    matches = scores.matches()
    for number, area in enumerate(AREAS):
        expected = precision[:, :, :, number].mean(1)
        own = np.nan_to_num(matches.precisions(area=area)[0], nan=-1)
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)


def test_resampled_images_give_what_evaluating_them_anew_does(cells):
    scores, _ = cells
    matches = scores.matches()
    weights = np.random.default_rng(1).multinomial(
        len(scores.boxes), np.full(len(scores.boxes), 1 / len(scores.boxes)), 3
    )
    for area in ("all", "small"):
        once = matches.mean(weights, area=area)
        for drawn, value in zip(weights, once, strict=True):
            again = DetectionScores(scores.classes)
            for name in ("detections", "boxes", "ious"):
                own = getattr(scores, name)
                getattr(again, name).extend(own[item] for item, times in enumerate(drawn) for _ in range(times))
            values = again.values()
            assert value == pytest.approx(values["mAP" if area == "all" else "AP small"], abs=1e-12)
    assert np.isfinite(matches.voc(weights)).all()


def test_average_precision_by_hand():
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]
    given = found([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], [0, 0, 0], [0.9, 0.8, 0.7])
    scores = scored([given], [target(boxes, [0, 0])])
    values = scores.scores().values
    upper = (51 + 50 * 2 / 3) / 101  # precision 1 up to recall 0.5, then 2/3
    for name in ("mAP", "AP50", "AP75", "AP of cat", "AP small"):
        assert values[name] == pytest.approx(upper)
    assert values["VOC AP"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert values["VOC AP 11"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert not {"AP of dog", "AP large"} & set(values)  # nothing of them is there to be found
    recall, precision, score = scores.matches().curve(0)
    assert (recall.tolist(), precision.tolist()) == ([0.5, 0.5, 1.0], [1.0, 0.5, pytest.approx(2 / 3)])
    assert score.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_a_box_counts_once_and_a_crowd_not_at_all():
    wanted = [target([[0, 0, 10, 10], [40, 40, 90, 90]], [0, 0], crowd=[False, True])]
    given = [found([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], [0, 0, 0], [0.9, 0.8, 0.7])]
    scores = scored(given, wanted)
    matches = scores.matches()
    assert matches.detections["matched"][:, 0].tolist() == [1023, 0, 1023]
    assert matches.detections["ignored"][:, 0].tolist() == [0, 0, 1023]
    assert matches.detections["voc"].tolist() == [RIGHT, WRONG, UNCOUNTED]
    assert matches.boxes["counted"][:, 0].tolist() == [True, False]
    assert scores.scores().values["mAP"] == 1


def test_voc_gives_no_second_best_box_where_coco_does():
    wanted = [target([[0, 0, 10, 10], [0, 3, 10, 13]], [0, 0])]
    given = [found([[0, 0, 10, 10], [0, 1, 10, 11]], [0, 0], [0.9, 0.8])]
    matches = scored(given, wanted).matches()
    assert (matches.detections["matched"][:, 0] & 1).tolist() == [1, 1]
    assert matches.detections["voc"].tolist() == [RIGHT, WRONG]


def test_boxes_are_measured_in_pixels_of_the_file():
    given = [found([[0, 0, 20, 20]], [0], [0.9])]
    scores = scored(given, [target([[0, 0, 20, 20]], [0], area=[1600.0], scale=(0.5, 0.5))])
    assert scores.boxes[0].boxes.tolist() == [[0, 0, 40, 40]]
    assert scores.scores().values["AP medium"] == 1


def test_nothing_found_and_detections_that_are_no_numbers():
    wanted = [target([[0, 0, 10, 10]], [0])] * 2
    result = scored([found([], [], []), found([[0, 0, float("nan"), 1]], [0], [0.9])], wanted).scores()
    assert result.values["mAP"] == 0
    assert result.findings == [
        "the detector finds nothing: every score is below its own threshold, or its training diverged"
    ]
    with pytest.raises(
        ValueError, match="wanted as many boxes as scores and labels; got 1 boxes, 2 scores and 1 labels"
    ):
        scored([found([[0, 0, 1, 1]], [0], [0.9, 0.1])], wanted[:1])


def test_confusion_has_the_background_beside_the_classes():
    wanted = [target([[0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 50, 10]], [0, 1, 2])]
    given = [found([[0, 0, 10, 10], [20, 20, 30, 30], [70, 70, 80, 80]], [0, 2, 1], [0.9, 0.9, 0.9])]
    result = scored(given, wanted).scores()
    assert result.confused == (*CLASSES, BACKGROUND)
    assert result.confusion.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert result.by_class["cat"] == {"AP": 1, "AP50": 1, "recall": 1, "precision": 1, "number": 1}
    assert result.by_class["dog"]["recall"] == 0


def test_metrics_are_those_that_are_defined_on_every_part():
    parts = [annotation([[0, 0, 10, 10], [0, 0, 50, 50]], [0, 1])], [annotation([[0, 0, 9, 9]], [0])]
    assert [metric.name for metric in detection_metrics(CLASSES, *parts)] == [
        "mAP", "AP50", "AP75", "VOC AP", "VOC AP 11", "AP small", "AP of cat",
    ]  # fmt: skip
    strange = ("a,b", "a;b", "x" * 80)
    names = [metric.name for metric in detection_metrics(strange, [annotation([[0, 0, 9, 9]] * 3, [0, 1, 2])])]
    assert names[-3:] == ["AP of a_b", "AP of a_b 1", "AP of " + "x" * 45]
    assert len(detection_metrics([str(n) for n in range(21)], [annotation([[0, 0, 9, 9]], [0])])) == 6


# -- what a run keeps -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(cells, tmp_path_factory):
    """items.npz of the cells, and the metrics."""
    scores, result = cells
    path = tmp_path_factory.mktemp("run") / "items.npz"
    write_items(path, [str(number) for number in range(len(scores.boxes))], result.items, tables=result.tables)
    metrics = detection_metrics(scores.classes, [annotation([[0, 0, 9, 9], [0, 0, 50, 50]], [0, 1])])
    return path, {metric.name: metric for metric in metrics}, result


def test_metrics_are_made_again_of_the_file(kept):
    path, metrics, result = kept
    readers, tables = TableReaders(), read_tables(path)
    for name, metric in metrics.items():
        names, whole = of_metric(read_items(path), metric, tables, readers)
        assert whole.value(np.ones((1, len(names))))[0] == pytest.approx(result.values[name], abs=1e-12)
    for wrong, reason in (("detections:AP55", "did you mean 'AP"), ("detection:mAP", "did you mean 'detections'")):
        with pytest.raises(ValueError, match=reason):
            of_metric(read_items(path), Metric("mAP", remade_by=wrong), tables)


def test_images_have_a_part_in_the_variance_of_average_precision(kept):
    path, metrics, _ = kept
    tables = read_tables(path)
    names, whole = of_metric(read_items(path), metrics["AP50"], tables)
    half = {name: dict(table) for name, table in tables.items()}
    half["detections"]["score"] = half["detections"]["score"][::-1].copy()
    _, other = of_metric(read_items(path), metrics["AP50"], half)
    ours, theirs = {0: (names, whole), 1: (names, whole)}, {0: (names, other), 1: (names, other)}
    part, count = item_part(ours, theirs, [0, 1], {})
    assert count == 72
    by_hand = resampled_item_variance(lambda w: np.stack([whole.value(w) - other.value(w)] * 2, 1), 72)
    assert part == pytest.approx(by_hand, rel=0.2)  # other draws
    assert 0 < part < 0.01
    grouped, count = item_part(ours, theirs, [0, 1], {name: str(int(name) // 8) for name in names})
    assert (count, grouped == part) == (9, False)
    assert sampled_variance(ours, theirs, [0, 1], {}) == pytest.approx(part, rel=0.35)
    (residuals, _), items = shared_values([ours[0], theirs[0]], {})
    assert items == 72
    assert float(item_variance(np.stack([residuals] * 2))) > 0


def test_a_metric_of_ones_own_is_made_again_by_ones_own_function(tmp_path):
    (tmp_path / "own.py").write_text(
        "def share(tables, items):\n"
        "    own = tables['things']['item']\n"
        "    return lambda weights: weights[:, own].sum(1) / weights.sum(1)\n"
    )
    path = tmp_path / "items.npz"
    write_items(path, ["a", "b"], {}, tables={"things": {"item": np.array([0, 0, 1])}})
    metric = Metric("share", remade_by=f"{tmp_path / 'own.py'}:share")
    _, whole = of_metric(read_items(path), metric, read_tables(path))
    assert whole.value(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist() == [1.5, 2]


def test_tables_that_do_not_fit_their_items_are_refused(tmp_path):
    path = tmp_path / "items.npz"
    assert read_tables(path) == {}
    for columns, reason in (
        ({"item": np.array([0, 2])}, "wanted a column 'item' with numbers from 0 to 1"),
        ({"score": np.array([0.5])}, "wanted a column 'item'"),
        ({"item": np.array([0]), "score": np.zeros(2)}, "wanted 1 rows of 'score'; got 2"),
    ):
        with pytest.raises(ValueError, match=reason):
            write_items(path, ["a", "b"], {}, tables={"boxes": columns})
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="no scores of items"):
        read_tables(path)


# -- what may be wrong ------------------------------------------------------------------------------------------------


@pytest.fixture
def scenes():
    """Twenty images of 200×100 pixels with three boxes each."""
    draw = np.random.default_rng(3)
    corners = draw.integers(0, (150, 70), (20, 3, 2))
    boxes = np.concatenate([corners, corners + draw.integers(20, 30, (20, 3, 2))], 2).astype(float)
    return boxes, np.tile([0, 1, 1], (20, 1))


WRONGS = {
    "labels are off by one: one too low": lambda boxes, labels: (boxes, labels - 1),
    "labels are off by one: one too high": lambda boxes, labels: (boxes, labels + 1),
    "boxes are right and classes are not": lambda boxes, labels: (boxes, 1 - labels),
    "boxes are [x, y, width, height] where": lambda boxes, labels: (
        np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], 2),
        labels,
    ),
    "boxes are [y0, x0, y1, x1] where": lambda boxes, labels: (boxes[..., [1, 0, 3, 2]], labels),
    "boxes are shares of the image's sides, as [x0": lambda boxes, labels: (boxes / [180, 100, 180, 100], labels),
    "boxes are scaled: times 2": lambda boxes, labels: (boxes / 2, labels),
    "detections have sides of about 5 pixels, boxes of 2": lambda boxes, labels: (
        np.concatenate([boxes[..., :2], boxes[..., :2] + 5], 2),
        labels,
    ),
}


@pytest.mark.parametrize("reason", WRONGS)
def test_a_detector_that_is_right_but_for_one_thing_is_diagnosed(reason, scenes):
    boxes, labels = scenes
    given = [
        found(own.tolist(), kinds.tolist(), [0.9] * 3)
        for own, kinds in zip(*WRONGS[reason](boxes, labels), strict=True)
    ]
    result = scored(given, [target(own, kinds) for own, kinds in zip(boxes, labels, strict=True)], CLASSES).scores()
    assert result.values["AP50"] < 0.05
    assert result.findings[0].startswith(reason)
    assert set(result.details()) == ({"confused", "confusion", "curves", "findings"})


def test_a_detector_that_is_right_is_not_diagnosed(scenes):
    boxes, labels = scenes
    given = [found(own.tolist(), kinds.tolist(), [0.9] * 3) for own, kinds in zip(boxes, labels, strict=True)]
    result = scored(given, [target(own, kinds) for own, kinds in zip(boxes, labels, strict=True)]).scores()
    assert (result.values["mAP"], result.findings) == (1, [])


# -- the baseline -----------------------------------------------------------------------------------------------------


def test_mean_boxes_are_where_boxes_usually_are():
    draw = np.random.default_rng(0)
    places = [[10, 10, 30, 30], [60, 60, 80, 80]]

    def image(size):
        boxes = (np.array(places) + draw.normal(0, 1, (2, 4))) * size / 100
        return annotation(boxes, [0, 0], image=(size, size))

    train, test = [image(100) for _ in range(10)], [image(200) for _ in range(4)]
    baseline = mean_boxes(train, 2)
    assert (baseline.labels.tolist(), baseline.scores.tolist()) == ([0, 0], [1.0, 1.0])
    np.testing.assert_allclose(100 * baseline.boxes, places, atol=1.5)
    assert baseline.values(("cat", "dog"), test)["AP50"] == 1
    assert mean_boxes([annotation([], [], image=(9, 9))], 2).values(("cat", "dog"), test)["mAP"] == 0


def test_tables_of_no_detection_have_their_columns():
    matches = scored([found([], [], [])], [target([], [])]).matches()
    assert isinstance(matches, Matches)
    assert matches.detections["matched"].shape == (0, 4)
    assert matches.boxes["counted"].dtype == bool
    assert np.isnan(matches.mean()).all()
