"""Attention and other libraries: detectors, quantisation, counters, adapters, explanations."""

import copy
import functools
import gc
import weakref

import pytest
import torch
from foreign_tools import X, attended, pickled, plain, synced
from insertion_networks import Gate, lively
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from foveate.insertion import insert, inserted, remove

quantization = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


class Unit(nn.Module):
    """A convolution, its norm and activation, that folds itself as detectors' do: by another bound forward."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return nn.functional.silu(self.bn(self.conv(x)))

    def forward_fuse(self, x):
        return nn.functional.silu(self.conv(x))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.one, self.two = Unit(8), Unit(8)

    def forward(self, x):
        x = self.stem(x)
        return x + self.two(self.one(x))

    def fuse(self):
        for m in self.modules():
            if isinstance(m, Unit) and hasattr(m, "bn"):
                m.conv = fuse_conv_bn_eval(m.conv, m.bn)
                delattr(m, "bn")
                m.forward = m.forward_fuse
        return self


def test_a_detector_that_binds_another_forward_keeps_its_attention():
    model = attended(model=lively(Detector()))
    assert [name for name, _ in inserted(model)] == ["two"]
    expected = model(X).detach()
    model.fuse()
    for twin in (model, copy.deepcopy(model), pickled(model)):
        torch.testing.assert_close(twin(X), expected, rtol=1e-4, atol=1e-5)
    assert len(inserted(model)) == 1
    remove(model)
    assert model.two.forward.__func__ is Unit.forward_fuse
    assert (model(X) - expected).abs().max() > 1e-2


@quantization
def test_dynamic_quantization():
    from torch.ao.quantization import quantize_dynamic

    for name in ("se", "cbam", "bam"):
        model = plain()
        insert(model, name, example=X, seed=1, reduction=4)
        small = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        torch.testing.assert_close(small(X), model(X), rtol=0.1, atol=0.1)
        assert len(inserted(small)) == 4


class Quantized(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.quant, self.model, self.back = (
            torch.ao.quantization.QuantStub(),
            model,
            torch.ao.quantization.DeQuantStub(),
        )

    def forward(self, x):
        return self.back(self.model(self.quant(x)))


@quantization
def test_static_quantization_is_refused():
    from torch.ao.quantization import convert, get_default_qconfig, prepare

    model = Quantized(attended()).eval()
    model.qconfig = get_default_qconfig("x86")
    ready = prepare(model)
    ready(X)
    with pytest.raises(ValueError, match=r"stage1.0.norm2: attention computes in floating point and got a quant"):
        convert(ready)(X)


@quantization
def test_fuse_modules_is_refused_by_torch():
    from torch.ao.quantization import fuse_modules

    with pytest.raises(AssertionError, match="BatchNorm2d with attention"):
        fuse_modules(attended(), [["stage1.0.conv2", "stage1.0.norm2"]])


@quantization
def test_training_for_quantization_keeps_the_attention():
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    model = attended().train()
    model.qconfig = get_default_qat_qconfig("x86")
    ready = prepare_qat(model)
    assert [name for name, _ in inserted(ready)] == [name for name, _ in inserted(attended())]
    ready(X).sum().backward()
    assert all(p.grad is not None for _, m in inserted(ready) for p in m.parameters())


def by_thop(model):
    return pytest.importorskip("thop", reason="thop is not installed").profile(model, (X[:1],), verbose=False)


def by_ptflops(model):
    engine = pytest.importorskip("ptflops", reason="ptflops is not installed")
    found = engine.get_model_complexity_info(model, (3, 16, 16), print_per_layer_stat=False, backend="pytorch")
    if found == (None, None):
        raise ValueError("ptflops counts modules by their class")  # it prints the error and goes on
    return found


def by_torchinfo(model):
    try:
        return pytest.importorskip("torchinfo", reason="torchinfo is not installed").summary(
            model, input_data=X[:1], verbose=0
        )
    except RuntimeError as error:
        raise error.__cause__ from None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [by_thop, by_ptflops, by_torchinfo], ids=lambda count: count.__name__)
def test_counters_by_class_are_refused_where_they_would_leave_out_a_convolution(count):
    count(plain())
    model = attended("stage?.?.conv2")
    with pytest.raises(ValueError, match="counts modules by their class"):
        count(model)
    model(X)
    count(remove(model))


def test_counters_of_operations_count_attention_too():
    from torch.utils.flop_counter import FlopCounterMode

    def total(model):
        with FlopCounterMode(display=False) as counter:
            model(X)
        return counter.get_total_flops()

    model = attended("stage?.?.conv2")
    weigh = [m.weigh for _, m in inserted(model)]
    positions = [16 * 16] * 2 + [8 * 8] * 2
    expected = sum(2 * len(X) * w.weight.numel() * p for w, p in zip(weigh, positions, strict=True))
    assert total(model) - total(plain()) == expected


@pytest.mark.filterwarnings("ignore")
def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = attended()
    expected = model(X).detach()
    for module in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
        accelerate.hooks.add_hook_to_module(module, accelerate.hooks.ModelHook())
    torch.testing.assert_close(model(X), expected)
    torch.testing.assert_close(accelerate.Accelerator(cpu=True).prepare(attended())(X), expected)


@pytest.mark.filterwarnings("ignore")
def test_low_rank_adapters():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    pytest.importorskip("transformers", reason="peft needs transformers")
    for at in ("block", "stage?.?.conv2"):
        model = attended(at)
        names, expected = [name for name, _ in inserted(model)], model(X).detach()
        adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["conv2"], r=2)).eval()
        torch.testing.assert_close(adapted(X), expected)
        assert len(inserted(adapted)) == len(names)


@pytest.mark.filterwarnings("ignore")
def test_explanations_see_the_network_with_its_attention():
    captum = pytest.importorskip("captum.attr", reason="captum or its matplotlib is not installed")
    model = attended()
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    torch.testing.assert_close(captum.Saliency(model).attribute(X, target=1), gradient.abs())
    layer = captum.LayerActivation(model, model.stage1[0].norm2).attribute(X)
    block = model.stage1[0]
    before = functools.reduce(lambda y, f: f(y), (block.conv1, block.norm1, block.relu, block.conv2), model.stem(X))
    torch.testing.assert_close(layer, block.norm2(before))


@pytest.mark.filterwarnings("ignore")
def test_grad_cam():
    cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam or what it imports is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", reason="grad-cam is not installed")
    one, other = attended(), plain()
    maps = [
        cam.GradCAM(model=m, target_layers=[m.stage2[1].norm2])(X, [targets.ClassifierOutputTarget(1)] * 2)
        for m in (one, other)
    ]
    assert maps[0].shape == (2, 16, 16)
    assert abs(maps[0] - maps[1]).max() > 1e-3


def test_a_model_is_freed_as_soon_as_nobody_uses_it():
    """Memory of a device does not wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        model = attended()
        insert(model, Gate, at="stem", example=X, seed=1)
        with torch.no_grad():
            copy.deepcopy(model)(X)
            synced(model)(X)
        seen = [weakref.ref(model), weakref.ref(model.stage1[0].norm2), weakref.ref(inserted(model)[0][1])]
        del model
        assert [ref() for ref in seen] == [None, None, None]
    finally:
        gc.enable()
