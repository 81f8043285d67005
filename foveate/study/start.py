"""What the networks of a study start from: fresh weights, a file, or what their library publishes for them."""

from dataclasses import dataclass

from foveate.networks import find_release, is_release, weights_fingerprint
from foveate.spec import PRETRAINED, Study


@dataclass(frozen=True)
class Start:
    """The file of weights.

    Attributes:
        path: None: the weights are fresh.
        fingerprint: of the file.
        pretrained: is it a release of the network's library?
        text: the weights in words, with the file's hash.
    """

    path: str | None = None
    fingerprint: str = ""
    pretrained: bool = False
    text: str = ""


def find_start(study: Study, network: str) -> Start:
    """The weights that a network of the study starts from.

    Raises: LookupError, ValueError: as `networks.find_release`, or the file cannot be read.
    """
    if study.weights is None:
        return Start()
    if is_release(study.weights):
        found = find_release(network, None if study.weights == PRETRAINED else study.weights)
        return Start(str(found.path), found.fingerprint, True, f"pretrained weights, {found}")
    fingerprint = weights_fingerprint(study.weights)
    return Start(study.weights, fingerprint, False, f"the weights in {study.weights} ({fingerprint})")
