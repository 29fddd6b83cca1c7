"""Relation-aware global attention on frame maps."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread
from kreid.layers.node_embedding import NodeEmbedding


@keras.saving.register_keras_serializable(package="kreid")
class RelationAwareAttention(KreidLayer):
    """Weight each frame's map by position, then by channel, from the relations among all of them (RGA-SC).

    For positions, a node is a position with its C values; for channels, a channel with its h w values. A node's
    relations are its products with all nodes of the frame in embedding spaces, in both directions. A two-layer network
    computes the node's weight from the mean of the embedded node and its embedded relations.

    Masking: frames interact in the batch-norm statistics only, which masked frames do not enter; masked frames become
    zeros, whatever they hold. Passes masks on.

    Args:
        reduction: s1, the factor by which embeddings are narrower than their inputs.
        hidden_reduction: s2, the same for the hidden layer of the network.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.
        return_attention: also return both kinds of weights.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: that of the inputs; attention: a dict of `maps` `(batch, frames, h, w)` and `channels` `(batch,
        frames, C)`, both float32, between 0 and 1.

    Raises:
        ValueError: for inputs of another rank or of unknown size, or a reduction below 1.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 4, 8, 4, 32), "float32")
    >>> weighted, attention = kreid.layers.RelationAwareAttention()(maps, return_attention=True)
    >>> tuple(weighted.shape), tuple(attention["channels"].shape), tuple(attention["maps"].shape)
    ((2, 4, 8, 4, 32), (2, 4, 32), (2, 4, 8, 4))

    Reference: Zhang et al., Relation-Aware Global Attention for Person Re-identification, 2020, equations 1 to 3 and
    section 3.2, RGA-S before RGA-C, s1 = s2 = 8; rows "RGA-SC" in Table 5 of Zhang et al., MG-RAFA, 2020. Each
    convolution is followed by batch normalisation; embeddings have at least one feature.
    """

    def __init__(self, reduction: int = 8, hidden_reduction: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("reduction", reduction), ("hidden_reduction", hidden_reduction)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"A reduction is a positive integer. Received: {name}={value!r}")
        self.reduction = reduction
        self.hidden_reduction = hidden_reduction
        self.positions, self.channels = (
            _RelationWeights(reduction, hidden_reduction, dtype=self.dtype_policy, name=name)
            for name in ("positions", "channels")
        )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5 or None in input_shape[2:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        *leading, height, width, channels = input_shape
        self.positions.build((*leading, height * width, channels))
        self.channels.build((*leading, channels, height * width))

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        mask = mask_of(inputs, mask)
        x = ops.where(spread(mask, inputs), inputs, 0)
        _, _, height, width, channels = inputs.shape
        leading = ops.shape(inputs)[:2]
        nodes = ops.reshape(x, (*leading, height * width, channels))
        by_position = self.positions(nodes, mask=mask, training=training)
        by_position = ops.ones_like(by_position) if self.uniform_attention else by_position
        nodes = nodes * ops.expand_dims(by_position, -1)
        by_channel = self.channels(ops.transpose(nodes, (0, 1, 3, 2)), mask=mask, training=training)
        by_channel = ops.ones_like(by_channel) if self.uniform_attention else by_channel
        output = ops.reshape(nodes * ops.expand_dims(by_channel, 2), ops.shape(inputs))
        if not return_attention:
            return output
        maps = ops.reshape(ops.cast(by_position, "float32"), (*leading, height, width))
        return output, {"maps": maps, "channels": ops.cast(by_channel, "float32")}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {"maps": input_shape[:4], "channels": (*input_shape[:2], input_shape[-1])}


class _RelationWeights(keras.layers.Layer):
    """One weight per node, `(batch, frames, nodes)`, from nodes `(batch, frames, nodes, features)`."""

    def __init__(self, reduction: int, hidden_reduction: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.reduction = reduction
        self.hidden_reduction = hidden_reduction

    def build(self, input_shape: Shape) -> None:
        *leading, nodes, features = input_shape
        narrow = max(1, features // self.reduction)
        relations = max(1, nodes // self.reduction)
        hidden = max(1, (1 + relations) // self.hidden_reduction)
        for name, given, units, activation, dtype in (
            ("theta", features, narrow, "relu", None),
            ("phi", features, narrow, "relu", None),
            ("own", features, narrow, "relu", None),
            # Correlations are long sums, not normalised before this: they may overflow float16.
            ("related", 2 * nodes, relations, "relu", "float32"),
            ("hidden", 1 + relations, hidden, "relu", None),
            ("weight", hidden, 1, "sigmoid", None),
        ):
            embedding = NodeEmbedding(units, activation, dtype=dtype or self.dtype_policy, name=name)
            embedding.build((*leading, nodes, given))
            setattr(self, name, embedding)

    def call(self, nodes: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        context = {"mask": mask, "training": training}
        theta, phi = (ops.cast(layer(nodes, **context), "float32") for layer in (self.theta, self.phi))
        relations = ops.matmul(theta, ops.transpose(phi, (0, 1, 3, 2)))
        both_ways = ops.concatenate([relations, ops.transpose(relations, (0, 1, 3, 2))], axis=-1)
        related = ops.cast(self.related(both_ways, **context), self.compute_dtype)
        own = ops.mean(self.own(nodes, **context), axis=-1, keepdims=True)
        both = ops.concatenate([own, related], axis=-1)
        return self.weight(self.hidden(both, **context), **context)[..., 0]
