"""The optimiser of a training and its groups of parameters: attention, decoder or classifier, the rest."""

from typing import Any

import torch
from torch import Tensor, nn

from foveate.insertion import parameter_groups
from foveate.networks import head_of, origin_of
from foveate.spec import Training

ENCODERS = ("encoder", "backbone")  # what networks with a decoder call what stands before it


def make_optimizer(model: nn.Module, spec: Training, attention_lr: float | None = None) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; weight decay on matrices and kernels only, not on norms and biases.

    Raises: ValueError: as `head_parameters`, if decoder or classifier have a rate of their own.
    """
    groups = parameter_groups(model, lr=spec.lr, attention_lr=attention_lr, weight_decay=spec.weight_decay)
    if spec.head_lr != 1:
        groups = _with_head(groups, head_parameters(model), spec.head_lr)
    for group in groups:
        del group["name"]
        group["highest_lr"] = group["lr"]
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=(spec.momentum, 0.999))
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


def head_parameters(model: nn.Module) -> list[Tensor]:
    """The parameters of the decoder, or of the classifier.

    In a network with an `encoder` or a `backbone` it is every module that was made after that one; in others it is what
    follows the number of classes.

    Raises: ValueError: if the network has neither.
    """
    children = dict(model.named_children())
    for name in ENCODERS:
        if name in children:
            after = list(children)[list(children).index(name) + 1 :]
            return [parameter for child in after for parameter in children[child].parameters()]
    origin = origin_of(model)
    names: Any = ()
    if origin is not None:
        made = {"num_classes": origin.num_classes, "in_channels": origin.in_channels, **origin.options}
        names = head_of(origin.name, **made).tensors
    if not names:
        raise ValueError("head_lr: wanted a network with an encoder, or one whose classifier is known; got neither")
    return [parameter for name, parameter in model.named_parameters() if name in names]


def _with_head(groups: list[dict[str, Any]], head: list[Tensor], factor: float) -> list[dict[str, Any]]:
    """The groups with those of the network's own parameters that are in the head apart."""
    known = {id(parameter) for parameter in head}
    found: list[dict[str, Any]] = []
    for group in groups:
        if not group["name"].startswith("base"):
            found.append(group)
            continue
        inside = [parameter for parameter in group["params"] if id(parameter) in known]
        rest = [parameter for parameter in group["params"] if id(parameter) not in known]
        found += [{**group, "params": rest}] if rest else []
        found += [{**group, "params": inside, "lr": factor * group["lr"]}] if inside else []
    return found
