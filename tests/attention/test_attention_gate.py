"""The attention gate against what its options say, written out."""

import pytest
import torch
import torch.nn.functional as F

import foveate

SOURCE = "ozan-oktay/Attention-Gated-Networks"
NORMALISED = {
    "concatenation_sigmoid": lambda flat: flat.sigmoid(),
    "concatenation_softmax": lambda flat: flat.softmax(1),
    "concatenation_mean": lambda flat: flat / flat.sum(1, keepdim=True),
    "concatenation_mean_flow": lambda flat: (
        (flat - flat.min(1, keepdim=True)[0]) / (flat - flat.min(1, keepdim=True)[0]).sum(1, keepdim=True)
    ),
    "concatenation_range_normalise": lambda flat: (
        (flat - flat.min(1, keepdim=True)[0]) / (flat.max(1, keepdim=True)[0] - flat.min(1, keepdim=True)[0])
    ),
}


def weights(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {key.replace("_", "."): torch.randn(shape, dtype=torch.float64) for key, shape in shapes.items()}


@pytest.mark.parametrize("mode", NORMALISED)
def test_the_sononet_block_normalises_as_its_mode_says(mode):
    state = weights(theta_weight=(4, 6, 1, 1), phi_weight=(4, 5, 1, 1), psi_weight=(1, 4, 1, 1), psi_bias=(1,))
    ctor = {"in_channels": 6, "gating_channels": 5, "inter_channels": 4, "mode": mode, "use_W": False}
    module = foveate.official.load(SOURCE, "GridAttentionBlock2D_TORR", ctor, state)
    x, g = torch.randn(2, 6, 7, 5, dtype=torch.float64), torch.randn(2, 5, 4, 3, dtype=torch.float64)
    y, alpha = module(x=x, g=g)
    phi = F.interpolate(F.conv2d(g, state["phi.weight"]), x.shape[2:], mode="bilinear")
    joint = F.relu(F.conv2d(x, state["theta.weight"]) + phi)
    logits = F.conv2d(joint, state["psi.weight"], state["psi.bias"])
    wanted = NORMALISED[mode](logits.flatten(1)).reshape(logits.shape)
    torch.testing.assert_close(alpha, wanted)
    torch.testing.assert_close(y, x * wanted)


@pytest.mark.parametrize("mode", ["concatenation", "concatenation_debug", "concatenation_residual"])
def test_the_grid_block_activates_and_normalises_as_its_mode_says(mode):
    state = weights(
        theta_weight=(3, 6, 2, 2, 2),
        phi_weight=(3, 5, 1, 1, 1),
        phi_bias=(3,),
        psi_weight=(1, 3, 1, 1, 1),
        psi_bias=(1,),
    ) | {"W.0.weight": torch.eye(6).reshape(6, 6, 1, 1, 1), "W.0.bias": torch.zeros(6)}
    state |= {"W.1.weight": torch.ones(6), "W.1.bias": torch.zeros(6)}
    state |= {"W.1.running_mean": torch.zeros(6), "W.1.running_var": torch.ones(6) - 1e-5}
    state = {key: value.double() for key, value in state.items()}
    ctor = {"in_channels": 6, "gating_channels": 5, "mode": mode}
    module = foveate.official.load(SOURCE, "GridAttentionBlock3D", ctor, state)
    x, g = torch.randn(2, 6, 5, 4, 6, dtype=torch.float64), torch.randn(2, 5, 2, 3, 3, dtype=torch.float64)
    y, alpha = module(x=x, g=g)
    theta = F.conv3d(x, state["theta.weight"], stride=2)
    phi = F.interpolate(F.conv3d(g, state["phi.weight"], state["phi.bias"]), theta.shape[2:], mode="trilinear")
    joint = F.softplus(theta + phi) if mode.endswith("debug") else F.relu(theta + phi)
    logits = F.conv3d(joint, state["psi.weight"], state["psi.bias"])
    gate = logits.flatten(1).softmax(1).reshape(logits.shape) if mode.endswith("residual") else logits.sigmoid()
    wanted = F.interpolate(gate, x.shape[2:], mode="trilinear")
    torch.testing.assert_close(alpha, wanted)
    torch.testing.assert_close(y, x * wanted)


def test_the_gates_of_the_ported_attention_unet_have_its_parameters():
    widths = (512, 256, 128, 64)
    gates = [
        foveate.create_attention("attention_gate", w, width=w // 2, sub_sample=1, norms=True, transform="none")
        for w in widths
    ]
    assert sum(p.numel() for gate in gates for p in gate.parameters()) == 34878573 - 34527041


def test_a_coarser_wider_gate_goes_with_any_map_and_the_map_is_returned_on_demand():
    gate = foveate.create_attention("attention_gate", 8, gate_channels=12, return_map=True)
    y, alpha = gate(g=torch.randn(2, 12, 3, 2), x=torch.randn(2, 8, 9, 7))
    assert y.shape == (2, 8, 9, 7)
    assert alpha.shape == (2, 1, 9, 7)


def test_a_flat_map_is_normalised_without_dividing_by_zero():
    for normalise in ("range", "shifted_sum"):
        gate = foveate.create_attention("attention_gate", 4, normalise=normalise, return_map=True).eval()
        _, alpha = gate(torch.ones(1, 4, 4, 4), torch.ones(1, 4, 4, 4))
        assert torch.equal(alpha, torch.zeros(1, 1, 4, 4))


def test_mistakes_say_what_would_do():
    gate = foveate.create_attention("attention_gate", 4, gate_channels=6)
    with pytest.raises(ValueError, match=r"attention_gate: g: wanted a map \(N, 6, H, W\); got shape \(2, 4, 4, 4\)"):
        gate(torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4))
    with pytest.raises(ValueError, match="wanted g in batches of x's 2; got 3"):
        gate(torch.randn(2, 4, 8, 8), torch.randn(3, 6, 4, 4))
    with pytest.raises(ValueError, match=r"at least sub_sample \(2, 2\); got \(1, 8\)"):
        gate(torch.randn(2, 4, 1, 8), torch.randn(2, 6, 1, 4))
    with pytest.raises(ValueError, match="sub_sample must be a whole number or 2 of them"):
        foveate.create_attention("attention_gate", 4, sub_sample=(2, 2, 2))
    with pytest.raises(ValueError, match="mode must be one of concatenation_sigmoid.*cannot run"):
        foveate.official.load(SOURCE, "GridAttentionBlock2D_TORR", {"in_channels": 4, "gating_channels": 4}, {})
