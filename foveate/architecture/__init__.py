"""A network as a figure shows it: its steps from input to output, its kinds of block, its attention marked.

Read from one watched forward pass, so that a drawing shows what runs; a network on the meta device will do.
"""

from foveate.architecture.describe import Architecture, Block, describe
from foveate.architecture.steps import Step

__all__ = ["Architecture", "Block", "Step", "describe"]
