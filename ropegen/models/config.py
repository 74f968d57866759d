"""`Config`: the mapping in a config.json together with its family. Every field is read, and refused, here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ropegen.errors import RopegenError
from ropegen.models.block import Block
from ropegen.models.family import Family
from ropegen.scaling import finite, whole


@dataclass(frozen=True, slots=True)
class Config:
    """A config and the family that it belongs to.

    Every reading method raises a RopegenError that names the model type and the field where the field is missing and
    has no default, holds a value of another type, or stands under two of its names with two values.
    """

    model_type: str
    family: Family
    given: Mapping[str, object]
    around: Mapping[str, object] = field(default_factory=dict[str, object])
    """The other fields of a config that holds several models, for the config of its text model."""
    around_known: frozenset[str] = frozenset()
    """Those of `around` that its own family lists."""

    @property
    def defaults(self) -> Mapping[str, object]:
        """What the config class fills in. A `text_config` may leave out even the sizes."""
        return {**self.family.sparse, **self.family.defaults} if self.around else self.family.defaults

    @property
    def block(self) -> Block | None:
        """The rest of a layer and the head; None where ropegen runs only the front-end."""
        stated = self.family.block
        return stated if stated is None or isinstance(stated, Block) else stated(self)

    def is_tied(self, default: bool) -> bool:
        """Whether the embedding is the weight of the head. The config around a text model has the say, then its own."""
        said = self.around.get("tie_word_embeddings", self.given.get("tie_word_embeddings", default))
        if not isinstance(said, bool):
            raise self.refuse(f"tie_word_embeddings is {said!r}", "it must be true or false")
        return said

    def value(self, name: str) -> object:
        """The field, under any of its names; the family's default where the config leaves it out."""
        stated = self._stated(name)
        if stated:
            return self.given[stated[0]]
        if name in self.defaults:
            return self.defaults[name]
        names = " or ".join((*self.family.spellings.get(name, ()), name))
        raise self.refuse(f"{names} is missing", "take it from the published config")

    def optional(self, name: str) -> object:
        """The field as `value` reads it, or None where it is missing and has no default."""
        return self.value(name) if self._stated(name) or name in self.defaults else None

    def count(self, name: str, least: int = 1) -> int:
        """The field as a whole number of at least `least`."""
        return count(self.where(name), self.value(name), least)

    def number(self, name: str) -> float:
        """The field as a finite number."""
        return finite(self.where(name), self.value(name))

    def positive(self, name: str) -> float | None:
        """The field as a positive number; None where it is null, or where `name` is empty."""
        if not name or self.value(name) is None:
            return None
        if (number := self.number(name)) <= 0:
            raise self.refuse(f"{name} is {number:g}", "it must be positive")
        return number

    def flag(self, name: bool | str) -> bool:
        """The field as true or false. A fact that the family fixes is returned unchanged."""
        value = self.value(name) if isinstance(name, str) else name
        if not isinstance(value, bool):
            raise self.refuse(f"{name} is {value!r}", "it must be true or false")
        return value

    def sides(self, name: str) -> tuple[int, int]:
        """The field as height and width. The config gives two numbers, or one number for both."""
        value = self.value(name)
        pair = cast("list[object]", value) if isinstance(value, list | tuple) else [value, value]
        if len(pair) != 2:
            raise self.refuse(f"{name} is {value!r}", "give one number, or height and width")
        return count(self.where(name), pair[0]), count(self.where(name), pair[1])

    def head_width(self) -> int:
        """The features of a head: `head_dim` where the family reads it and the config states it, else an equal share."""
        if "head_dim" in self.defaults and self.value("head_dim") is not None:
            return self.count("head_dim")
        heads, features = self.count("num_attention_heads"), self.count("hidden_size")
        if features % heads:
            raise self.refuse(f"hidden_size {features} is not a multiple of {heads} heads", "state head_dim")
        return features // heads

    def where(self, name: str) -> str:
        """The words that name a field in a message."""
        return f"{self.model_type} config: {name}"

    def refuse(self, problem: str, way_out: str) -> RopegenError:
        """The error for a field that ropegen cannot use."""
        return RopegenError(f"{self.model_type} config: {problem}; {way_out}")

    def expect(self, holds: bool, message: str) -> None:
        """RopegenError with `message` about this config unless `holds`."""
        if not holds:
            raise RopegenError(f"{self.model_type} config: {message}")

    def _stated(self, name: str) -> list[str]:
        """The names of the field under which the config states it."""
        stated = [spelling for spelling in (name, *self.family.spellings.get(name, ())) if spelling in self.given]
        values = [self.given[spelling] for spelling in stated]
        if any(value != values[0] for value in values):
            raise self.refuse(f"{' and '.join(stated)} are one field and differ: {values}", "keep one of them")
        return stated


def count(where: str, value: object, least: int = 1) -> int:
    """`value` as a whole number of at least `least`; `where` names it in the error."""
    number = whole(where, value)
    if number < least:
        raise RopegenError(f"{where} must be at least {least}, got {number}")
    return number
