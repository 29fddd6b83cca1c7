"""Batch normalisation that leaves padding out of its statistics."""

import keras
from keras import ops

from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class MaskedBatchNormalization(keras.layers.Layer):
    """Normalises features by mean and variance over all entries that are real: `gamma (x - mean) / std + beta`.

    In training these are the batch's, and the moving ones follow them; at other times, and while `trainable` is false,
    the moving ones are used.

    Masking: masked entries reach no statistic and no gradient, whatever they hold, and come out as zeros do. A batch
    without a real entry leaves the moving statistics alone. Passes masks on.

    Args:
        momentum: of the moving mean and variance.
        epsilon: added to the variance.
        scale_starts_at: of gamma; 0 makes a residual branch start as nothing.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: features on the last axis.
        mask: optional bool, True on real entries; of the first axis, the first two, and so on.
        training: use and follow the batch's statistics.

    Input shape: `(batch, ..., features)`; mask `(batch, ...)` with at least one axis less.
    Output shape: the inputs'.

    Raises:
        ValueError: for inputs without an axis besides the features.

    Example:

    >>> layer = kreid.layers.MaskedBatchNormalization()
    >>> x = np.array([[[1.0], [3.0], [99.0]]], "float32")
    >>> y = layer(x, mask=np.array([[True, True, False]]), training=True)
    >>> y[0, :2, 0].numpy().round(2).tolist()
    [-1.0, 1.0]

    Reference: Ioffe and Szegedy, Batch Normalization, 2015, algorithm 1. The moving variance follows the biased
    variance of the batch, as in Keras.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, scale_starts_at=1.0, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale_starts_at = scale_starts_at
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) < 2:
            raise ValueError(f"Features are on the last axis of several. Received: shape {tuple(input_shape)!r}")

        def weight(name, value, trainable):
            # float32 under every policy.
            return self.add_weight(
                shape=input_shape[-1:],
                initializer=keras.initializers.Constant(value),
                trainable=trainable,
                autocast=False,
                name=name,
            )

        self.gamma = weight("gamma", self.scale_starts_at, True)
        self.beta = weight("beta", 0.0, True)
        self.moving_mean = weight("moving_mean", 0.0, False)
        self.moving_variance = weight("moving_variance", 1.0, False)

    def call(self, inputs, mask=None, training=None):
        x = ops.cast(inputs, "float32")
        if mask is not None:
            mask = spread(mask_of(inputs, mask), inputs)
            x = ops.where(mask, x, 0.0)
        if training and self.trainable:
            mean, variance = self._follow(x, mask)
        else:
            mean, variance = ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * scale + (self.beta - mean * scale), self.compute_dtype)

    def _follow(self, x, mask):
        """Mean and variance of the batch's real entries, which the moving ones take a step towards."""
        axes = tuple(range(len(x.shape) - 1))
        if mask is None:
            mean, variance = ops.moments(x, axes=axes)
            step = 1.0 - self.momentum
        else:
            real = ops.cast(ops.broadcast_to(mask, ops.shape(x[..., :1])), "float32")
            count = ops.sum(real)
            share = 1.0 / ops.maximum(count, 1.0)
            mean = ops.sum(x, axis=axes) * share
            variance = ops.sum(real * ops.square(x - mean), axis=axes) * share
            step = ops.where(count > 0, 1.0 - self.momentum, 0.0)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving + step * (ops.stop_gradient(value) - moving))
        return mean, variance

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config.update(momentum=self.momentum, epsilon=self.epsilon, scale_starts_at=self.scale_starts_at)
        return config
