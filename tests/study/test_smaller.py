"""Studies of smaller networks: pruned, taught by a larger one, and measured on corrupted images."""

import json

import pytest
import torch
from in_process import run, small

import foveate
from foveate.robustness import CITYSCAPES_C, Robustness
from foveate.spec import Run, Study, Variant
from foveate.store import Store
from foveate.study import summarise
from foveate.study_file import check_study, read_study, study_toml

pytest.importorskip("torch_pruning")
pytest.importorskip("imagecorruptions")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A study with a larger network, and one that learns from it and is pruned."""
    folder = tmp_path_factory.mktemp("smaller")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveate.study.measured_costs.LATENCY_ROUNDS", 4)
        assert run(small(network="foveate:resnet14"), folder / "large").failed == ()
        study = small(
            {"name": "half", "attention": "se", "prune": {"amount": 0.5, "epochs": 2}},
            {"distill": {"teacher": f"{folder}/large:none:0", "features": 1.0, "attention": 10.0}},
            robustness=Robustness(corruptions=("fog", "glass_blur"), severities=(1, 5), items=20),
        )
        assert run(study, folder / "small").failed == ()
    return folder


def rows(folder, name):
    store = Store(folder / "results.db", read_only=True)
    try:
        return {row["arm"]: row["value"] for row in store.metrics() if row["metric"] == name}
    finally:
        store.close()


def test_a_pruned_arm_has_its_own_costs_and_can_be_used(folders):
    summary = summarise(folders / "small")
    half, plain = summary.arm("half"), summary.arm("none")
    assert half.cost.macs < 0.7 * plain.cost.macs
    model = foveate.load(folders / "small", arm="half")
    assert sum(value.numel() for value in model.parameters()) == half.cost.parameters < 0.7 * plain.cost.parameters
    again = foveate.load(foveate.save(model, folders / "half.safetensors"))
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(x), model(x))
    assert [arm.label for arm in summary.arms] == ["none", "half", "distilled (features 1, attention 10)"]


def test_the_teacher_is_part_of_the_key_by_its_weights_and_not_by_its_place(folders):
    found = [Run.model_validate_json(path.read_text()) for path in (folders / "small" / "runs").glob("*/run.json")]
    taught = next(one for one in found if one.variant.distill)
    moved = taught.variant.distill.model_copy(update={"teacher": "elsewhere:none:0"})
    there = taught.model_copy(update={"variant": taught.variant.model_copy(update={"distill": moved})})
    assert there.key == taught.key
    assert taught.model_copy(update={"teacher_fingerprint": "another"}).key != taught.key
    logged = json.loads((folders / "small" / "runs" / taught.key / "result.json").read_text())["history"][0]
    assert {"train_task", "train_logits", "train_features", "train_attention"} <= logged.keys()


def test_scores_on_corrupted_images_are_rows_metrics_and_a_table(folders):
    values = rows(folders / "small", "accuracy under fog 5")
    assert set(values) == {"none", "half", "distilled (features 1, attention 10)"}
    summary = summarise(folders / "small")
    found = [value for steps in summary.corrupted.values["none"].values() for value in steps.values()]
    assert len(found) == 4
    assert rows(folders / "small", "corrupted accuracy")["none"] == pytest.approx(sum(found) / 4)
    assert [metric.name for metric in summary.metrics][:5] == [
        "accuracy", "loss", "top5", "corrupted accuracy", "accuracy degradation",
    ]  # fmt: skip
    assert summary.corrupted.of_severity("none", 5) is not None
    from foveate.report import write_report

    page = write_report(summary, folders / "page").read_text()
    assert "Corrupted test data" in page
    assert "glass blur" in page


def test_a_study_of_smaller_networks_reads_back_the_same(folders):
    study = read_study(folders / "small" / "study.toml")
    assert check_study(__import__("tomllib").loads(study_toml(study))) == study
    assert study.variants[1].prune.epochs == 2


def test_keys_of_other_studies_are_as_they_were():
    assert Run(network="foveate:resnet8", variant=Variant(), data={}, train={}, seed=0).key == "fe3bfdbf8a7d9ee1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"variants": [{"prune": 1.5}]}, r"variants.0.prune.amount: wanted less than 1; got 1.5"),
        ({"variants": [{"prune": {"amount": 0.5, "epoch": 1}}]}, "'variants.0.prune.epoch'; did you mean 'epochs'"),
        ({"variants": [{"distill": {"teacher": "a", "logits": 0}}]}, "a weight above 0 for logits"),
        ({"variants": [{"attention": "se", "freeze": True, "prune": 0.5}]}, "trained whole"),
        ({"variants": [{"prune": 0.5}], "trainer": "t.py:train"}, "go with the library's training"),
        ({"robustness": {"corruptions": ["fogg"]}}, "no corruption 'fogg'; did you mean 'fog'"),
        ({"robustness": {"severities": [6]}}, "severities"),
    ],
)
def test_mistakes_in_a_study_of_smaller_networks_are_named(content, message):
    with pytest.raises(ValueError, match=message):
        check_study(content)


def test_a_teacher_that_is_not_there_ends_the_study_before_it_runs(tmp_path):
    with pytest.raises(ValueError, match="distill: --run .*nowhere.*there is no such folder"):
        run(small({"distill": f"{tmp_path}/nowhere:none:0"}), tmp_path / "study")


def test_images_that_are_too_small_are_refused_before_anything_runs(tmp_path):
    study = small(size=(16, 16), robustness=Robustness(corruptions=("fog",)))
    with pytest.raises(ValueError, match="robustness: fog: wanted images of at least 32×32 pixels; got 16×16"):
        run(study, tmp_path / "study")


def test_the_protocol_is_that_of_segformer():
    robustness = Study(robustness={}).robustness
    assert robustness.corruptions == CITYSCAPES_C
    assert sum(len(robustness.severities_of(name)) for name in CITYSCAPES_C) == 12 * 5 + 4 * 3
