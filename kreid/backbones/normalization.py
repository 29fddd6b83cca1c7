"""Batch normalisation by TensorFlow's fused kernel."""

import keras


@keras.saving.register_keras_serializable(package="kreid")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation of maps, computed by one kernel where TensorFlow has it.

    Keras computes moments and normalisation by separate operations; the fused kernel shortens a training step of a
    residual network (`tests/benchmarks/batch_norm.py`), and lets the graph optimiser fold it into the convolution
    before it. The moving variance gets the unbiased variance of the batch, as in PyTorch. On other backends, and in
    float64, it is Keras's own.

    Args:
        momentum: of the moving mean and variance.
        epsilon: added to the variance.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: for an option of Keras's layer that the kernel lacks.

    Input shape: `(batch, h, w, C)`.
    Output shape: the same.

    Example:

    >>> maps = np.random.default_rng(0).normal(5, 3, (8, 4, 2, 1)).astype("float32")
    >>> normalised = kreid.backbones.FusedBatchNormalization()(maps, training=True)
    >>> abs(round(float(keras.ops.mean(normalised)), 4)), round(float(keras.ops.std(normalised)), 2)
    (0.0, 1.0)
    """

    def __init__(self, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        unfit = {"axis": self.axis != -1, "center": not self.center, "scale": not self.scale}
        if any(unfit.values()) or self.synchronized:
            raise ValueError(
                "The fused kernel normalises the last axis, with scale and centre, on one device; use Keras's layer "
                f"for anything else. Received: {', '.join(f'{key}={value!r}' for key, value in kwargs.items())}"
            )

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "tensorflow" or self.compute_dtype == "float64":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        gamma, beta = tf.cast(self.gamma, "float32"), tf.cast(self.beta, "float32")
        if training and self.trainable:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, is_training=True
            )
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + tf.cast(batch, moving.dtype) * (1.0 - self.momentum))
            return outputs
        return tf.compat.v1.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            tf.cast(self.moving_mean, "float32"),
            tf.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            is_training=False,
        )[0]
