"""Official checkpoints and configurations → our modules and networks. One source, one file."""

from foveate.official._conversions import list_official, load, load_and_tell
from foveate.official._encoder_weights import StartedEncoder, start_encoder
from foveate.official._licences import licence_of

__all__ = ["StartedEncoder", "licence_of", "list_official", "load", "load_and_tell", "start_encoder"]
