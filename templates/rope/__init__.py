"""Rotary embedding by itself: heads rotated by angles that are given."""
