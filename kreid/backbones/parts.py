"""Convolutions, poolings and gates that several networks share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.backbones.normalization import FusedBatchNormalization, convolve_and_normalize


class Published(NamedTuple):
    """ImageNet's weights of keras.applications: the name of their file, and a function that makes the model."""

    file: str
    make: Callable[[], keras.Model]


class _Unit(keras.layers.Layer):
    """Base of units: zeros on each side, convolution, batch normalisation if there is one, and activation."""

    pad: int
    conv: Any
    bn: FusedBatchNormalization | None
    activation: Any = staticmethod(ops.relu)

    def all_units(self) -> list:
        """Return the unit itself, as a block returns its units."""
        return [self]

    def weighted_layers(self) -> list:
        """Return the layers with weights."""
        return [layer for layer in (self.conv, self.bn) if layer is not None]

    def _padded(self, shape: Shape) -> Shape:
        return (shape[0], *(None if s is None else s + 2 * self.pad for s in shape[1:3]), shape[3])

    def build(self, input_shape: Shape) -> None:
        self.conv.build(self._padded(input_shape))
        if self.bn is not None:
            self.bn.build(self.compute_output_shape(input_shape))

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        if self.pad:
            x = ops.pad(x, [(0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0)])
        if self.bn is None:
            return self.activation(self.conv(x))
        return self.activation(convolve_and_normalize(self.conv, self.bn, x, training, branch))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.conv.compute_output_shape(self._padded(input_shape))


class ConvolutionUnit(_Unit):
    """Convolution, batch normalisation unless there is a bias instead, and ReLU.

    Args:
        filters: channels out.
        size: `(height, width)` of the kernel.
        stride: of the convolution.
        padding: `"same"`, `"valid"`, or the zeros on each side.
        epsilon: of batch normalisation, `None` for a bias in its place.
        branches: the kinds of maps, each with its own statistics.
        number: of the convolution, in its name.
        **kwargs: base layer arguments.
    """

    def __init__(self, filters, size, stride=1, padding="same", epsilon=None, branches=1, number=0, **kwargs):
        super().__init__(name=f"unit_{number}", **kwargs)
        self.pad = padding if isinstance(padding, int) else 0
        self.conv = keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="valid" if self.pad else padding,
            use_bias=epsilon is None,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
            dtype=self.dtype_policy,
            name=f"conv2d_{number}",
        )
        self.bn = None
        if epsilon is not None:
            name = f"batch_normalization_{number}"
            self.bn = FusedBatchNormalization(0.9, epsilon, branches, dtype=self.dtype_policy, name=name)


class Pool(keras.layers.Layer):
    """Pooling of 3x3 pixels; zeros beyond an edge do not count.

    Args:
        kind: `"max"` or `"average"`.
        stride: of the pooling.
        padding: `"same"` or `"valid"`.
        **kwargs: base layer arguments.
    """

    def __init__(self, kind="max", stride=2, padding="valid", **kwargs):
        super().__init__(**kwargs)
        kinds = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
        self.pool = kinds[kind](3, stride, padding, dtype=self.dtype_policy, name="pool")

    def all_units(self) -> list:
        """Return no unit: pooling has no weights."""
        return []

    def build(self, input_shape: Shape) -> None:
        """Has no weights."""

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        return self.pool(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.pool.compute_output_shape(input_shape)


class PaddedUnit(_Unit):
    """Convolution or depthwise convolution, batch normalisation and activation, each if asked.

    Args:
        name: before the names of its convolution and batch normalisation.
        filters: channels out, `None` for a depthwise convolution.
        size: of the kernel.
        stride: of the convolution.
        activation: name of a function of `keras.activations`, `None` for none.
        normalize: have a batch normalisation.
        branches: number of kinds of maps, each with its statistics.
        epsilon: of batch normalisation.
        same: pad by Keras's "same", which pads a stride of 2 below and on the right alone, and not as PyTorch pads.
        **kwargs: base layer arguments.
    """

    def __init__(
        self,
        name: str,
        filters: int | None,
        size: int,
        stride: int = 1,
        activation: str | None = "relu",
        normalize: bool = True,
        branches: int = 1,
        epsilon: float = 1e-5,
        same: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.pad = 0 if same else size // 2
        self.activation = keras.activations.get(activation)
        options = {
            "strides": stride,
            "padding": "same" if same else "valid",
            "use_bias": False,
            "dtype": self.dtype_policy,
            "name": f"{name}_conv",
        }
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
        if filters is None:
            self.conv = keras.layers.DepthwiseConv2D(size, depthwise_initializer=initializer, **options)
        else:
            self.conv = keras.layers.Conv2D(filters, size, kernel_initializer=initializer, **options)
        self.bn = None
        if normalize:
            self.bn = FusedBatchNormalization(0.9, epsilon, branches, dtype=self.dtype_policy, name=f"{name}_bn")


class SqueezeExcite(keras.layers.Layer):
    """Channel gates from the map's mean (Hu et al., 2018, equations 2 to 4).

    Args:
        channels: of the maps.
        reduction: `channels / reduction` values are between the two Dense layers, at least one.
        **kwargs: base layer arguments.
    """

    def __init__(self, channels: int, reduction: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        squeezed = max(1, channels // reduction)
        self.squeeze = keras.layers.Dense(squeezed, "relu", dtype=self.dtype_policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, "sigmoid", dtype=self.dtype_policy, name="excite")

    def build(self, input_shape: Shape) -> None:
        self.squeeze.build((input_shape[0], input_shape[-1]))
        self.excite.build((input_shape[0], self.squeeze.units))

    def call(self, x: Tensor) -> Tensor:
        gates = self.excite(self.squeeze(ops.mean(x, axis=(1, 2))))
        return x * ops.expand_dims(gates, (1, 2))
