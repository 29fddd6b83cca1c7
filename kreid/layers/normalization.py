"""Batch normalisation over the real frames only."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.layers.masking import spread


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation with a mask over frames: `(batch, frames)`, with any axes before the features.

    The masked values must be finite, so set them to zero first. In training masked frames enter neither the batch's
    statistics nor the moving ones.

    Args:
        scale_starts_at: start of the scale; 0 makes a residual branch start as the identity.
        **kwargs: base layer arguments, such as `name` and `dtype`.
    """

    def __init__(self, scale_starts_at: float = 1.0, **kwargs: Any) -> None:
        start = keras.initializers.Constant(scale_starts_at)
        super().__init__(momentum=0.9, epsilon=1e-5, gamma_initializer=start, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = ops.broadcast_to(spread(mask, inputs)[..., 0], ops.shape(inputs)[:-1])
        return super().call(inputs, training=training, mask=mask)

    def _moments(self, inputs, mask):
        # With a mask Keras 3.15 squeezes the axis of a single feature, which its JAX backend does not accept.
        mean, variance = super()._moments(inputs, mask)
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))
