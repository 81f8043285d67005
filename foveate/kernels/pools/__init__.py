"""Pooling a map: over its positions, over its channels, or by attention weights."""
