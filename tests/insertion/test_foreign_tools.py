"""Attention and the tools of others: it survives with equal outputs, or one line says what happened and what to do."""

import copy
import pickle
import types

import pytest
import timm
import torch
import torch.distributed as dist
from foreign_tools import X, attended, pickled, plain, synced
from insertion_networks import Block, Gate, HandWritten, lively
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor

from foveate.insertion import insert, inserted, remove

LOST = r"its attention no longer runs: .*; apply such tools to the plain network and insert afterwards"


def synced_by_timm(model):
    return timm.layers.convert_sync_batchnorm(model).eval()


def frozen_norms(model):
    return timm.layers.freeze_batch_norm_2d(model).eval()


def folded(model):
    """Convolutions with their norms folded in, as most deployment tools do it."""
    for block in [m for m in model.modules() if isinstance(m, Block)]:
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2")):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    return model


def weight_normed(model):
    parametrizations.weight_norm(model.stage1[0].norm2, "weight", dim=0)
    return model


def weight_normed_and_undone(model):
    weight_normed(model)
    parametrize.remove_parametrizations(model.stage1[0].norm2, "weight")
    return model


def averaged(model):
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    average.update(model)
    return average.module


def stochastic_average(model):
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    return average.eval()


def pruned(model):
    prune.random_unstructured(model.stage1[0].norm2, "weight", 0.0)
    return model


def traced_by_fx(model):
    return torch.fx.symbolic_trace(model)


def fused_by_fx(model):
    return fuse(model)


def extracted(model):
    extractor = create_feature_extractor(model, ["head"])

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.extractor = extractor

        def forward(self, x):
            return self.extractor(x)["head"]

    return Whole().eval()


def exported(model):
    return torch.export.export(model, (X,)).module()


def unflattened(model):
    return torch.export.unflatten(torch.export.export(model, (X,)))


def compiled(model):
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, backend="eager")


def checkpointed(model):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(model, check_fn=lambda m: isinstance(m, Block | nn.BatchNorm2d))
    return model


def head_replaced(model):
    """A structural change that attention has nothing to do with."""
    model.head = copy.deepcopy(model.head)
    return model


