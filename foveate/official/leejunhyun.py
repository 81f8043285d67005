"""The attention gate of LeeJunHyun/Image_Segmentation; call it by name, its own order is (g, x) and ours (x, g)."""

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

KEYS = {
    "W_g.0": "phi",
    "W_g.1": "phi_norm",
    "W_x.0": "theta",
    "W_x.1": "theta_norm",
    "psi.0": "psi",
    "psi.1": "psi_norm",
}


@official("LeeJunHyun/Image_Segmentation", "Attention_block")
def gate(F_g: int, F_l: int, F_int: int) -> tuple[nn.Module, dict[str, str]]:
    module = create_attention(
        "attention_gate", F_l, gate_channels=F_g, width=F_int, sub_sample=1, norms=True, transform="none"
    )
    return module, KEYS
