"""Weights that timm and torchvision publish: found in their own caches or a folder, put in as the libraries do."""

import contextlib
import json
import sys

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image

import foveate
from foveate.cli import main
from foveate.data import open_data
from foveate.networks import build_network, find_release, weights_fingerprint
from foveate.spec import DataSpec
from foveate.study.build import build_for
from foveate.study.plan import make_plan
from foveate.study.predict import of_network
from foveate.study_file import check_study, study_toml
from foveate.tasks import create_task

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hugging Face hub; gives a function that puts a file of a repository into it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(repository, state, file="model.safetensors"):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        place = folder / "snapshots" / COMMIT / file
        place.parent.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, place)
        return place

    return put


def state_of(name, **options):
    torch.manual_seed(3)
    return timm.create_model(name, **options).state_dict()


def test_timm_s_weights_are_those_that_timm_loads_from_the_same_cache(hub):
    place = hub("timm/test_resnet.r160_in1k", state_of("test_resnet"))
    theirs = timm.create_model("test_resnet.r160_in1k", pretrained=True)
    for name in ("timm:test_resnet.r160_in1k", "timm:test_resnet"):
        ours = build_network(name, num_classes=1000, weights="pretrained")
        assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())
    found = find_release("timm:test_resnet.r160_in1k")
    assert found.path == place
    mark = weights_fingerprint(place)
    assert str(found) == f"r160_in1k of timm/test_resnet.r160_in1k, file model.safetensors (SHA-256 {mark}…)"


def test_another_classifier_is_fresh_and_grey_images_get_timm_s_first_convolution(hub):
    hub("timm/test_resnet.r160_in1k", state_of("test_resnet"))
    theirs = timm.create_model("test_resnet.r160_in1k", pretrained=True, num_classes=3, in_chans=1).state_dict()
    torch.manual_seed(0)
    plain = build_network("timm:test_resnet", num_classes=3, in_channels=1)
    torch.manual_seed(0)
    ours = build_network("timm:test_resnet", num_classes=3, in_channels=1, weights="pretrained")
    differ = {key for key, value in ours.state_dict().items() if not torch.equal(value, theirs[key])}
    assert differ - {"fc.bias"} == {"fc.weight"}
    assert torch.equal(ours.fc.weight, plain.fc.weight)
    foveate.insert(ours, "se", example=torch.zeros(2, 1, 32, 32), freeze="base")
    trained = {name for name, p in ours.named_parameters() if p.requires_grad and ".foveate." not in name}
    assert trained == {"fc.weight", "fc.bias"}


def test_torchvision_s_weights_are_found_in_the_hub_s_folder_or_a_given_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(
        ValueError, match="fetch https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    ) as error:
        build_network("torchvision:squeezenet1_1", num_classes=2, weights="pretrained")
    assert f"{tmp_path}/torch/hub/checkpoints/" in str(error.value)
    assert "\n" not in str(error.value)
    torch.manual_seed(3)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    for folder in (tmp_path / "torch/hub/checkpoints", tmp_path / "mine"):
        folder.mkdir(parents=True)
        torch.save(state, folder / "squeezenet1_1-b8a52dc0.pth")
    theirs = torchvision.models.squeezenet1_1(weights="DEFAULT").state_dict()
    for weights in ("pretrained", tmp_path / "mine"):
        ours = build_network("torchvision:squeezenet1_1", num_classes=1000, weights=weights)
        assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.items())
    found = str(find_release("torchvision:squeezenet1_1", tmp_path / "mine"))
    assert "IMAGENET1K_V1, file squeezenet1_1-b8a52dc0.pth" in found
    assert "not the b8a52dc0… of its name" in found


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("timm:test_resnet.r160", "timm's test_resnet has no weights 'r160'; did you mean 'r160_in1k'"),
        ("timm:test_resnett", "timm has no model 'test_resnett'; did you mean 'test_resnet"),
        ("torchvision:resnet19", "torchvision has no model 'resnet19'; did you mean"),
        ("foveate:resnet8", "wanted one of timm or torchvision, whose weights are published"),
        (
            "timm:test_resnet",
            r"not in the cache: fetch https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/mod",
        ),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(network, message, hub):
    with pytest.raises((LookupError, ValueError), match=message) as error:
        build_network(network, num_classes=2, weights="pretrained")
    assert "\n" not in str(error.value.args[0])


