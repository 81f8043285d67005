"""Signals: recordings in files, cut into windows."""

from foveate.data.signals.kind import open_signals

__all__ = ["open_signals"]
