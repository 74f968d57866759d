"""Artifacts (being written)."""


class Artifact: ...


def export(plans, directory) -> Artifact:
    raise NotImplementedError


def load(directory) -> Artifact:
    raise NotImplementedError
