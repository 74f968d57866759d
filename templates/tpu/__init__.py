"""What the templates for Mosaic TPU share; no family, so it has no template of its own."""
