"""Whole networks by name: ours, and whatever timm, torchvision or a person's own file can build."""

from foveate.networks._build import (
    build_larger,
    build_network,
    build_wider,
    head_of,
    input_channels,
    read_own_file,
)
from foveate.networks._checkpoint import Weights, read_weights, tensors_by_name
from foveate.networks._deepen import chains_of_blocks
from foveate.networks._detectors import is_detector
from foveate.networks._example import check_shape, example_input, usual_classes, usual_shape
from foveate.networks._head import Head, build_without_memory, find_head
from foveate.networks._inflate import image_key, inflate
from foveate.networks._inner import InnerWidth, Widths, extra_layers, grew_by, inner_widths
from foveate.networks._narrow import is_narrowed, narrow_to
from foveate.networks._origin import Origin, note_origin, origin_of
from foveate.networks._pretrained import ReleasedFile, find_release, is_release, read_release, release_of, unloaded_tag
from foveate.networks._registry import NETWORKS, create_network, list_networks, register_network
from foveate.networks._residual import PadShortcut
from foveate.networks._weights import load_weights, weights_fingerprint
from foveate.networks._widen import widen_until

__all__ = [
    "NETWORKS",
    "Head",
    "InnerWidth",
    "Origin",
    "PadShortcut",
    "ReleasedFile",
    "Weights",
    "Widths",
    "build_larger",
    "build_network",
    "build_wider",
    "build_without_memory",
    "chains_of_blocks",
    "check_shape",
    "create_network",
    "example_input",
    "extra_layers",
    "find_head",
    "find_release",
    "grew_by",
    "head_of",
    "image_key",
    "inflate",
    "inner_widths",
    "input_channels",
    "is_detector",
    "is_narrowed",
    "is_release",
    "list_networks",
    "load_weights",
    "narrow_to",
    "note_origin",
    "origin_of",
    "read_own_file",
    "read_release",
    "read_weights",
    "register_network",
    "release_of",
    "tensors_by_name",
    "unloaded_tag",
    "usual_classes",
    "usual_shape",
    "weights_fingerprint",
    "widen_until",
]