def test_weights_of_another_network_are_refused(hub):
    hub("timm/test_resnet.r160_in1k", state_of("test_vit"))
    with pytest.raises(ValueError, match=r"are not those of timm:test_resnet") as error:
        build_network("timm:test_resnet", num_classes=2, weights="pretrained")
    assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="'pretrained' is no option here; weights = "):
        build_network("timm:test_resnet", num_classes=2, pretrained=True)


def test_a_study_from_pretrained_weights_says_what_it_took(hub, tmp_path):
    place = hub("timm/test_resnet.r160_in1k", state_of("test_resnet"))
    small = {"train_items": 20, "test_items": 10}
    content = {
        "network": "timm:test_resnet.r160_in1k",
        "variants": ["se"],
        "seeds": [0],
        "control": "none",
        "data": small,
    }
    fresh = check_study(content)
    data = open_data(DataSpec(**small))
    task = create_task("classification", data)
    assert fresh.train.lr == 0.1
    assert "the weights r160_in1k that the network's name has are not loaded" in make_plan(fresh, data, task).notes[0]
    study = check_study(content | {"weights": "pretrained"}).resolved(tmp_path)
    plan = make_plan(study, data, task)
    assert plan.notes == (
        f"every network starts from pretrained weights, {find_release('timm:test_resnet')}",
        "lr 0.01, the default for fine-tuning",
    )
    assert 'weights = "pretrained"' in study_toml(study)
    assert "lr = 0.01" in study_toml(study)
    run = plan.runs[-1]
    assert (run.weights, run.pretrained, run.train.lr) == (str(place), True, 0.01)
    assert run.key != make_plan(fresh, data, task).runs[-1].key
    model = build_for(run, data, 10)
    theirs = timm.create_model("test_resnet.r160_in1k", pretrained=True, in_chans=1).state_dict()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in theirs.items() if "fc." not in key)


def test_the_rate_for_fine_tuning_follows_the_optimizer_and_gives_way_to_a_given_one(tmp_path):
    rates = [
        check_study({"weights": "w", "train": train}).train.lr
        for train in ({}, {"optimizer": "adamw"}, {"lr": 0.1}, {"optimizer": "adamw", "lr": 0.5})
    ]
    assert rates == [0.01, 1e-4, 0.1, 0.5]
    given = check_study({"weights": "w", "train": {"lr": 0.1}})
    assert "lr = 0.1" in study_toml(given)
    assert check_study(check_study({"weights": "w"}).model_dump(mode="json", exclude_unset=True)
                       | {"train": {"optimizer": "adamw"}}).train.lr == 1e-4  # fmt: skip


def test_networks_with_published_weights_are_evaluated_and_predict(hub, tmp_path, monkeypatch, capsys):
    hub("timm/test_resnet.r160_in1k", state_of("test_resnet"))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "photos/a.png")
    theirs = timm.create_model("test_resnet.r160_in1k", pretrained=True).eval()

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", *map(str, arguments)])
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr()

    out, err = command("predict", tmp_path / "photos", "--network", "timm:test_resnet", "--pretrained", "--json")
    assert "note: pretrained weights, r160_in1k of timm/test_resnet.r160_in1k, file model.safetensors" in err
    x = of_network("timm:test_resnet", "pretrained").prepare(tmp_path / "photos/a.png")
    best = theirs(x[None]).softmax(1).max(1)
    assert json.loads(out)["predictions"][0]["score"] == pytest.approx(best.values.item(), rel=1e-5)
    (tmp_path / "photos/labels.json").write_text(json.dumps({"a.png": best.indices.item()}))
    asked = ["evaluate", "timm:test_resnet", "--data", tmp_path / "photos", "--json"]
    answer = json.loads(command(*asked, "--pretrained").out)
    assert (answer["correct"], answer["weights"]) == (1, "model.safetensors")
    assert "--pretrained: with --weights it takes a folder" in command(*asked, "--pretrained", "--weights", "a.pth").err
    assert "wanted one of timm or torchvision" in command("evaluate", "resnet8", *asked[2:], "--pretrained").err
