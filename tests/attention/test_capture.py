"""Captures: names through wrappers, captures inside one another, and nothing left behind."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

import foveate
from foveate.attention import _capture


def pair() -> nn.Sequential:
    return nn.Sequential(foveate.create_attention("se", 16), foveate.create_attention("cbam", 16)).eval()


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: torch.compile(m, backend="aot_eager"),
        lambda m: torch.compile(nn.DataParallel(m), backend="aot_eager"),
    ],
    ids=["data parallel", "compiled", "both"],
)
@pytest.mark.parametrize("training", [False, True])
def test_names_are_those_of_the_model_inside_its_wrappers(wrap, training):
    model, x = pair().train(training), torch.randn(2, 16, 4, 4)
    wrapped = wrap(model)
    with foveate.capture(wrapped) as seen:
        wrapped(x)
    assert {site: {k: tuple(v.shape) for k, v in maps.items()} for site, maps in seen.maps.items()} == {
        "0": {"channel": (2, 16)},
        "1": {"channel": (2, 16), "spatial": (2, 4, 4)},
    }


def test_a_users_own_part_called_module_keeps_its_name():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = foveate.create_attention("se", 16)

        def forward(self, x):
            return self.module(x)

    with foveate.capture(model := Own()) as seen:
        model(torch.randn(2, 16, 4, 4))
    assert list(seen.maps) == ["module"]


def test_inserted_modules_go_by_the_names_of_their_sites_in_a_compiled_model():
    network, x = foveate.create_network("resnet8", num_classes=5).eval(), torch.randn(2, 3, 12, 12)
    sites = [site.name for site in foveate.sites(network, x) if site.kind == "block"]
    foveate.insert(network, "se", at="block", example=x)
    for model in (network, nn.DataParallel(network), torch.compile(network, backend="aot_eager")):
        with foveate.capture(model) as seen:
            model(x)
        assert list(seen.maps) == sites


def test_captures_within_one_another_and_after_an_exception():
    model, x = pair(), torch.randn(2, 16, 4, 4)
    with foveate.capture(model) as outer, foveate.capture(model[0]) as inner:
        model(x)
    assert (list(outer.maps), list(inner.maps)) == (["0", "1"], [""])
    with pytest.raises(RuntimeError), foveate.capture(model):
        raise RuntimeError
    assert not _capture._active


def test_captures_of_several_threads_stay_apart():
    shapes = {}

    def run(count: int) -> None:
        model = foveate.create_attention("se", 16)
        with foveate.capture(model) as seen:
            for _ in range(20):
                model(torch.randn(count, 16, 2, 2))
        shapes[count] = tuple(seen.maps[""]["channel"].shape)

    threads = [threading.Thread(target=run, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == {count: (count, 16) for count in (1, 2, 3)}
    assert not _capture._active


def test_nothing_is_kept_outside_and_a_capture_keeps_no_model():
    model, x = pair(), torch.randn(2, 16, 4, 4)
    with foveate.capture(model) as seen:
        pass
    model(x)
    assert not seen.maps
    alive = weakref.ref(model[0])
    del model
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("name", ["drsn_cs", "drsn_cw", "sk", "se", "cbam", "nl"])
@pytest.mark.parametrize("training", [False, True])
def test_an_empty_batch_goes_through_and_changes_no_statistics(name, training):
    module = foveate.create_attention(name, 32).train(training)
    before = {k: v.clone() for k, v in module.named_buffers() if v.is_floating_point()}
    assert module(torch.zeros(0, 32, 5, 4)).shape == (0, 32, 5, 4)
    assert all(torch.equal(v, before[k]) for k, v in module.named_buffers() if k in before)


def test_what_is_no_tensor_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"se: wanted a map \(N, 16, H, W\); got a list"):
        foveate.create_attention("se", 16)([[1.0]])
