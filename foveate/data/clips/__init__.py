"""Clips: videos and folders of frames, the embedded moving digits."""

from foveate.data.clips.kind import open_clips
from foveate.data.clips.moving_digits import open_moving_digits

__all__ = ["open_clips", "open_moving_digits"]
