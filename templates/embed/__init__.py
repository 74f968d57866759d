"""Token rows from a table."""
