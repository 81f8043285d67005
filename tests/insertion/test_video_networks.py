"""Attention in networks of clips of other libraries: it sees frames, height and width, and leaves no trace."""

import pytest
import torch

import foveate
from foveate.networks import build_network

TINY = {
    "hf:videomae": {
        "num_frames": 4, "image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64,
    }
}  # fmt: skip
NETWORKS = {  # clip (T, H, W), blocks, stages; None: it has none of its own
    "hf:videomae": ((4, 32, 32), 4, None),
    "torchvision:r3d_18": ((4, 32, 32), 8, 4),
    "torchvision:mc3_18": ((4, 32, 32), 8, 4),
    "torchvision:r2plus1d_18": ((4, 32, 32), 8, 4),
    "torchvision:s3d": ((16, 224, 224), 20, None),
    "torchvision:mvit_v2_s": ((16, 224, 224), 29, None),
    "torchvision:swin3d_t": ((8, 64, 64), 24, 4),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "hf:videomae" else pytest.mark.slow) for name in NETWORKS]
)
def test_attention_of_clips_stands_in_networks_of_clips_and_leaves_no_trace(name):
    if name.startswith("hf:"):
        pytest.importorskip("transformers", reason="needs transformers: pip install 'foveate[peers]'")
    torch.manual_seed(0)
    size, blocks, stages = NETWORKS[name]
    network = build_network(name, num_classes=4, **TINY.get(name, {})).eval()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        wanted = network(x)
    keys = network.state_dict().keys()
    for at, count in (("block", blocks), ("stage", stages)):
        if count is None:
            continue
        assert all(len(site.shape) == 3 for site in foveate.sites(network, x, at))
        for attention in ("cbam_temporal", "nl") if blocks < 10 else ("temporal",):
            foveate.insert(network, attention, at=at, example=x, init="identity")
            assert len(foveate.inserted(network)) == count
            with torch.no_grad():
                torch.testing.assert_close(network(x), wanted, rtol=0, atol=1e-6)
            foveate.remove(network)
            assert network.state_dict().keys() == keys
    with torch.no_grad():
        assert torch.equal(network(x), wanted)
