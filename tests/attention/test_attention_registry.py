"""Names: registering, listing, mistakes."""

import pytest
import torch

import foveate
from foveate.attention import _registry


@pytest.fixture
def own_names(monkeypatch):
    monkeypatch.setattr(_registry.ATTENTION, "_entries", dict(_registry.ATTENTION._entries))
    monkeypatch.setattr(_registry, "_FACTS", dict(_registry._FACTS))


def test_names_are_listed_by_glob():
    assert {"se", "eca", "cbam"} <= set(foveate.list_attention())
    assert foveate.list_attention("cba?") == ["cbam"]


def test_a_typing_mistake_names_the_nearest():
    with pytest.raises(LookupError, match="did you mean 'cbam'"):
        foveate.create_attention("cbma", 16)
    with pytest.raises(TypeError, match="did you mean 'kernel_size'"):
        foveate.create_attention("eca", 16, kernal_size=5)


def test_sizes_that_cannot_be_are_refused_with_what_would_do():
    with pytest.raises(ValueError, match=r"8 // 16 = 0 \(reduction=4 would do\)"):
        foveate.create_attention("se", 8)
    with pytest.raises(ValueError, match="positive odd number; got 4"):
        foveate.create_attention("eca", 16, kernel_size=4)
    with pytest.raises(ValueError, match="leave nothing"):
        foveate.create_attention("cbam", 16, channel=False, spatial=False)
    with pytest.raises(ValueError, match="spatial_dims must be 1 or 2 or 3; got 4"):
        foveate.create_attention("se", 16, spatial_dims=4)


def test_a_users_own_class_is_usable_by_name(own_names):
    @foveate.register_attention("mine")
    class Mine(torch.nn.Module):
        def __init__(self, channels, *, power=2.0):
            super().__init__()
            self.power = power

        def forward(self, x):
            return x * x.sigmoid() ** self.power

    assert "mine" in foveate.list_attention()
    assert foveate.create_attention("mine", 4, power=3.0).power == 3.0
    with pytest.raises(TypeError, match="did you mean 'power'"):
        foveate.create_attention("mine", 4, pwer=3.0)
    with pytest.raises(ValueError, match="2-D maps only"):
        foveate.create_attention("mine", 4, spatial_dims=3)


def test_a_taken_name_and_a_swallowing_constructor_are_refused(own_names):
    class Other(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()

    with pytest.raises(ValueError, match="'se' is taken"):
        foveate.register_attention("se")(Other)

    class Swallows(torch.nn.Module):
        def __init__(self, channels, **options):
            super().__init__()

    with pytest.raises(TypeError, match="swallow"):
        foveate.register_attention("swallows")(Swallows)
