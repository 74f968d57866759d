"""The intermediate representation: what is to be computed, never how."""
