"""An inserted network does what the plain one did: compile, export, ONNX, AMP, DDP, checkpointing, feature lists."""

import copy
import warnings
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
import torch.distributed as dist
import torchvision
from insertion_networks import Gate, HandWritten, lively
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from foveate.insertion import insert, inserted, remove, sites

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PLACES = ["block", "stage", [{"position": "after_conv1"}]]


def busy(at: object = "block", init: str = "identity") -> nn.Module:
    """A network with attention that does something."""
    model = lively(HandWritten())
    insert(model, Gate, at=at, example=X, init=init)  # type: ignore[arg-type]
    for module in dict(inserted(model)).values():
        if init == "identity":
            module.strength.data.fill_(0.7)  # type: ignore[union-attr]
    return model


def dense() -> nn.Module:
    """Attention on containers whose forward iterates over them."""
    model = lively(torchvision.models.DenseNet(8, (2, 2), 16, num_classes=3))
    insert(model, Gate, at="stage", example=X)
    return model


@pytest.mark.parametrize("at", PLACES)
def test_compile_full_graph(at: object) -> None:
    torch._dynamo.reset()
    model = busy(at)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager" if at == "block" else "eager")
    x = X.clone().requires_grad_()
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).sum().backward()
    assert all(p.grad is not None for m in dict(inserted(model)).values() for p in m.parameters())


def test_compile_of_containers() -> None:
    torch._dynamo.reset()
    model = dense()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(X), model(X))


def test_a_compiled_model_notices() -> None:
    torch._dynamo.reset()
    model = lively(HandWritten())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    plain = compiled(X)
    insert(model, Gate, example=X)
    assert (compiled(X) - plain).abs().max() > 1e-3
    torch.testing.assert_close(compiled(X), model(X))
    remove(model)
    torch.testing.assert_close(compiled(X), plain)


def test_insertion_into_a_compiled_model() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lively(HandWritten()), backend="eager")
    compiled(X)
    assert [s.name for s in sites(compiled, X, "stage")] == ["_orig_mod.stage1.1", "_orig_mod.stage2"]
    assert len(insert(compiled, Gate, example=X)) == 4


@pytest.mark.parametrize("at", PLACES)
def test_export(at: object) -> None:
    model = busy(at)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (X,), dynamic_shapes=({0: batch},))
    y = X.repeat(2, 1, 1, 1)
    torch.testing.assert_close(program.module()(y), model(y))


def test_export_of_containers() -> None:
    model = dense()
    torch.testing.assert_close(torch.export.export(model, (X,)).module()(X), model(X))


def test_onnx(tmp_path: Path) -> None:
    model = busy()
    path = str(tmp_path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(model, (X,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_autocast(init: str) -> None:
    plain = lively(HandWritten())
    with torch.autocast("cpu", torch.bfloat16):
        before = plain(X)
        insert(plain, Gate, example=X, init=init)
        assert {p.dtype for m in dict(inserted(plain)).values() for p in m.parameters()} == {torch.float32}
        after = plain(X)
        assert after.dtype == before.dtype
        assert torch.equal(after, before) == (init == "identity")
        after.float().sum().backward()
    weights = [p for n, p in plain.named_parameters() if init == "paper" or n.endswith("strength")]
    assert all(p.grad is not None for p in weights)


def test_channels_last() -> None:
    model = busy()
    expected = model(X)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(X.to(memory_format=torch.channels_last)), expected)


def test_gradient_checkpointing() -> None:
    model = busy("stage")
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    (plain,) = torch.autograd.grad(model.stage2(x).sum(), x)
    y = checkpoint_sequential(model.stage2, 2, x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], plain)


def test_timm_checkpointing_and_features() -> None:
    model = lively(timm.create_model("resnet10t", features_only=True))
    assert [s.name for s in sites(model, X, "stage")] == ["layer1", "layer2", "layer3", "layer4"]
    plain = [f.clone() for f in model(X)]
    insert(model, Gate, at="stage", example=X, init="identity")
    assert all(torch.equal(a, b) for a, b in zip(model(X), plain, strict=True))
    for module in dict(inserted(model)).values():
        module.strength.data.fill_(0.7)  # type: ignore[union-attr]
    changed = [not torch.allclose(a, b) for a, b in zip(model(X), plain, strict=True)]
    assert changed == [False, True, True, True, True]
    assert model.feature_info.channels() == [f.shape[1] for f in model(X)]

    whole = lively(timm.create_model("resnet10t", num_classes=3))
    insert(whole, Gate, at="block", example=X)
    expected = whole(X)
    whole.set_grad_checkpointing(True)
    whole.train()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.testing.assert_close(whole(X), expected)
    whole(X).sum().backward()


def test_an_average_of_weights() -> None:
    model = busy()
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    average.update(model)
    assert len(inserted(average.module)) == 4
    assert not torch.equal(average.module(X), model(X))


def test_distributed(tmp_path: Path) -> None:
    model = busy()
    expected = model(X)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        torch.testing.assert_close(parallel(X), expected)
        parallel(X).sum().backward()
        assert all(p.grad is not None for p in parallel.parameters())
        plain = {f"module.{k}": v for k, v in HandWritten().state_dict().items()}
        parallel.load_state_dict(plain, strict=True)
        with pytest.raises(ValueError, match="insert first, then wrap"):
            insert(parallel, Gate, at="module.stem", example=X)
    finally:
        dist.destroy_process_group()


def test_training_moves_the_attention() -> None:
    model = lively(HandWritten())
    insert(model, "cbam", example=X, init="identity", seed=0, reduction=4)
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), torch.tensor([0, 1])).backward()
        optimiser.step()
    ours = [k for k, v in model.named_parameters() if ".foveate." in k]
    assert all(not torch.equal(model.state_dict()[k], before[k]) for k in ours if "spatial" not in k)


def test_hooks_that_the_first_run_registers_are_registered_once():
    class Watched(nn.Sequential):
        watches = False

        def forward(self, x):
            if not self.watches:
                self.watches = True
                self[0].register_forward_hook(lambda *_: self.seen.append(1))
            self.seen = []
            return super().forward(x)

    network, x = Watched(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    insert(network, Gate, at="0", example=x)
    network(x)
    assert network.seen == [1]
