"""The front-end of multi-head latent attention (MLA; DeepSeek-V2, 2024, section 2.1), as DeepSeek V2 and V3 have it.

Keys and values of all heads follow from one latent vector of a token, `kv_lora_rank` features wide. Positions are in
other features: a part of every query rotates, and so does one key that all heads share. Therefore a cache holds the latent
vector and the rotated key alone.

A prompt projects the latent vectors to the keys and values of every head. A step over a cache never does that. The
product of a query and a projected key is the product of the projected query and the latent vector, so a step projects the
query instead (the *absorbed* form, section 2.1.2), attends over the cache as over one head, and projects the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from ropegen.ir.graph import Node
from ropegen.models.layer_graph import LayerGraph
from ropegen.models.rope_parameters import score_magnitude

LATENT_EPSILON = 1e-6
"""The epsilon of the norms of latent vectors. The code takes the default of its norm, whatever `rms_norm_eps` says."""


@dataclass(frozen=True, slots=True)
class LatentGraph(LayerGraph):
    """The front-end of one layer with latent attention.

    Its parameters, in place of those of q, k and v: `q_a_weight`, `q_a_bias` and `q_a_norm`, if queries have a latent
    vector too; `q_nope_weight` and `q_rope_weight`, the columns of the part of a query that does not rotate and of the part
    that does; `kv_a_weight`, `kv_a_bias` and `kv_a_norm`, the latent vector of keys and values; `k_rope_weight` and
    `k_rope_bias`, the rotated key; `k_nope_weight` and `v_weight`, from the latent vector to all heads.
    """

    def _attention(self, x: Node) -> tuple[Node, dict[str, Node]]:
        b, heads = self.b, self.model.count("num_attention_heads")
        rank, nope, value = (self.model.count(name) for name in ("kv_lora_rank", "qk_nope_head_dim", "v_head_dim"))
        key_heads = self.model.value("num_key_value_heads")
        self.model.expect(
            key_heads in (None, heads),
            f"num_key_value_heads is {key_heads!r}, and latent attention has keys for each of its {heads} heads; give {heads}",
        )
        q_nope, q_rope = self._queries(x, heads, nope)
        latent = self._latent(x, "kv_a", rank)
        k_rope = self._rotated(self._project(x, "k_rope", self._rope_width, self.facts.qkv_bias), 1)
        k_weight = self._parameter("k_nope_weight", rank, heads * nope)
        v_weight = self._parameter("v_weight", rank, heads * value)
        cached: dict[str, Node] = {}
        if self.capacity is not None:
            row = b.join_features(b.split_heads(latent, 1), k_rope)
            cached = self._cached({"latent_cache": row}, self.capacity)
        if self.decode:
            # (heads, nope, rank) and (heads, rank, value)
            to_latent = b.transpose(b.split_heads(k_weight, heads), (1, 2, 0))
            from_latent = b.transpose(b.split_heads(v_weight, heads), (1, 0, 2))
            rows = cached["latent_cache"]
            q = b.join_features(b.project_heads(q_nope, to_latent), q_rope)
            # The rows serve as the values too. A part of them would be a copy of the cache, so the result is cut instead.
            attended = b.features(self._attended(q, rows, rows), rank)
            return b.merge_heads(b.project_heads(attended, from_latent)), cached
        k = b.join_features(b.split_heads(b.project(latent, k_weight), heads), k_rope)
        v = b.split_heads(b.project(latent, v_weight), heads)
        return b.merge_heads(self._attended(b.join_features(q_nope, q_rope), k, v)), cached

    @property
    def _rope_width(self) -> int:
        """The width of the part of a head that rotates."""
        return self.model.count("qk_rope_head_dim")

    def _queries(self, x: Node, heads: int, nope: int) -> tuple[Node, Node]:
        """The part of every query that does not rotate, and the part that does."""
        if self.model.value("q_lora_rank") is not None:
            x = self._latent(x, "q_a", self.model.count("q_lora_rank"))
        still = self.b.split_heads(self._project(x, "q_nope", heads * nope, False), heads)
        return still, self._rotated(self._project(x, "q_rope", heads * self._rope_width, False), heads)

    def _latent(self, x: Node, label: str, rank: int) -> Node:
        """A latent vector, with its norm."""
        projected = self._project(x, label, rank, self.facts.qkv_bias)
        return self._norm(projected, f"{label}_norm", epsilon=LATENT_EPSILON)

    def _rotated(self, x: Node, heads: int) -> Node:
        return self._turned(self.b.split_heads(x, heads))

    def _multiplier(self) -> float | None:
        """One over the square root of a query's width in a prompt, and YaRN's magnitude."""
        width = self.model.count("qk_nope_head_dim") + self._rope_width
        return width**-0.5 * score_magnitude(self.model)
