"""The version of ropegen, where every layer can read it: an artifact records it, and a clone has no installed metadata."""

VERSION = "0.1.0"
