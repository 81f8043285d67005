"""Data: kinds of data sets, their readers, and what is done to a sample. Nothing is downloaded.

A kind is a function in its own file of this folder, or in a file of the user's, registered with `register_data`.
"""

from foveate.data.dataset import IGNORED, Batch, Dataset, Split, Target, register_data
from foveate.data.digits import scattered_digits
from foveate.data.embedded import make_embedded
from foveate.data.in_memory import InMemory, in_memory
from foveate.data.inspection import inspect_data
from foveate.data.open import open_data, open_images
from foveate.data.problems import Problem

__all__ = [
    "IGNORED",
    "Batch",
    "Dataset",
    "InMemory",
    "Problem",
    "Split",
    "Target",
    "in_memory",
    "inspect_data",
    "make_embedded",
    "open_data",
    "open_images",
    "register_data",
    "scattered_digits",
]
