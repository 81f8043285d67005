"""Weights of a file into a network by name, and studies that start from them."""

import argparse
import zipfile
from functools import partial
from pathlib import Path

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


FORMS = {  # of a checkpoint → where the tensors are said to stand
    "safetensors": "",
    "plain": "",
    "state_dict": "under 'state_dict'",
    "net": "under 'net'",
    "model_ema": "under 'model_ema', without 'module.'",
    "both": "under 'model' (not 'model_ema')",
    "parallel": "under 'state_dict', without 'module.'",
    "compiled": "without '_orig_mod.'",
    "compiled and parallel": "without '_orig_mod.', without 'module.'",
    "lightning": "under 'state_dict', without '_orig_mod.', below 'model.' (1 other is not taken, 'crit.weight')",
    "encoder": "below 'parts.encoder.'",
}


def write_form(form, state, path):
    """A file of weights as trainers write them."""
    settings = argparse.Namespace(lr=0.1, place=Path("a"))  # no tensor: to be passed over
    below = lambda prefix: {f"{prefix}{key}": value for key, value in state.items()}  # noqa: E731
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
        return
    contents = {
        "plain": state,
        "model_ema": {"model_ema": below("module.") | {"n_averaged": torch.tensor(3)}, "args": settings},
        "both": {"model": state, "model_ema": {key: value + 1 for key, value in state.items()}},
        "parallel": {"state_dict": below("module."), "epoch": 3},
        "compiled": below("_orig_mod."),
        "compiled and parallel": below("module._orig_mod."),
        "lightning": {
            "state_dict": below("model._orig_mod.") | {"crit.weight": torch.ones(10)},
            "hyper_parameters": {"cfg": settings},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": []}],
            "pytorch-lightning_version": "2.6.6",
        },
        "encoder": below("parts.encoder."),
    }
    torch.save(contents.get(form, {form: state, "best": 0.9}), path)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file(form, state, tmp_path):
    path = tmp_path / "w"
    write_form(form, state, path)
    network = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    assert load_weights(network, path) == []
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    found = read_weights(path).of_network(state)
    assert (found.keys(), found.taken) == (state.keys(), FORMS[form])


def test_a_network_that_stands_there_twice_is_refused(state, tmp_path):
    torch.save(
        {f"{part}.{key}": value for part in ("model", "teacher") for key, value in state.items()}, tmp_path / "w"
    )
    network = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match=r"the network's tensors below 'model.' and 'teacher.'; keep one"):
        load_weights(network, tmp_path / "w")


def test_a_file_without_the_classifier_leaves_it_fresh(state, tmp_path):
    torch.save({f"backbone.{k}": v for k, v in state.items() if "fc." not in k} | {"head.weight": state["fc.weight"]},
               tmp_path / "w")  # fmt: skip
    network = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match="'conv1.weight' is missing"):
        load_weights(network, tmp_path / "w")
    head = partial(head_of, "resnet8", num_classes=10, in_channels=1)
    assert load_weights(network, tmp_path / "w", head=head) == ["fc.weight", "fc.bias"]
    assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_tensors_that_were_saved_on_a_gpu_come_to_the_cpu(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "cpu")
    with zipfile.ZipFile(tmp_path / "cpu") as old, zipfile.ZipFile(tmp_path / "gpu", "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry.endswith("data.pkl"):  # the place of each storage
                assert b"X\x03\0\0\0cpu" in content
                content = content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
            new.writestr(entry, content)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "gpu", weights_only=True)
    found = read_weights(tmp_path / "gpu")
    assert all(value.device.type == "cpu" and torch.equal(value, state[key]) for key, value in found.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value, state, tmp_path):
    wrong = state["layer2.0.conv1.weight"].clone()
    wrong[3, 1] = value
    safetensors.torch.save_file(state | {"layer2.0.conv1.weight": wrong}, tmp_path / "w")
    with pytest.raises(
        ValueError, match=r"layer2.0.conv1.weight: 9 of its 4,608 values are no finite numbers \(NaN or"
    ):
        read_weights(tmp_path / "w")
    torch.save({"mask": torch.tensor([0.0, -torch.inf])}, tmp_path / "w")
    assert read_weights(tmp_path / "w").keys() == {"mask"}


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
    for zipped in (True, False):
        torch.save({"a": Evil()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ValueError, match="a pickled builtins.print, which is not read|no torch checkpoint"
        ) as error:
            read_weights(path)
        assert "\n" not in str(error.value)
        assert "weights_only" not in str(error.value)
    torch.save({"epoch": 3, "model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(
        ValueError, match=r"got 'model': a pickled torch.*Linear, which is not read; save the network's"
    ):
        read_weights(path)
    torch.save({"a": torch.ones(2, device="meta")}, path)
    with pytest.raises(ValueError, match="a: wanted a dense tensor; got one on the meta device"):
        read_weights(path)
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(tmp_path / ("n" * 300))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"hello")
    content = path.read_bytes()
    central = content.index(b"PK\x01\x02")  # 9.9: a version of the format that Python refuses
    path.write_bytes(content[: central + 6] + bytes([99]) + content[central + 7 :])
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
    assert plan.notes[:2] == (
        f"every network starts from the weights in {path} ({weights_fingerprint(path)})",
        "lr 0.01, the default for fine-tuning",
    )
    notes = make_plan(study.model_copy(update={"controls": ("wider", "block")}), data, task).notes[2:4]
    assert notes == (
        "se has no control of the form 'wider': these weights do not fit a wider network",
        "se has no control of the form 'block': these weights do not fit a deeper network",
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
