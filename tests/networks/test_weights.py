"""Weights of a file into a network by name, and studies that start from them."""

from functools import partial

import pytest
import safetensors.torch
import torch

import foveate
from foveate.data import open_data
from foveate.networks import head_of, load_weights, read_weights, weights_fingerprint
from foveate.spec import DataSpec, Run, Study, Training, Variant
from foveate.study.build import build_variant
from foveate.study.folder import refuse_another, write_study
from foveate.study.plan import make_plan
from foveate.study_file import check_study, study_toml
from foveate.tasks import create_task

SMALL = DataSpec(train_images=64, test_images=20)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(7)
    return foveate.create_network("resnet8", num_classes=10, in_channels=1).state_dict()


def run(**changes):
    values = {"network": "foveate:resnet8", "variant": Variant(), "data": DataSpec(), "train": Training(), "seed": 0}
    return Run(**(values | changes))


@pytest.mark.parametrize("form", ["safetensors", "plain", "state_dict", "model", "module."])
def test_every_form_of_file(form, state, tmp_path):
    path = tmp_path / "w"
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    elif form == "module.":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path)
    else:
        torch.save(state if form == "plain" else {form: state, "best": 0.9}, path)
    found = read_weights(path)
    assert found.keys() == state.keys()
    network = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    assert load_weights(network, path) == []
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_another_classifier_stays_fresh(state, tmp_path):
    torch.save(state, tmp_path / "w")
    network = foveate.create_network("resnet8", num_classes=4, in_channels=1)
    fresh = network.fc.weight.detach().clone()
    head = partial(head_of, "resnet8", num_classes=4, in_channels=1)
    with pytest.raises(ValueError, match=r"fc.weight: wanted the shape \(4, 64\), got \(10, 64\)"):
        load_weights(network, tmp_path / "w")
    assert load_weights(network, tmp_path / "w", head=head) == ["fc.weight", "fc.bias"]
    assert torch.equal(network.fc.weight, fresh)
    assert torch.equal(network.conv1.weight, state["conv1.weight"])
    foveate.insert(network, "se", example=torch.zeros(2, 1, 32, 32), freeze="base")
    trained = {name for name, p in network.named_parameters() if p.requires_grad and ".foveate." not in name}
    assert trained == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "'conv1.weight' is missing"),
        ({"fc.weight": None, "linear.weight": torch.zeros(10, 64)}, "'fc.weight' is missing; .* has 'linear.weight'"),
        ({"conv9.weight": torch.zeros(1)}, "'conv9.weight' is surplus: .*; nearest: 'conv1.weight'"),
        ({"conv1.weight": torch.zeros(16, 3, 3, 3)}, r"conv1.weight: wanted the shape \(16, 1, 3, 3\), got"),
        ({"fc.weight": torch.zeros(10, 32)}, r"fc.weight: wanted the shape \(10, 64\)"),
        ({"fc.weight": 3}, "wanted tensors by name.*got 'fc.weight': int"),
    ],
)  # fmt: skip
def test_anything_else_is_named_and_nothing_changes(change, message, state, tmp_path):
    given = {k: v for k, v in (state | change).items() if v is not None}
    torch.save(given, tmp_path / "w")
    network = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network, tmp_path / "w", head=partial(head_of, "resnet8", num_classes=10, in_channels=1))
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_files_that_are_no_weights(tmp_path, capsys):
    path = tmp_path / "w"
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(path)
    for content in (b"", b"hello", b"\x80" * 50, b"\x10" + b"\0" * 7 + b"{"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="weights .*(no torch checkpoint|damaged)"):
            read_weights(path)
    torch.save({"a": Evil()}, path)
    with pytest.raises(ValueError, match="no torch checkpoint of tensors alone"):
        read_weights(path)
    assert capsys.readouterr().out == ""


def test_a_variant_starts_from_the_file(state, tmp_path):
    torch.save(state, tmp_path / "w")
    path, example = str(tmp_path / "w"), torch.zeros(2, 1, 32, 32)
    mark = weights_fingerprint(path)
    plain = build_variant(run(weights=path, weights_fingerprint=mark), num_classes=10, in_channels=1, example=example)
    assert all(torch.equal(v, state[k]) for k, v in plain.state_dict().items())
    attended = run(weights=path, variant=Variant(attention="se", init="identity"))
    model = build_variant(attended, num_classes=10, in_channels=1, example=example)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(model.eval()(x), plain.eval()(x))
    with pytest.raises(ValueError, match="changed since the study was planned"):
        build_variant(run(weights=path, weights_fingerprint="0" * 16), num_classes=10, in_channels=1, example=example)
    with pytest.raises(ValueError, match="do not fit one widened"):
        build_variant(run(weights=path, width=1.5), num_classes=10, in_channels=1, example=example)


def test_keys_without_weights_stay_as_they_are():
    assert run(variant=Variant(attention="se"), network="a", seed=3).key == "bafc73fe45d9187e"
    assert "weights" not in study_toml(Study())
    keys = {run().key, run(weights="w").key, run(weights="w", weights_fingerprint="1").key}
    assert len(keys | {run(weights="w", weights_fingerprint="2").key}) == 4


def test_a_study_from_weights_is_planned_and_kept(state, tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    study = check_study({"weights": str(path), "variants": [{"attention": "se"}], "data": SMALL.model_dump()})
    data = open_data(SMALL)
    task = create_task("classification", data)
    plan = make_plan(study, data, task)
    assert [arm.label for arm in plan.arms] == ["none", "se", "conv control of se"]
    assert plan.notes == (f"every network starts from the weights in {path} ({weights_fingerprint(path)})",)
    notes = make_plan(study.model_copy(update={"controls": ("wider", "block")}), data, task).notes[1:]
    assert notes == (
        "no wider control for se: these weights do not fit a wider network",
        "no block control for se: these weights do not fit a deeper network",
    )
    assert {(r.weights, r.weights_fingerprint) for r in plan.runs} == {(str(path), weights_fingerprint(path))}
    assert check_study({}) != study
    write_study(tmp_path, study)
    with pytest.raises(ValueError, match="holds another study \\(weights: "):
        refuse_another(tmp_path, study.model_copy(update={"weights": None}))
    safetensors.torch.save_file(state | {"fc.bias": torch.ones(10)}, path)
    assert not {r.key for r in make_plan(study, data, task).runs} & {r.key for r in plan.runs}
    safetensors.torch.save_file({k: v for k, v in state.items() if k != "conv1.weight"}, path)
    with pytest.raises(ValueError, match="network foveate:resnet8: weights .*'conv1.weight' is missing"):
        make_plan(study, data, task)
