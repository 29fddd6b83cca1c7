"""Batch normalisation by TensorFlow's fused kernel or over replicas, and next to instance normalisation."""

from typing import Any

import keras
from keras import ops

from kreid._replicas import mean_over_replicas, moments_over_replicas, num_replicas
from kreid._typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="kreid")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation of maps, computed by one kernel where TensorFlow has it.

    Keras computes moments and normalisation by separate operations; the fused kernel shortens a training step of a
    residual network (`tests/benchmarks/batch_norm.py`). The moving variance gets the unbiased variance of the batch, as
    in PyTorch. On other backends, in float64, and where a mirrored model has several replicas, it is composed of
    separate operations.

    With several replicas the statistics are those of the batches of all replicas, as on one device. If the attribute
    `over_replicas` is set to `False`, each replica normalises by its own batch, and the moving statistics are averaged.

    Maps of several kinds may pass the layer, such as single frames and means of frames, whose statistics differ. Each
    kind is a branch: scale and centre are shared, moving mean and variance are the branch's own.

    Args:
        momentum: of the moving mean and variance.
        epsilon: added to the variance.
        branches: number of kinds of maps, each with its own moving statistics.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: maps.
        branch: which branch's statistics are used and, in training, updated.

    Raises:
        ValueError: for an option of Keras's layer that the kernel lacks, or less than one branch.

    Input shape: `(batch, h, w, C)`.
    Output shape: the same.

    Example:

    >>> maps = np.random.default_rng(0).normal(5, 3, (8, 4, 2, 1)).astype("float32")
    >>> normalised = kreid.backbones.FusedBatchNormalization()(maps, training=True)
    >>> abs(round(float(keras.ops.mean(normalised)), 4)), round(float(keras.ops.std(normalised)), 2)
    (0.0, 1.0)
    """

    def __init__(self, momentum=0.99, epsilon=1e-3, branches=1, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        unfit = {"axis": self.axis != -1, "center": not self.center, "scale": not self.scale}
        if any(unfit.values()) or self.synchronized:
            raise ValueError(
                "The fused kernel normalises the last axis, with scale and centre, on one device; use Keras's layer "
                f"for anything else. Received: {', '.join(f'{key}={value!r}' for key, value in kwargs.items())}"
            )
        if not isinstance(branches, int) or branches < 1:
            raise ValueError(f"There is at least one branch, the first. Received: branches={branches!r}")
        self.branches = branches
        self.over_replicas = True

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.statistics = [(self.moving_mean, self.moving_variance)]
        for branch in range(1, self.branches):
            added = [
                self.add_weight(
                    shape=(input_shape[-1],),
                    name=f"moving_{name}_{branch}",
                    initializer=initializer,
                    trainable=False,
                    autocast=False,
                )
                for name, initializer in (
                    ("mean", self.moving_mean_initializer),
                    ("variance", self.moving_variance_initializer),
                )
            ]
            self.statistics.append(tuple(added))

    def call(self, inputs: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        moving = self.statistics[branch]
        learns = bool(training) and self.trainable
        mirrored = learns and self.over_replicas and num_replicas() > 1
        if keras.backend.backend() != "tensorflow" or self.compute_dtype == "float64" or mirrored:
            outputs, *batch = self._composed(inputs, *moving, learns)
        else:
            outputs, *batch = self._fused(inputs, *moving, learns)
        if learns:
            for statistic, value in zip(moving, batch, strict=True):
                value = mean_over_replicas(ops.cast(value, statistic.dtype))
                statistic.assign(statistic * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def _fused(self, inputs, mean, variance, learns):
        import tensorflow as tf

        gamma, beta = tf.cast(self.gamma, "float32"), tf.cast(self.beta, "float32")
        given = {} if learns else {"mean": tf.cast(mean, "float32"), "variance": tf.cast(variance, "float32")}
        return tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, **given, epsilon=self.epsilon, is_training=learns)

    def _composed(self, inputs, mean, variance, learns):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(inputs, dtype)
        if learns:
            mean, variance = ops.moments(x, axes=tuple(range(len(x.shape) - 1)))
            if self.over_replicas:
                mean, variance = moments_over_replicas(mean, variance)
        mean, variance, gamma, beta = (ops.cast(v, dtype) for v in (mean, variance, self.gamma, self.beta))
        outputs = ops.batch_normalization(x, mean, variance, -1, offset=beta, scale=gamma, epsilon=self.epsilon)
        if learns:
            values = ops.cast(ops.prod(ops.shape(x)[:-1]), dtype) * (num_replicas() if self.over_replicas else 1)
            variance = variance * values / ops.maximum(values - 1, 1)
        return ops.cast(outputs, self.compute_dtype), mean, variance

    def scale_and_shift(self, branch: int = 0) -> tuple[Tensor, Tensor]:
        """Return what each channel is multiplied by and what is then added, where the moving statistics are used."""
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        mean, variance, gamma, beta = (ops.cast(v, dtype) for v in (*self.statistics[branch], self.gamma, self.beta))
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        return scale, beta - mean * scale

    def copy_statistics(self) -> None:
        """Give every branch the moving statistics of the first."""
        first, *others = self.statistics
        for branch in others:
            for mine, theirs in zip(branch, first, strict=True):
                mine.assign(ops.copy(theirs))

    def load_own_variables(self, store: Any) -> None:
        """Load a saved state; one without branches (four variables) is used for all of them."""
        if self.branches == 1 or len(store.keys()) != 4:
            super().load_own_variables(store)
            return
        for position, variable in enumerate(self.weights[:4]):
            variable.assign(store[str(position)])
        self.copy_statistics()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "branches": self.branches}


def convolve_and_normalize(conv: Any, bn: Any, maps: Tensor, training: bool | None, branch: int) -> Tensor:
    """Convolve maps and normalise them.

    Where the moving statistics are used, at test and where the layer is frozen, batch normalisation only scales and
    shifts each channel. The kernel and the bias take both in, which saves a pass over the maps
    (`tests/benchmarks/batch_norm.py`).

    Args:
        conv: a `Conv2D` or `DepthwiseConv2D`.
        bn: a `FusedBatchNormalization` or an `InstanceBatchNormalization`.
        maps: `(batch, h, w, C)`.
        training: normalise by the batch, unless `bn` is frozen.
        branch: see `FusedBatchNormalization`.
    """
    learns = bool(training) and bn.trainable
    if learns or not isinstance(bn, FusedBatchNormalization):
        return bn(conv(maps), training=training, branch=branch)
    scale, shift = bn.scale_and_shift(branch)
    if conv.use_bias:
        shift = shift + ops.cast(conv.bias, scale.dtype) * scale
    depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
    kernel = ops.cast(conv.kernel, scale.dtype) * (scale[:, None] if depthwise else scale)
    convolution = ops.depthwise_conv if depthwise else ops.conv
    settings = conv.strides, conv.padding, "channels_last", conv.dilation_rate
    maps = convolution(maps, ops.cast(kernel, maps.dtype), *settings)
    shift = ops.cast(shift, maps.dtype)
    if keras.backend.backend() != "tensorflow":
        return maps + shift
    import tensorflow as tf

    return tf.nn.bias_add(maps, shift)  # An addition is not always joined with the convolution.


class InstanceBatchNormalization(keras.layers.Layer):
    """Instance normalisation of the first half of the channels, batch normalisation of the second (IBN-a, figure 2).

    An instance's own mean and variance are the same in training and at test, and for every branch.

    Args:
        momentum: of the batch normalisation's moving mean and variance.
        epsilon: added to the variances.
        branches: see `FusedBatchNormalization`.
        **kwargs: base layer arguments; the halves' names are this name with `_instance` and `_batch`.

    Reference: Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, 2018.
    """

    def __init__(self, momentum: float, epsilon: float, branches: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.instance = keras.layers.GroupNormalization(-1, epsilon=epsilon, dtype=policy, name=f"{self.name}_instance")
        self.batch = FusedBatchNormalization(momentum, epsilon, branches, dtype=policy, name=f"{self.name}_batch")

    @property
    def halves(self) -> list[keras.layers.Layer]:
        """The two layers, in the order of their channels."""
        return [self.instance, self.batch]

    def build(self, input_shape: Shape) -> None:
        *rest, channels = input_shape
        self.instance.build((*rest, channels // 2))
        self.batch.build((*rest, channels - channels // 2))

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        first, second = ops.split(x, [x.shape[-1] // 2], axis=-1)
        return ops.concatenate([self.instance(first), self.batch(second, training=training, branch=branch)], axis=-1)
