"""Attention over pairs of tokens, without a map of the pairs."""
