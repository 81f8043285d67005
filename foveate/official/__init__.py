"""Official checkpoints and configurations → our modules and networks. One source, one file."""

from foveate.official._conversions import list_official, load, load_and_tell
from foveate.official._encoder_weights import StartedEncoder, encoder_place, start_encoder
from foveate.official._licences import licence_of

__all__ = ["StartedEncoder", "encoder_place", "licence_of", "list_official", "load", "load_and_tell", "start_encoder"]
