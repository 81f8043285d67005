"""Official checkpoints and configurations → our modules and networks. One source, one file."""

from foveate.official._licences import licence_of
from foveate.official._recipes import list_official, load

__all__ = ["licence_of", "list_official", "load"]
