"""Embedding: rows of a table, by ids."""
