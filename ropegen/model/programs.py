"""What a model runs in one phase: the front-end of every layer, planned here or loaded from artifacts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax

from ropegen.emit import callable as emitted
from ropegen.emit.artifact import Artifact
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, Node
from ropegen.models.config import Config, count
from ropegen.models.family import FrontEnd
from ropegen.models.front_end import front_end_graph
from ropegen.planner import plan
from ropegen.plans import Plan
from ropegen.target import Target

Array = jax.Array
Values = Mapping[str, Array]


class Compiled(Protocol):
    """A front-end as two functions: `prepare` runs once over the parameters, and `run` in every call."""

    @property
    def graph(self) -> Graph:
        """The graph of the front-end."""
        ...

    @property
    def prepared(self) -> Mapping[str, Node | str]:
        """A key for every prepared value, by its name. Equal keys of one layer are equal values."""
        ...

    @property
    def prepare_labels(self) -> tuple[str, ...]:
        """The parameters that `prepare` reads."""
        ...

    @property
    def run_labels(self) -> tuple[str, ...]:
        """The inputs that `run` reads."""
        ...

    def prepare(self, values: Values, /) -> dict[str, Array]:
        """The prepared values by name, from the parameters of `prepare_labels`."""
        ...

    def run(self, prepared: Values, values: Values) -> dict[str, Array]:
        """The outputs of the graph by name, from the prepared values and the inputs of `run_labels`."""
        ...


class Planned:
    """A front-end by its plan."""

    def __init__(self, made: Plan) -> None:
        self.plan = made
        self.graph = made.source
        # A node says wholly how its value follows from the parameters, so two plans may share a value.
        self.prepared = emitted.prepared_names(made)
        self.prepare_labels = emitted.prepare_labels(made)
        self.run_labels = emitted.run_labels(made)
        self.prepare: Callable[[Values], dict[str, Array]] = jax.jit(functools.partial(emitted.prepare, made))

    def run(self, prepared: Values, values: Values) -> dict[str, Array]:
        return emitted.run(self.plan, prepared, values)


class Loaded:
    """A front-end by its artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.graph = artifact.graph
        stages = artifact.manifest.stages.by_name
        made = stages["prepare"].results if "prepare" in stages else ()
        self.prepared = {name: f"{artifact.directory} {name}" for name in made}
        self.prepare_labels = tuple(stages["prepare"].arguments) if made else ()
        self.run_labels = tuple(label for label in stages["module"].arguments if label not in self.prepared)

    def prepare(self, values: Values) -> dict[str, Array]:
        return self.artifact.prepared(values)

    def run(self, prepared: Values, values: Values) -> dict[str, Array]:
        return self.artifact.outputs(values, prepared)


@dataclass(frozen=True, eq=False)
class Program:
    """One phase of a model, for one shape. Layers of one kind share one front-end."""

    front_ends: Sequence[Compiled]
    """Of every layer."""

    @property
    def distinct(self) -> dict[Compiled, list[int]]:
        """Every front-end once, with the layers that it serves."""
        layers: dict[Compiled, list[int]] = {}
        for layer, made in enumerate(self.front_ends):
            layers.setdefault(made, []).append(layer)
        return layers


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a call: sequences, tokens of a prompt, rows of the cache."""

    batch: int
    prompt: int
    capacity: int


class Programs(Protocol):
    """Where a model's programs come from."""

    @property
    def config(self) -> Config:
        """What the model's config says."""
        ...

    @property
    def facts(self) -> FrontEnd:
        """What its family fixes about the front-end."""
        ...

    @property
    def dtype(self) -> str:
        """The element type of parameters and activations."""
        ...

    def shape(self, call: str, batch: int, prompt: int, capacity: int | None) -> Shape:
        """The sizes that a call runs with. `capacity` None asks for the default.

        Raises:
          RopegenError: there is no program for these sizes.
        """
        ...

    def program(self, phase: str, batch: int, seq: int, capacity: int) -> Program:
        """The front-ends of a phase."""
        ...


@dataclass(frozen=True)
class PlannedHere:
    """Programs that are planned when a call needs them."""

    config: Config
    facts: FrontEnd
    dtype: str
    target: Target

    def shape(self, call: str, batch: int, prompt: int, capacity: int | None) -> Shape:
        if capacity is None:
            longest = self.config.optional("max_position_embeddings")
            if longest is None:
                raise self.config.refuse("it does not say how long a sequence may be", "give capacity=")
            capacity = count(self.config.where("max_position_embeddings"), longest)
        capacity = count(f"{call}: capacity", capacity)
        if prompt > capacity:
            raise RopegenError(f"{call}: {prompt} tokens do not fit a cache of {capacity} rows; give more capacity")
        return Shape(batch, prompt, capacity)

    def program(self, phase: str, batch: int, seq: int, capacity: int) -> Program:
        graphs = self.graphs(phase, batch, seq, capacity)
        # Layers of one kind have equal graphs but for the name, which says the layer.
        kinds = {(graph.inputs, graph.outputs): graph for graph in reversed(graphs)}
        made = {kind: Planned(plan(graph, self.target)) for kind, graph in kinds.items()}
        return Program([made[graph.inputs, graph.outputs] for graph in graphs])

    def graphs(self, phase: str, batch: int, seq: int, capacity: int) -> list[Graph]:
        """The graph of every layer: the first from ids on, the others from a hidden state."""
        return [
            front_end_graph(
                self.config,
                self.facts,
                batch=batch,
                seq=seq,
                dtype=self.dtype,
                phase=phase,
                layer=layer,
                start="hidden" if layer else "ids",
                residual=layer == 0,
                capacity=capacity,
            )
            for layer in range(self.config.count("num_hidden_layers"))
        ]
