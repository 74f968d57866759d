"""ropegen."""
