"""An embedding of nodes: 1x1 convolution, batch normalisation, activation."""

import keras
from keras import ops

from kreid.layers.masked_batch_normalization import MaskedBatchNormalization
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class NodeEmbedding(keras.layers.Layer):
    """Embeds every node of frames alike: a 1x1 convolution without bias, batch normalisation, an activation.

    Masking: the nodes of masked frames reach no statistic and no gradient, whatever they hold, and come out as zeros
    do. Passes masks on.

    Args:
        units: features of an embedded node.
        activation: name of the activation.
        scale_starts_at: of the batch normalisation's gamma.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: features of nodes.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.

    Input shape: `(batch, frames, ..., features)`, for instance frame maps; mask `(batch, frames)`.
    Output shape: `(batch, frames, ..., units)`.

    Raises:
        ValueError: for `units` below 1.

    Example:

    >>> tuple(kreid.layers.NodeEmbedding(4)(np.ones((2, 3, 8, 4, 16), "float32")).shape)
    (2, 3, 8, 4, 4)

    Reference: "a 1x1 convolutional filter followed by Batch Normalization (BN) and ReLU", section 3.2 of Zhang et al.,
    Multi-Granularity Reference-Aided Attentive Feature Aggregation, 2020.
    """

    def __init__(self, units, activation="relu", scale_starts_at=1.0, **kwargs):
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
        self.bn = MaskedBatchNormalization(scale_starts_at=scale_starts_at, dtype=self.dtype_policy, name="bn")
        self.supports_masking = True

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))
        self.bn.build((*input_shape[:-1], self.units))

    def call(self, inputs, mask=None, training=None):
        x = inputs
        if mask is not None:
            # Not in the normalisation alone: the kernel's gradient would read what padding holds.
            x = ops.where(spread(mask_of(x, mask), x), x, 0)
        embedded = self.dense(ops.reshape(x, (-1, x.shape[-1])))
        embedded = ops.reshape(embedded, (*ops.shape(x)[:-1], self.units))
        return self.act(self.bn(embedded, mask=mask, training=training))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        config = super().get_config()
        config.update(units=self.units, activation=self.activation, scale_starts_at=self.scale_starts_at)
        return config
