"""Attention, with the rotations of q and k inside if the plan says so."""
