"""The first weights that Jongchan/attention-module gives its networks, CBAM's and BAM's, by names of tensors."""

from torch import nn

from foveate.attention.cbam import SpatialGate


def start_as_released(network: nn.Module) -> None:
    """He normal (fan out) for what is called a convolution there, every bias 0, CBAM's spatial norm 0, fc He normal.

    Projections and the gates' linear layers keep torch's default: their names there say neither "conv" nor "bn".
    """
    for name, module in network.named_modules():
        parts = name.split(".")
        if isinstance(module, nn.Conv2d):
            if "downsample" in parts:
                module.reset_parameters()
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
        if isinstance(module, SpatialGate) and isinstance(module.norm, nn.BatchNorm2d):
            nn.init.zeros_(module.norm.weight)
        if name == "fc" and isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
