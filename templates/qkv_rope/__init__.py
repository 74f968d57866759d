"""Projections to query, key and value heads, with their norms and rotations."""
