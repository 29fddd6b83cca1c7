"""An embedding of nodes: 1x1 convolution, batch normalisation, activation."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread
from kreid.layers.normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="kreid")
class NodeEmbedding(KreidLayer):
    """Embed every node of frames with the same weights: 1x1 convolution without bias, batch normalisation, activation.

    Masking: nodes of masked frames enter no statistic and no gradient, whatever they hold; their output is that of
    zeros. Passes masks on.

    Args:
        units: features of an embedded node.
        activation: name of the activation.
        scale_starts_at: start of the batch normalisation's scale.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: features of nodes.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.

    Input shape: `(batch, frames, ..., features)`, for instance frame maps; mask `(batch, frames)`.
    Output shape: `(batch, frames, ..., units)`.

    Raises:
        ValueError: for `units` below 1, or a mask of another shape.

    Example:

    >>> tuple(kreid.layers.NodeEmbedding(4)(np.ones((2, 3, 8, 4, 16), "float32")).shape)
    (2, 3, 8, 4, 4)

    Reference: "a 1x1 convolutional filter followed by Batch Normalization (BN) and ReLU", section 3.2 of Zhang et al.,
    Multi-Granularity Reference-Aided Attentive Feature Aggregation, 2020.
    """

    def __init__(self, units: Any, activation: str = "relu", scale_starts_at: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"An embedding has at least one feature. Received: units={units!r}")
        self.units = units
        self.activation = activation
        self.scale_starts_at = scale_starts_at
        self.act = keras.activations.get(activation)
        self.dense = keras.layers.Dense(
            units, use_bias=False, kernel_initializer="he_normal", dtype=self.dtype_policy, name="convolution"
        )
        self.bn = BatchNormalization(scale_starts_at, dtype=self.dtype_policy, name="bn")
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.dense.build((None, input_shape[-1]))
        self.bn.build((*input_shape[:-1], self.units))

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        x = inputs
        if mask is not None:
            mask = mask_of(x, mask)
            # Before the convolution too: the gradient of its kernel would contain the padding's values.
            x = ops.where(spread(mask, x), x, 0)
        embedded = self.dense(ops.reshape(x, (-1, x.shape[-1])))
        embedded = ops.reshape(embedded, (*ops.shape(x)[:-1], self.units))
        return self.act(self.bn(embedded, mask=mask, training=training))
