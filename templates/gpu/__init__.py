"""What the templates for Mosaic GPU share. This folder is not a family and has no template."""