SURVIVES = [
    synced, synced_by_timm, frozen_norms, folded, weight_normed, weight_normed_and_undone, averaged, stochastic_average,
    pruned, traced_by_fx, fused_by_fx, extracted, exported, unflattened, compiled, pickled, copy.deepcopy, checkpointed,
    head_replaced,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("tool", SURVIVES, ids=lambda tool: tool.__name__)
def test_attention_survives_with_equal_outputs(tool):
    model = attended()
    expected = model(X).detach()
    assert (expected - plain()(X)).abs().max() > 1e-2
    torch.testing.assert_close(tool(model)(X), expected, rtol=1e-4, atol=1e-5)


IN_PLACE = [synced, synced_by_timm, frozen_norms, folded, checkpointed, head_replaced]


@pytest.mark.parametrize("tool", IN_PLACE, ids=lambda tool: tool.__name__)
def test_it_is_still_named_trained_saved_and_removed(tool):
    model = attended()
    names, expected = [name for name, _ in inserted(model)], model(X).detach()
    model = tool(model)
    assert len(inserted(model)) == len(names)
    assert all(tool is checkpointed or name in names for name, _ in inserted(model))
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    torch.testing.assert_close(twin(X), expected, rtol=1e-4, atol=1e-5)
    model(X).sum().backward()
    assert all(p.grad is not None for _, m in inserted(model) for p in m.parameters())
    remove(model)
    changed = tool(plain())
    assert list(model.state_dict()) == list(changed.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in changed.modules()]
    assert torch.equal(model(X), changed(X))
    insert(model, Gate, example=X, seed=1)
    torch.testing.assert_close(model(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("then", [compiled, traced_by_fx, pickled, copy.deepcopy], ids=lambda f: f.__name__)
def test_nothing_is_lost_between_two_tools(then):
    """No forward pass lies between the tool that replaces the hosts and the one that reads the network."""
    model = attended()
    expected = model(X).detach()
    torch.testing.assert_close(then(synced(model))(X), expected, rtol=1e-4, atol=1e-5)


def test_export_right_after_another_tool_asks_for_one_forward_pass():
    model = synced(attended())
    with pytest.raises(Exception, match="run the model once before exporting it"):
        exported(model)
    expected = model(X).detach()
    torch.testing.assert_close(exported(model)(X), expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_model_follows_a_tool():
    model = attended()
    expected = model(X).detach()
    fast = compiled(model)
    fast(X)
    synced(model)
    torch.testing.assert_close(fast(X), expected, rtol=1e-4, atol=1e-5)


def test_what_was_inserted_into_a_compiled_model_is_watched_too():
    fast = compiled(plain())
    insert(fast, Gate, example=X, seed=1)
    expected = attended()(X).detach()
    torch.testing.assert_close(fast(X), expected)
    synced(fast)
    torch.testing.assert_close(fast(X), expected, rtol=1e-4, atol=1e-5)
    fast.stage1[1].norm2 = nn.GroupNorm(2, 8)
    with pytest.raises(Exception, match="its attention no longer runs"):
        fast(X)


def test_spectral_norm_of_a_host_is_that_of_the_plain_module():
    first, then = plain(), plain()
    parametrizations.spectral_norm(attended("stage1.0.conv2", first).stage1[0].conv2)
    parametrizations.spectral_norm(then.stage1[0].conv2)
    first.stage1[0].conv2.parametrizations.load_state_dict(then.stage1[0].conv2.parametrizations.state_dict())
    torch.testing.assert_close(first(X), attended("stage1.0.conv2", then)(X))
    assert [name for name, _ in inserted(first)] == ["stage1.0.conv2"]


def test_removal_waits_for_the_end_of_a_parametrization():
    model = weight_normed(attended())
    with pytest.raises(ValueError, match="ParametrizedBatchNorm2d is a class that another tool derived"):
        remove(model)
    assert len(inserted(model)) == 4
    parametrize.remove_parametrizations(model.stage1[0].norm2, "weight")
    assert list(remove(model).state_dict()) == list(weight_normed_and_undone(plain()).state_dict())


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # torch's own about the CPU
def test_fully_sharded(group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = attended()
    expected, mesh = model(X).detach(), init_device_mesh("cpu", (1,))
    for module in (model.stage1[0].norm2, model.stage2[1], model):
        fully_shard(module, mesh=mesh)
    torch.testing.assert_close(model(X), expected)
    assert len(inserted(model)) == 4
    with pytest.raises(ValueError, match="is a class that another tool derived"):
        remove(model)
    torch.testing.assert_close(model(X), expected)


@pytest.mark.filterwarnings("ignore")
def test_data_parallel_in_both_forms(group):
    model = attended()
    expected = model(X).detach()
    for wrapped in (nn.DataParallel(copy.deepcopy(model)), nn.parallel.DistributedDataParallel(folded(model))):
        torch.testing.assert_close(wrapped(X), expected, rtol=1e-4, atol=1e-5)
        assert dict(inserted(wrapped)).keys() == {f"module.{name}" for name, _ in inserted(attended())}


def refuses(model, reason):
    for act in (lambda: model(X), lambda: inserted(model), lambda: insert(model, Gate, at="stem", example=X)):
        with pytest.raises(ValueError, match=LOST) as caught:
            act()
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tool", [synced, frozen_norms], ids=lambda tool: tool.__name__)
def test_a_plain_checkpoint_loads_right_after_another_tool(tool):
    model = attended()
    expected, other = model(X), lively(HandWritten())
    model = tool(model)
    model.load_state_dict(other.state_dict(), strict=True)
    assert (model(X) - expected).abs().max() > 1e-3
    model.load_state_dict(plain().state_dict(), strict=True)
    torch.testing.assert_close(model(X), expected)


def test_a_norm_folded_past_the_attention_is_refused():
    """Attention between a convolution and its norm: the folded convolution is another function."""
    model = folded(attended("stage?.?.conv2"))
    refuses(model, "its Conv2d was replaced by another Conv2d")
    assert torch.equal(remove(model)(X), folded(plain())(X))


def test_a_host_that_computes_something_else_is_refused():
    model = attended()
    model.stage1[1].norm2 = nn.GroupNorm(2, 8)
    refuses(model, "stage1.1.norm2: its attention no longer runs: its BatchNorm2d was replaced by another GroupNorm")


def test_a_stage_that_is_cut_off_takes_its_attention_along_only_when_told_to():
    model = attended()
    stage, model.stage2 = model.stage2, nn.Conv2d(8, 16, 1)
    refuses(model, "stage2.0.norm2: its attention no longer runs: its BatchNorm2d is no longer in the network")
    remove(stage)
    assert [name for name, _ in inserted(model)] == ["stage1.0.norm2", "stage1.1.norm2"]
    model(X)


def test_attention_taken_out_by_hand_is_refused():
    model = attended()
    del model.stage1[0].norm2.foveate
    refuses(model, "it was taken out of its BatchNorm2d")
    assert torch.equal(remove(model)(X), plain()(X))


def test_a_forward_pass_that_goes_past_a_host_is_refused():
    model = attended()
    block = model.stage1[0]
    block.forward = types.MethodType(lambda self, x: self.relu(x + self.conv2(self.conv1(x))), block)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"stage1.0.norm2: .* this forward pass does not call its BatchNorm2d"):
            model(X)
    del block.forward
    model(X)


def test_loss_in_a_network_without_its_root_is_found_by_name():
    parts = nn.Sequential(*list(attended("stem").children())[:1])
    assert [name for name, _ in inserted(parts)] == ["0"]
    with pytest.raises(ValueError, match="stage1.0.norm2: .* it is in a SyncBatchNorm that does not call it"):
        inserted(synced(attended().stage1))


@pytest.mark.parametrize("name", ["repvgg_a0", "fastvit_t8"])
def test_reparameterised_networks_are_refused(name):
    model = lively(timm.create_model(name, num_classes=3))
    x = torch.randn(1, 3, 32, 32)
    twin = copy.deepcopy(model)
    insert(model, Gate, example=x)
    small, expected = timm.utils.reparameterize_model(model), timm.utils.reparameterize_model(twin)
    for act in (lambda: small(x), lambda: inserted(small), lambda: compiled(small)(x)):
        with pytest.raises(Exception, match="its attention no longer runs"):
            act()
    assert torch.equal(remove(small)(x), expected(x))
    assert list(small.state_dict()) == list(expected.state_dict())
    model(x)
