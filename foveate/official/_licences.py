"""The licences that the sources' own files state, for the card of a converted checkpoint."""

LICENCES = {
    "BangguWu/ECANet": "MIT",
    "Cadene/pretrained-models.pytorch": "BSD-3-Clause",
    "Jongchan/attention-module": "MIT",
    "akamaster/pytorch_resnet_cifar10": "BSD-2-Clause",
    "google-coral/test_data": "Apache-2.0",
    "megvii-model/ShuffleNet-Series": "MIT",
    "moskomule/senet.pytorch": "MIT",
    "pytorch/vision": "BSD-3-Clause",
    "songhan/SqueezeNet-Deep-Compression": "BSD-2-Clause",
}


def licence_of(source: str) -> str:
    """The licence that the repository states for itself, in words; of its weights it is the best that is known."""
    known = LICENCES.get(source)
    return f"{known}, as the repository states" if known else "not known here; the repository's authors have it"
