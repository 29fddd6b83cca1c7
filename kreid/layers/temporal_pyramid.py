"""What the pyramids over time share."""

import keras
import numpy as np
from keras import ops

from kreid.layers.masking import mask_of


class TemporalPyramid(keras.layers.Layer):
    """Base of the pyramids: parallel branches over time, each with batch normalisation and activation, side by side.

    A pyramid implements `make_convolution`, and `branch` where there is more to a branch than that.

    Every convolution starts with the identity at its centre and zeros beside it: frames as they are. A neighbour begins
    to count as training finds it worth something. From random values, neighbours that training clips are too short to
    show, such as those 4 frames away in clips of 4, would stay random, and count in tests on longer tracklets.

    Args:
        num_branches: N, the branches.
        activation: after the batch normalisation; name of a Keras activation, such as `"linear"` for none.
        scale: where the batch normalisation's scale starts; a triplet loss with a margin of 0.3 asks for 0.1.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: for less than one branch, a scale of zero or below, or inputs of another rank.
    """

    def __init__(self, num_branches=3, activation="relu", scale=1.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(num_branches, int) or num_branches < 1:
            raise ValueError(f"A pyramid has at least one branch. Received: num_branches={num_branches!r}")
        self.num_branches = num_branches
        if not isinstance(scale, (int, float)) or not scale > 0:
            raise ValueError(f"The scale starts at a number above zero. Received: scale={scale!r}")
        self.activation = keras.activations.get(activation)
        self.scale = scale
        # On vectors float32 costs little.
        self.normalizations = [
            keras.layers.BatchNormalization(
                momentum=0.9,
                epsilon=1e-5,
                gamma_initializer=keras.initializers.Constant(scale),
                dtype="float32",
                name=f"bn_{number + 1}",
            )
            for number in range(num_branches)
        ]
        self.supports_masking = True

    def make_convolution(self, number, filters, **kwargs):
        """The convolution of a branch, counted from 0, to so many features."""
        raise NotImplementedError(f"{type(self).__name__} must make its convolutions.")

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        filters = input_shape[-1]
        self.convolutions = []
        for number, normalization in enumerate(self.normalizations):
            common = {"padding": "same", "use_bias": False, "dtype": self.dtype_policy, "name": f"conv_{number + 1}"}
            convolution = self.make_convolution(number, filters, **common)
            convolution.build((None, None, filters))
            kernel = np.zeros(convolution.kernel.shape, "float32")
            kernel[len(kernel) // 2] = np.eye(filters)
            convolution.kernel.assign(kernel)
            normalization.build((None, None, filters))
            self.convolutions.append(convolution)

    def call(self, inputs, mask=None, training=None):
        mask = mask_of(inputs, mask)
        frames = ops.where(mask[..., None], inputs, 0)
        outputs = [self.branch(number, frames, mask, training) for number in range(self.num_branches)]
        outputs = ops.cast(ops.concatenate(outputs, axis=-1), self.compute_dtype)
        return ops.where(mask[..., None], outputs, 0)

    def branch(self, number, frames, mask, training):
        """Vectors of one branch from those of all frames, zeros where they are masked."""
        convolved = self.convolutions[number](frames)
        return self.activation(self.normalizations[number](convolved, training=training, mask=mask))

    def compute_output_spec(self, inputs, mask=None, training=None):
        shape = (*inputs.shape[:2], self.num_branches * inputs.shape[2])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        own = {"num_branches": self.num_branches, "activation": activation, "scale": self.scale}
        return {**super().get_config(), **own}
