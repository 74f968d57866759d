"""What the templates for Mosaic TPU share. This folder is not a family and has no template."""
