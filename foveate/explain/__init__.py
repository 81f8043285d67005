"""What a network looks at, and numbers for it.

    found = foveate.explain(model, image)       # (H, W), 0 to 1: Grad-CAM of the best class
    found.about                                 # layer, target, softmax scores, and the network's own gates
    explain_batch(model, inputs, targets)       # maps of a batch
    list_layers(model, inputs)                  # layers with a map; find_layers: those taken where nobody names one
    own_maps(model, inputs)                     # {site: {"channel": (C,), "spatial": (H, W), "branch": …}}
    affinity_row(model, inputs, (y, x))         # {site: (h, w)}: what a point reads, y and x in shares of the image
    open_image(file)                            # upright RGB; refuses what is no image, or too many pixels
    overlay(picture, found), own_pictures(…)    # pictures (H, W, 3) uint8
    localise(maps, objects)                     # pointing game, energy inside, coverage, IoU of maps with masks
    deletion, insertion, road                   # the score while positions are taken away in a map's order
    gate_numbers(model, batches)                # entropy and sparsity of the network's gates over images
    gates_beside({name: model}, batches)        # the same beside an untrained and a label-shuffled network
    channel_profiles(model, batches, classes)   # mean channel gate by class and depth
    sanity_check(model, inputs)                 # do maps differ from those of the network with random weights?
    measure(model, batches, Explaining())       # all of it over a data set with masks or boxes

`image` is a tensor (C, H, W) as the network takes it, or a file for a network built by name; `inputs` is a batch of
them, or a list with images for a detector. `ALL_METHODS` are the names of the methods.

The package itself can be called: `foveate.explain(…)` is `foveate.explain.explain(…)`.
"""

import sys
from types import ModuleType

from foveate.explain.faithfulness import deletion, insertion, road
from foveate.explain.gates import ChannelProfile, GateNumbers, channel_profiles, gate_numbers, gates_beside
from foveate.explain.images import Opened, open_image
from foveate.explain.layers import Layer, find_layers, list_layers
from foveate.explain.localisation import by_chance, localise, mean_interval, object_masks
from foveate.explain.maps import ALL_METHODS, About, Map, Maps, as_inputs, explain, explain_batch
from foveate.explain.measure import Measured, measure
from foveate.explain.own import OwnMaps, affinity_row, own_maps
from foveate.explain.pictures import heat, overlay, own_pictures
from foveate.explain.sanity import Sanity, randomised, sanity_check
from foveate.explain.targets import Explained

__all__ = [
    "ALL_METHODS",
    "About",
    "ChannelProfile",
    "Explained",
    "GateNumbers",
    "Layer",
    "Map",
    "Maps",
    "Measured",
    "Opened",
    "OwnMaps",
    "Sanity",
    "affinity_row",
    "as_inputs",
    "by_chance",
    "channel_profiles",
    "deletion",
    "explain",
    "explain_batch",
    "find_layers",
    "gate_numbers",
    "gates_beside",
    "heat",
    "insertion",
    "list_layers",
    "localise",
    "mean_interval",
    "measure",
    "object_masks",
    "open_image",
    "overlay",
    "own_maps",
    "own_pictures",
    "randomised",
    "road",
    "sanity_check",
]


class _Callable(ModuleType):
    """The module type of this package, whose name in the contract is that of a function."""

    __call__ = staticmethod(explain)


sys.modules[__name__].__class__ = _Callable
