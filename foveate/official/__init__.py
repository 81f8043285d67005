"""Official checkpoints and configurations → our modules and networks. One source, one file."""

from foveate.official._conversions import list_official, load, load_and_tell
from foveate.official._licences import licence_of

__all__ = ["licence_of", "list_official", "load", "load_and_tell"]
