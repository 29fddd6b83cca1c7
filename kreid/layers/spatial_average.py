"""Average pooling of each frame's map."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer


@keras.saving.register_keras_serializable(package="kreid")
class SpatialAverage(KreidLayer):
    """Average each feature map over its positions, with or without a frame axis.

    Masking: frames do not interact; passes masks on.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: maps.

    Input shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.
    Output shape: `(batch, C)` or `(batch, frames, C)`.

    Raises:
        ValueError: for another rank.

    Example:

    >>> tuple(kreid.layers.SpatialAverage()(np.ones((2, 4, 8, 4, 16), "float32")).shape)
    (2, 4, 16)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (4, 5):
            raise ValueError(
                "Maps must be (batch, h, w, C) or (batch, frames, h, w, C). "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        # Summed in float32: float16 loses the small terms of a large map.
        return ops.cast(ops.mean(ops.cast(inputs, "float32"), axis=(-3, -2)), self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], input_shape[-1])
