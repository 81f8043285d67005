"""Gating a map: factors for channels and positions, and the gates of single papers."""
