"""Whole mechanisms in one call of C."""
