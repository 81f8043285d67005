"""Images in which every pixel has its class: where the masks lie, what their values stand for, batches, checks."""

from foveate.data.masks.kind import open_masks

__all__ = ["open_masks"]
