"""Measured tiles, one file a chip."""
