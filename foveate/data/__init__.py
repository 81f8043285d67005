"""Data: the embedded set, and readers of the formats that users have. Nothing is downloaded."""

from foveate.data.digits import scattered_digits
from foveate.data.embedded import make_embedded
from foveate.data.listing import Problem
from foveate.data.opening import check_folder, open_data
from foveate.data.splits import ImageData, Split

__all__ = ["ImageData", "Problem", "Split", "check_folder", "make_embedded", "open_data", "scattered_digits"]
