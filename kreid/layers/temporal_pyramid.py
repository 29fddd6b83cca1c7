"""The base of the pyramids over time."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of
from kreid.layers.normalization import BatchNormalization


class TemporalPyramid(KreidLayer):
    """Base of the pyramids: parallel branches over time, each with batch normalisation and activation, concatenated.

    A pyramid implements `make_convolution`, and `branch` if a branch does more than its convolution.

    By default every convolution starts as the identity: 1 at its centre, zeros elsewhere. Neighbours begin to count as
    training changes their weights. From random values, weights of neighbours that never occur in training, such as
    those 4 frames away in clips of 4, would stay random and count in tests on longer tracklets.

    Args:
        num_branches: N, the number of branches.
        activation: after the batch normalisation; name of a Keras activation, such as `"linear"` for none.
        scale: start of the batch normalisation's scale; a triplet loss with a margin of 0.3 needs 0.1.
        kernel_initializer: of the convolutions: `"identity"`, or the name of a Keras initialiser.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: for less than one branch, a scale of zero or below, or inputs or a mask of another shape.
    """

    def __init__(
        self,
        num_branches: int = 3,
        activation: str = "relu",
        scale: float = 1.0,
        kernel_initializer: str = "identity",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_branches, int) or num_branches < 1:
            raise ValueError(f"A pyramid has at least one branch. Received: num_branches={num_branches!r}")
        self.num_branches = num_branches
        if not isinstance(scale, (int, float)) or not scale > 0:
            raise ValueError(f"The scale starts at a number above zero. Received: scale={scale!r}")
        self.activate = keras.activations.get(activation)
        self.activation = keras.activations.serialize(self.activate)
        self.scale = scale
        self.kernel_initializer = kernel_initializer
        # On vectors float32 costs little.
        self.normalizations = [
            BatchNormalization(scale, dtype="float32", name=f"bn_{number + 1}") for number in range(num_branches)
        ]
        self.supports_masking = True

    def make_convolution(self, number: int, filters: int, **kwargs: Any) -> keras.layers.Layer:
        """Make the convolution of branch `number`, counted from 0, with `filters` features."""
        raise NotImplementedError(f"{type(self).__name__} must make its convolutions.")

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        filters = input_shape[-1]
        self.convolutions = []
        for number, normalization in enumerate(self.normalizations):
            common = {"padding": "same", "use_bias": False, "dtype": self.dtype_policy, "name": f"conv_{number + 1}"}
            as_identity = self.kernel_initializer == "identity"
            if not as_identity:
                common["kernel_initializer"] = self.kernel_initializer
            convolution = self.make_convolution(number, filters, **common)
            convolution.build((None, None, filters))
            if as_identity:
                kernel = np.zeros(convolution.kernel.shape, "float32")
                kernel[len(kernel) // 2] = np.eye(filters)
                convolution.kernel.assign(kernel)
            normalization.build((None, None, filters))
            self.convolutions.append(convolution)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        mask = mask_of(inputs, mask)
        frames = ops.where(ops.expand_dims(mask, -1), inputs, 0)
        outputs = [self.branch(number, frames, mask, training) for number in range(self.num_branches)]
        outputs = ops.cast(ops.concatenate(outputs, axis=-1), self.compute_dtype)
        return ops.where(ops.expand_dims(mask, -1), outputs, 0)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:2], self.num_branches * input_shape[2])

    def branch(self, number: int, frames: Tensor, mask: Tensor, training: bool | None) -> Tensor:
        """Return the vectors of one branch from all frames' vectors, in which masked frames are zeros."""
        convolved = self.convolutions[number](frames)
        return self.activate(self.normalizations[number](convolved, training=training, mask=mask))
