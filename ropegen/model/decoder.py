"""A whole decoder: the front-end of every layer by its plan, and the rest of the layer in plain JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ropegen import weights as checkpoints
from ropegen.arguments import array_of
from ropegen.emit.inputs import Room, expect_room
from ropegen.errors import RopegenError
from ropegen.model.layer import Layer, arrays
from ropegen.model.programs import PlannedHere, Program, Programs, Shape
from ropegen.model.rest import Rest
from ropegen.model.sampling import Choice, Sampling
from ropegen.model.weights import Weights
from ropegen.models.config import count
from ropegen.models.front_end import sees_the_past, supported
from ropegen.models.reading import mapping_from
from ropegen.target import Target
from ropegen.types import dtype_name, numpy_dtype

Array = jax.Array
Values = Mapping[str, Array]
# The most shapes whose programs a model keeps.
_MOST_SHAPES = 64


@functools.partial(jax.tree_util.register_dataclass, data_fields=("layers", "lengths"), meta_fields=())
@dataclass(frozen=True)
class Cache:
    """What the tokens so far leave to the next ones. A call that continues from it uses it up, and returns the next one.

    layers: for every layer its caches by label, as the graphs of `rg.from_hf` have them: `k_cache` and `v_cache` (B, C, key
      heads, width of a head), or for latent attention `latent_cache` (B, C, 1, kv_lora_rank + qk_rope_head_dim).
    lengths: (B,) int32, the tokens of each sequence.
    """

    layers: tuple[Values, ...]
    lengths: Array

    @property
    def capacity(self) -> int:
        """The most tokens of a sequence."""
        return next(iter(self.layers[0].values())).shape[1]


class Model:
    """A decoder-only language model that runs: `prefill` reads a prompt, `decode` and `generate` continue it.

    Every call compiles once for its shapes. Arrays of parameters are kept as they are given, and what a plan prepares from
    them, such as packed projections, is kept beside them.
    """

    def __init__(self, programs: Programs, weights: Weights) -> None:
        self.config = programs.config
        self.programs = programs
        self.dtype = programs.dtype
        """The element type of parameters and activations."""
        self._rest = Rest.of(programs.config, programs.facts)
        # A checkpoint reads its arrays anew and keeps none. So one layer at most is in memory twice.
        take = functools.partial(arrays, given_up=isinstance(weights, checkpoints.Checkpoint))
        self.layers = [
            Layer(index, take(weights.front_end(index, start="hidden" if index else "ids")), take(weights.block(index)))
            for index in range(self.config.count("num_hidden_layers"))
        ]
        self.head = take(weights.head(resolve_tied=False))
        for layer in self.layers:
            self._rest.expect(layer.block, self.head, layer.index)
        self._program = functools.lru_cache(_MOST_SHAPES)(self._make_program)
        self._prompt = functools.lru_cache(_MOST_SHAPES)(self._compile_prompt)
        self._steps = functools.lru_cache(_MOST_SHAPES)(self._compile_steps)
        self._loop = functools.lru_cache(_MOST_SHAPES)(self._compile_loop)

    @classmethod
    def from_hf(cls, config: object, weights: object, *, target: str | Target | None = None) -> Model:
        """The model that a Hugging Face config describes, with its weights.

        Args:
          config: as in `rg.from_hf`.
          weights: the parameters, from `rg.weights.open(config, source)`, or what that takes as its source: the path of a
            checkpoint, or a mapping of its tensors. `Arrays` are taken too. Layers are read one by one.
          target: what the plans are for; the default is this machine.

        Raises:
          RopegenError: a config that `rg.from_hf` refuses, or a source that `rg.weights.open` refuses; a model that is no
            decoder, or whose layers ropegen does not know beyond their front-ends; or parameters of other labels or shapes
            than the graphs have.
        """
        held = weights if isinstance(weights, Weights) else checkpoints.open(config, weights)
        stated = dict(mapping_from("Model", config))
        if isinstance(held, checkpoints.Checkpoint):  # which has undone what `quantization_config` says
            stated.pop("quantization_config", None)
        model, facts = supported("Model", stated)
        if not sees_the_past(model, facts):
            raise RopegenError(f"Model: {model.model_type} is an encoder and writes no tokens; give a decoder")
        chosen = target if isinstance(target, Target) else Target.parse("host" if target is None else target)
        dtype = dtype_name(held.front_end(0)["o_weight"].dtype)
        return cls(PlannedHere(model, facts, dtype, chosen), held)

    def __repr__(self) -> str:
        return f"<model {self.config.model_type} of {len(self.layers)} layers, {self.dtype}>"

    # Calls ------------------------------------------------------------------------------------------------------------

    def prefill(
        self, ids: Any, *, capacity: int | None = None, lengths: Any = None, every: bool = False
    ) -> tuple[Array, Cache]:
        """Reads prompts: (the scores of the next token, a cache to continue from).

        ids: integers (B, S). lengths: integers (B,), the tokens of each prompt; what follows them is padding.
        capacity: the most tokens of a sequence, prompt and answer; the default is the model's longest sequence.
        every: the scores after every token, (B, S, V), and not only after the last, (B, 1, V). They are float32, or
          float64 for a float64 model.

        Raises:
          RopegenError: ids that are no integers (B, S), or more tokens than the capacity.
        """
        tokens, known = self._tokens("prefill", ids), self._lengths("prefill", ids, lengths)
        scores, cache = self._read("prefill", tokens, known, capacity, every)
        return scores[:, : tokens.shape[1]], cache

    def decode(self, ids: Any, cache: Cache) -> tuple[Array, Cache]:
        """Continues every sequence by T tokens: ids (B, T) -> (scores (B, T, V) after every one of them, the next cache).

        The given cache is used up: its memory becomes that of the next.

        Raises:
          RopegenError: ids that are no integers (B, T), or no room for them in the cache.
        """
        tokens = self._tokens("decode", ids)
        batch, new = tokens.shape
        if cache.lengths.shape != (batch,):
            raise RopegenError(f"decode: ids are of {batch} sequences and the cache of {cache.lengths.shape[0]}")
        expect_room([Room("lengths", new, cache.capacity)], {"lengths": cache.lengths})
        program = self._program("decode", batch, new, cache.capacity)
        return self._steps(batch, new, cache.capacity)(self._parameters(program), tokens, cache)

    def generate(
        self,
        ids: Any,
        steps: int,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        key: Any = None,
        stop: int | None = None,
        lengths: Any = None,
        capacity: int | None = None,
    ) -> Array:
        """The next `steps` tokens of every prompt, in one compiled loop: ids (B, S) -> (B, steps) int32.

        temperature: None takes the most likely token. A number divides the scores by it, and draws a token.
        top_k: draws among that many of the most likely tokens.
        key: what the draws depend on, from `jax.random.key(seed)`.
        stop: the id that ends a sequence. The loop ends when every sequence has ended, and fills with this id.
        lengths: as in `prefill`. capacity: the rows of the cache; the default is S + steps.

        Raises:
          RopegenError: arguments that do not fit, such as a temperature without a key.
        """
        tokens, known = self._tokens("generate", ids), self._lengths("generate", ids, lengths)
        steps = count("generate: steps", steps)
        sampling = Sampling.of(temperature, top_k, key)
        rows = self._rows("generate", tokens, steps, capacity)
        scores, cache = self._read("generate", tokens, known, rows, False)
        batch, rows = tokens.shape[0], cache.capacity
        loop = self._loop(batch, steps, rows, sampling.choice, stop)
        tokens, _ = loop(self._parameters(self._program("decode", batch, 1, rows)), scores, cache, sampling.key)
        return tokens

    def stream(
        self,
        ids: Any,
        steps: int,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        key: Any = None,
        lengths: Any = None,
        capacity: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Like `generate`, one token after the other, (B,) int32 each, as soon as it is there."""
        tokens, known = self._tokens("stream", ids), self._lengths("stream", ids, lengths)
        steps = count("stream: steps", steps)
        sampling = Sampling.of(temperature, top_k, key)
        draw = jax.jit(sampling.choice.draw)
        rows = self._rows("stream", tokens, steps, capacity)
        scores, cache = self._read("stream", tokens, known, rows, False)
        random = sampling.key
        for step in range(steps):
            random, token = draw(random, scores[:, -1])
            yield np.asarray(token)
            if step + 1 < steps:
                scores, cache = self.decode(token[:, None], cache)

    def export(
        self,
        directory: str | PathLike[str],
        targets: str | Target | list[str | Target],
        *,
        prompt: int,
        capacity: int,
        batch: int = 1,
        tokenizer: str | PathLike[str] | None = None,
    ) -> None:
        """Writes a folder that runs without the code of the model; see `ropegen.model.exported`.

        targets: as in `rg.export`. prompt: the most tokens of a prompt. capacity: the most tokens of prompt and answer.
        batch: the sequences of a call. tokenizer: a tokenizer.json to put beside it.

        Raises:
          RopegenError: sizes that do not fit the model, or a folder that cannot be written or holds something else.
        """
        from ropegen.model import exported  # which builds a Model, and so imports this file

        exported.write(self, directory, targets, Shape(batch, prompt, capacity), tokenizer)

    @classmethod
    def load(cls, directory: str | PathLike[str]) -> Model:
        """The model in a folder that `export` wrote. Prompts may be shorter than the export's, and are padded.

        Raises:
          RopegenError: a file is missing, damaged or of another format, or holds something else.
        """
        from ropegen.model import exported

        return cls(*exported.read(directory))

    # Arguments --------------------------------------------------------------------------------------------------------

    def _tokens(self, call: str, ids: Any) -> Array:
        array = array_of(f"{call}: ids", ids)
        if array.ndim != 2 or not array.size or not jnp.issubdtype(array.dtype, jnp.integer):
            raise RopegenError(
                f"{call}: ids are {array.dtype.name}{list(array.shape)}; give integers (sequences, tokens), such as [[1, 2]]"
            )
        return array.astype(jnp.int32)

    def _lengths(self, call: str, ids: Any, lengths: Any) -> Array:
        batch, seq = np.shape(ids)
        if lengths is None:
            return jnp.full((batch,), seq, jnp.int32)
        known = np.asarray(lengths)
        if known.shape != (batch,) or not np.issubdtype(known.dtype, np.integer):
            raise RopegenError(f"{call}: lengths are {lengths!r:.60}; give {batch} whole numbers, one for each prompt")
        if known.min() < 1 or known.max() > seq:
            raise RopegenError(f"{call}: lengths are {known.tolist()}; a prompt has 1 to {seq} tokens")
        return jnp.asarray(known, jnp.int32)

    def _rows(self, call: str, tokens: Array, steps: int, capacity: int | None) -> int:
        """The rows of a cache for a prompt and its answer."""
        needed = tokens.shape[1] + steps
        rows = needed if capacity is None else count(f"{call}: capacity", capacity)
        if needed > rows:
            raise RopegenError(f"{call}: {tokens.shape[1]} + {steps} tokens do not fit {rows} rows; give more capacity")
        return rows

    # Programs ---------------------------------------------------------------------------------------------------------

    def _read(self, call: str, tokens: Array, lengths: Array, capacity: int | None, every: bool) -> tuple[Array, Cache]:
        """Reads prompts, padded to the tokens that the program reads."""
        batch, seq = tokens.shape
        shape = self.programs.shape(call, batch, seq, capacity)
        padded = jnp.pad(tokens, ((0, 0), (0, shape.prompt - seq)))
        program = self._program("prefill", batch, shape.prompt, shape.capacity)
        run = self._prompt(batch, shape.prompt, shape.capacity, every)
        return run(self._parameters(program), padded, lengths)

    def _make_program(self, phase: str, batch: int, seq: int, capacity: int) -> Program:
        made = self.programs.program(phase, batch, seq, capacity)
        for layer, front_end in zip(self.layers, made.front_ends, strict=True):
            layer.expect(front_end.graph)
        return made

    def _parameters(self, program: Program) -> dict[str, Any]:
        """What a program reads: what its front-ends prepared, and the parameters as they are."""
        layers = [layer.read_by(made) for layer, made in zip(self.layers, program.front_ends, strict=True)]
        return {"layers": layers, "head": self.head, "embedding": self.layers[0].front_end["embedding"]}

    def _through(
        self, program: Program, parameters: Mapping[str, Any], inputs: Values, cache: Cache
    ) -> tuple[Array, tuple[Values, ...]]:
        """The layers: the last hidden state (B, S, E), and the caches with the new tokens."""
        hidden: Array | None = None
        cached: list[Values] = []
        for index, (made, read) in enumerate(zip(program.front_ends, parameters["layers"], strict=True)):
            given = {**read["front_end"], **inputs, **cache.layers[index]}
            given |= {} if hidden is None else {"hidden": hidden}
            results = made.run(read["prepared"], {label: given[label] for label in made.run_labels})
            residual = results["residual"] if hidden is None else hidden
            hidden = self._rest.layer(residual, results["out"], read["block"])
            cached.append({label: results[label] for label in cache.layers[index]})
        assert hidden is not None  # a model has at least one layer
        return hidden, tuple(cached)

    def _compile_prompt(self, batch: int, seq: int, capacity: int, every: bool) -> Callable[..., tuple[Array, Cache]]:
        program = self._program("prefill", batch, seq, capacity)
        kinds = [
            {label: made.graph.input_types[label] for label in made.graph.labels("state")}
            for made in program.front_ends
        ]

        def prompt(parameters: Mapping[str, Any], ids: Array, lengths: Array) -> tuple[Array, Cache]:
            empty = tuple(
                {label: jnp.zeros(kind.shape, numpy_dtype(kind.dtype)) for label, kind in layer.items()}
                for layer in kinds
            )
            hidden, cached = self._through(program, parameters, {"ids": ids}, Cache(empty, lengths))
            if not every:
                hidden = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)
            scores = self._rest.logits(hidden, parameters["head"], parameters["embedding"])
            return scores, Cache(cached, lengths)

        return jax.jit(prompt)

    def _step(self, program: Program, parameters: Mapping[str, Any], ids: Array, cache: Cache) -> tuple[Array, Cache]:
        positions = cache.lengths[:, None] + jnp.arange(ids.shape[1], dtype=jnp.int32)
        inputs = {"ids": ids, "positions": positions, "lengths": cache.lengths}
        hidden, cached = self._through(program, parameters, inputs, cache)
        scores = self._rest.logits(hidden, parameters["head"], parameters["embedding"])
        return scores, Cache(cached, cache.lengths + ids.shape[1])

    def _compile_steps(self, batch: int, new: int, capacity: int) -> Callable[..., tuple[Array, Cache]]:
        program = self._program("decode", batch, new, capacity)
        return jax.jit(functools.partial(self._step, program), donate_argnames=("cache",))

    def _compile_loop(
        self, batch: int, steps: int, capacity: int, choice: Choice, stop: int | None
    ) -> Callable[..., tuple[Array, Cache]]:
        program = self._program("decode", batch, 1, capacity)

        def generated(parameters: Mapping[str, Any], scores: Array, cache: Cache, key: Array) -> tuple[Array, Cache]:
            def chosen(step: Array, scores: Array, ended: Array, key: Array, tokens: Array) -> tuple[Array, ...]:
                key, token = choice.draw(key, scores[:, -1])
                if stop is not None:
                    token = jnp.where(ended, stop, token)
                    ended = ended | (token == stop)
                return step + 1, token, ended, key, tokens.at[:, step].set(token)

            def unfinished(state: tuple[Any, ...]) -> Array:
                step, _, ended, *_ = state
                return (step < steps) & ~jnp.all(ended)

            def following(state: tuple[Any, ...]) -> tuple[Any, ...]:
                step, token, ended, key, tokens, cache = state
                scores, cache = self._step(program, parameters, token[:, None], cache)
                return *chosen(step, scores, ended, key, tokens), cache

            filled = jnp.full((batch, steps), 0 if stop is None else stop, jnp.int32)
            first = chosen(jnp.zeros((), jnp.int32), scores, jnp.zeros((batch,), bool), key, filled)
            *_, tokens, cache = lax.while_loop(unfinished, following, (*first, cache))
            return tokens, cache  # which takes the memory of the given cache

        return jax.jit(generated, donate_argnames=("cache",))
