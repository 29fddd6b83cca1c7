"""Importance of each frame by learned relations with the others."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.distances import safe_sqrt
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread
from kreid.layers.portable import identity

NORMALIZATIONS = ("unit", "none")
# Start of theta, times d_r, for vectors of length 1, which P makes about 1/64 of the values that suit a score near 1.
UNIT_GAIN = 64


@keras.saving.register_keras_serializable(package="kreid")
class InterFrameRelation(KreidLayer):
    """Score each frame of a tracklet by a relation network over its pairs with all other frames.

    The relation of two frames is `r_ij = P([f_i, f_j]) + P([f_j, f_i])`, P a multi-layer perceptron on the two
    concatenated vectors (equation 5); a frame's score is `v_i = 1/(L-1) sum_{j != i} relu(theta . r_ij)` (equation 6).

    P's first layer is linear in each half of `[f_i, f_j]`, so both halves are multiplied once per frame and added pair
    by pair: the pairs take `frames^2 x hidden` values instead of `frames^2 x 2C`.

    The frames' vectors are scaled to length 1 before P, and theta starts so that scores are near 1, like those of
    `IntraFrameAttention`. On pooled ImageNet features of norm 28 a step of SGD at 0.01 moves P's first layer by more
    than its own size: all ReLUs can die, and v is then 0 for every frame and stays 0.

    Masking: masked frames get 0 and enter no pair, whatever they hold; L counts the real frames. Passes the mask on. A
    single frame gets 0. The order of the frames does not matter.

    Args:
        relation_dim: d_r, length of a relation.
        hidden_dims: widths of P's layers before the relation.
        normalize: `"unit"` scales the vectors that enter P to length 1, `"none"` passes them as equation 5 prints it,
            which needs vectors of norm near 1, or a low learning rate.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames)`, float32, at least 0.

    Raises:
        ValueError: for a width that is not positive, or inputs or a mask of another shape.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 4, 16), "float32")
    >>> tuple(kreid.layers.InterFrameRelation(relation_dim=8, hidden_dims=(12,))(frames).shape)
    (2, 4)

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equations 5 and 6, figure 3. The paper gives neither widths nor activations: kreid takes one hidden
    layer of 256 and relations of 128, every layer of P with ReLU. Theta starts positive, at 64/d_r (1/d_r for
    `"none"`): the pairs of a tracklet are nearly equal, so with random signs half of all starts would be 0 for every
    pair, without a gradient. As weights are divided by their sum, gradients grow with 1/v: scores near 0.01, as
    1/d_r gives for vectors of length 1, can die too.
    """

    def __init__(
        self,
        relation_dim: int = 128,
        hidden_dims: Sequence[int] = (256,),
        normalize: str = "unit",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        widths = (*hidden_dims, relation_dim)
        if not all(isinstance(width, int) and width > 0 for width in widths):
            raise ValueError(
                f"Widths of layers are positive integers. "
                f"Received: relation_dim={relation_dim!r}, hidden_dims={hidden_dims!r}"
            )
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"Choose one of {', '.join(NORMALIZATIONS)}. Received: normalize={normalize!r}")
        self.relation_dim = relation_dim
        self.normalize = normalize
        self.hidden_dims = tuple(hidden_dims)
        self.later = [
            keras.layers.Dense(width, "relu", dtype=self.dtype_policy, name=f"relation_{number}")
            for number, width in enumerate(widths[1:], 2)
        ]
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        width = (*self.hidden_dims, self.relation_dim)[0]
        self.kernel = self.add_weight(shape=(2 * input_shape[-1], width), name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        for layer in self.later:
            layer.build((None, None, None, width))
            width = layer.units
        gain = UNIT_GAIN if self.normalize == "unit" else 1
        start = keras.initializers.Constant(gain / self.relation_dim)
        self.theta = self.add_weight(shape=(self.relation_dim,), initializer=start, name="theta")

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = mask_of(inputs, mask)
        if self.uniform_attention:
            return ops.cast(mask, "float32")
        f = ops.where(spread(mask, inputs), inputs, 0)
        if self.normalize == "unit":
            f = ops.cast(ops.cast(f, "float32") / _length(f), self.compute_dtype)
        channels = inputs.shape[-1]
        first = ops.matmul(f, self.kernel[:channels]) + self.bias
        second = ops.matmul(f, self.kernel[channels:])
        relations = ops.relu(ops.expand_dims(first, 2) + ops.expand_dims(second, 1))
        for layer in self.later:
            relations = layer(relations)
        # P([f_j, f_i]) is P([f_i, f_j]) with i and j exchanged, and theta may go before the sum.
        scores = ops.cast(ops.matmul(relations, ops.expand_dims(self.theta, 1))[..., 0], "float32")
        scores = ops.relu(scores + ops.swapaxes(scores, 1, 2))
        others = ops.logical_not(identity(ops.shape(f)[1]))
        pairs = ops.logical_and(ops.logical_and(ops.expand_dims(mask, 2), ops.expand_dims(mask, 1)), others)
        length = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        return ops.sum(ops.where(pairs, scores, 0.0), axis=2) / ops.maximum(length - 1.0, 1.0)

    def compute_output_spec(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return keras.KerasTensor(inputs.shape[:2], dtype="float32")


def _length(vectors: Tensor) -> Tensor:
    """Return the length of each vector, float32, at least 1e-6: zeros stay zeros."""
    squares = ops.sum(ops.square(ops.cast(vectors, "float32")), axis=-1, keepdims=True)
    return ops.maximum(safe_sqrt(squares), 1e-6)
