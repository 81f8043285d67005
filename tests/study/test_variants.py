"""What a variant can say: several insertions, replacing, freezing and thawing, learning rates, a second plain arm."""

import pytest
import safetensors.torch
import torch
from in_process import run, small

from foveate import inserted
from foveate.data import open_data
from foveate.spec import DataSpec, Run, Training, Variant
from foveate.store import Store
from foveate.study.build import build_for
from foveate.study.plan import make_plan
from foveate.study.trained import load_run
from foveate.study_file import study_toml
from foveate.tasks import create_task
from foveate.train import train
from foveate.train.loop import make_optimizer


def built(variant, device="cpu"):
    values = {"network": "foveate:resnet8", "train": Training(epochs=3, batch_size=20, lr=0.01)}
    spec = Run(variant=Variant.model_validate(variant), data=DataSpec(train_items=40, test_items=20), seed=0, **values)
    data = open_data(spec.data)
    return spec, data, build_for(spec, data, 10, device)


def test_several_mechanisms_go_to_their_places_in_order():
    insert = [{"attention": "se", "at": "layer1.*"}, {"attention": "cbam", "at": "layer2.*"}]
    _, _, model = built({"insert": insert})
    kinds = {name: type(module).__name__ for name, module in inserted(model)}
    assert kinds
    for name, kind in kinds.items():
        assert kind == ("SqueezeExcitation" if name.startswith("layer1") else "ConvolutionalBlockAttention"), name
    _, _, plain = built("none")
    weights = model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items()), "the same plain weights"


def test_replace_takes_the_place_of_the_layers():
    _, _, behind = built({"attention": "sk", "options": {"groups": 8}, "at": "*.conv2"})
    _, _, instead = built({"attention": "sk", "options": {"groups": 8}, "at": "*.conv2", "replace": True})
    for model in (behind, instead):
        model(torch.randn(2, 1, 32, 32)).sum().backward()
    assert behind.get_parameter("layer1.0.conv2.weight").grad is not None
    assert instead.get_parameter("layer1.0.conv2.weight").grad is None, "it is not run any more"
    assert len(inserted(instead)) == len(inserted(behind)) == 3


def test_a_mechanism_that_replaces_a_layer_in_its_paper_and_is_put_behind_one_gets_a_note():
    study = small(
        {"attention": "sk", "options": {"groups": 8}, "label": "sk"},
        {"attention": "sk", "options": {"groups": 8}, "at": "*.conv2", "replace": True},
    )
    data = open_data(study.data)
    plan = make_plan(study, data, create_task(study.task, data))
    (note,) = plan.notes
    assert note.startswith("sk: sk is put at 'block'")
    assert "replace = true" in note


def test_another_network_is_a_variant_without_a_control():
    study = small(
        {"network_options": {"widths": [4, 8, 16]}},
        {"network": "foveate:resnet14", "label": "deeper"},
        "se",
        control="size",
    )
    data = open_data(study.data)
    plan = make_plan(study, data, create_task(study.task, data))
    runs = {run.arm: run for run in plan.runs}
    assert [arm.kind for arm in plan.arms[:4]] == ["plain", "attention", "attention", "attention"]
    narrow, deeper = runs["widths=[4, 8, 16]"], runs["deeper"]
    assert (narrow.network, narrow.network_options) == (study.network, {"widths": [4, 8, 16]})
    assert (deeper.network, deeper.network_options) == ("foveate:resnet14", {})
    alone = small().model_copy(update={"network": "foveate:resnet14"})
    assert deeper.key in {run.key for run in make_plan(alone, data, create_task(study.task, data)).runs}
    assert {matched for arm in plan.arms for matched in arm.matches} == {"se"}
    assert "other networks have no control, their costs stand in the table: widths=[4, 8, 16], deeper" in plan.notes
    assert study_toml(study).count("[[variants]]") == 4


def test_freezing_a_network_without_trained_weights_gets_a_note():
    study = small({"attention": "se", "freeze": True, "thaw": 2}, "eca")
    data = open_data(study.data)
    note, narrow = make_plan(study, data, create_task(study.task, data)).notes
    assert narrow == (
        "se [frozen before epoch 2]: one hidden unit at 1 of 3 sites, of 16 channels; a gate whose only unit is off "
        "for every item gets no gradient (reduction = 8 gives it 2)"
    )
    assert note.endswith("keeps the network and its classifier at random weights until epoch 2")


@pytest.mark.parametrize("thaw", [None, 3])
def test_frozen_weights_stay_until_the_epoch_of_the_thaw_and_the_attention_moves_from_the_first(tmp_path, thaw):
    spec, data, model = built({"attention": "se", "freeze": True, "thaw": thaw})
    task, states = create_task("classification", data), []

    def note(step, steps, loss):
        if step % 2 == 0:  # of two steps an epoch
            states.append({name: value.clone() for name, value in model.state_dict().items()})

    attention = {name for name in model.state_dict() if "foveate" in name or "attention" in name}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    train(spec, model, task, data, tmp_path, on_progress=note)
    assert len(states) == 3
    assert attention
    for epoch, state in enumerate(states, 1):
        moved = {name for name, value in state.items() if not torch.equal(value, start[name])}
        assert moved & attention
        assert bool(moved - attention) == (thaw is not None and epoch >= thaw), f"epoch {epoch}: {moved - attention}"


def test_the_attention_has_a_learning_rate_of_its_own_and_both_follow_the_schedule(tmp_path):
    spec, data, model = built({"attention": "se", "attention_lr": 1e-5})
    spec = spec.model_copy(update={"train": Training(epochs=1, batch_size=40, lr=0.1, momentum=0, warmup_epochs=0)})
    rates = {group["lr"] for group in make_optimizer(model, spec.train, 1e-5).param_groups}
    assert rates == {0.1, 1e-5}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    train(spec, model, create_task("classification", data), data, tmp_path / "..")
    slow = {id(p) for _, module in inserted(model) for p in module.parameters()}
    steps = {True: 0.0, False: 0.0}
    for name, parameter in model.named_parameters():
        change = (parameter - start[name]).abs().max().item()
        steps[id(parameter) in slow] = max(steps[id(parameter) in slow], change)
    assert 0 < steps[True] < 1e-3 * steps[False]


@pytest.fixture(scope="module")
def same_twice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    copy, again = {"attention": "none", "label": "plain again"}, {"attention": "se", "label": "se again"}
    study = small("se", copy, again, seeds=2)
    return run(study, folder), folder


def test_two_variants_that_differ_in_their_label_alone_run_and_give_equal_rows(same_twice):
    summary, folder = same_twice
    assert summary.failed == ()
    assert [arm.label for arm in summary.arms] == ["none", "plain again", "se", "se again"]
    assert summary.arm("plain again").score.values == summary.arm("none").score.values
    assert summary.arm("se again").score.values == summary.arm("se").score.values
    assert set(summary.arm("plain again").against_plain.differences) == {0.0}
    assert summary.arm("plain again").verdict.word == "too few seeds"  # two give none
    store = Store(folder / "results.db", read_only=True)
    keys = [row["key"] for row in store.runs()]
    store.close()
    assert len(set(keys)) == 8, "each arm was trained by itself"


def test_a_frozen_variant_is_loaded_ready_to_be_trained_further(tmp_path):
    summary = run(small({"attention": "se", "freeze": True, "label": "frozen"}), tmp_path)
    assert summary.failed == ()
    trained = load_run(tmp_path, arm="frozen")
    assert all(parameter.requires_grad for parameter in trained.model.parameters())
    stored = safetensors.torch.load_file(trained.folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in trained.model.state_dict().items())
