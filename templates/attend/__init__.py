"""Attention, with rotation inside where the plan says so."""
