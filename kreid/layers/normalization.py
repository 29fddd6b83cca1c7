"""Batch normalisation over the real frames only."""

from typing import Any

import keras
from keras import ops

from kreid._replicas import mean_over_replicas, moments_over_replicas
from kreid._typing import Tensor
from kreid.layers.masking import spread


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation with a mask over frames: `(batch, frames)`, with any axes before the features.

    The masked values must be finite, so set them to zero first. In training masked frames enter neither the batch's
    statistics nor the moving ones.

    Where a mirrored model has several replicas, the statistics are those of the batches of all replicas, as on one
    device. If the attribute `over_replicas` is set to `False`, each replica normalises by its own batch, and the moving
    statistics are averaged.

    Args:
        scale_starts_at: start of the scale; 0 makes a residual branch start as the identity.
        **kwargs: base layer arguments, such as `name` and `dtype`.
    """

    def __init__(self, scale_starts_at: float = 1.0, **kwargs: Any) -> None:
        start = keras.initializers.Constant(scale_starts_at)
        super().__init__(momentum=0.9, epsilon=1e-5, gamma_initializer=start, **kwargs)
        self.over_replicas = True

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = ops.broadcast_to(spread(mask, inputs)[..., 0], ops.shape(inputs)[:-1])
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable and not self.over_replicas:
            for statistic in (self.moving_mean, self.moving_variance):
                statistic.assign(mean_over_replicas(ops.convert_to_tensor(statistic)))
        return outputs

    def _moments(self, inputs, mask):
        # With a mask Keras 3.15 squeezes the axis of a single feature, which its JAX backend does not accept.
        mean, variance = (ops.reshape(value, (-1,)) for value in super()._moments(inputs, mask))
        if self.over_replicas:
            count = None if mask is None else ops.sum(ops.cast(mask, mean.dtype))
            mean, variance = moments_over_replicas(mean, variance, count)
        return mean, variance
