"""Average pooling of each frame's horizontal stripes."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer


@keras.saving.register_keras_serializable(package="kreid")
class StripeAverage(KreidLayer):
    """Cut each feature map into horizontal stripes and average each over its positions, with or without a frame axis.

    Masking: frames do not interact; passes masks on.

    Args:
        num_stripes: number of stripes of equal height, counted from the top.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: maps.

    Input shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`; h is divisible by `num_stripes`.
    Output shape: `(batch, num_stripes, C)` or `(batch, frames, num_stripes, C)`.

    Raises:
        ValueError: for another rank, a number of stripes that is not a positive integer, or a height that it does not
            divide.

    Example:

    >>> tuple(kreid.layers.StripeAverage(4)(np.ones((2, 6, 8, 4, 16), "float32")).shape)
    (2, 6, 4, 16)

    Reference: Sun et al., Beyond Part Models: Person Retrieval with Refined Part Pooling, ECCV 2018, section 3.1.
    """

    def __init__(self, num_stripes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_stripes, int) or num_stripes < 1:
            raise ValueError(f"The number of stripes must be a positive integer. Received: num_stripes={num_stripes!r}")
        self.num_stripes = num_stripes
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (4, 5) or input_shape[-3] is None or input_shape[-3] % self.num_stripes:
            raise ValueError(
                "Maps must be (batch, h, w, C) or (batch, frames, h, w, C), with a known height that is divisible by "
                "the number of stripes; choose num_stripes accordingly. "
                f"Received: num_stripes={self.num_stripes!r}, inputs of shape {tuple(input_shape)!r}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        # The mean over the width first: what is left to cut is small. In float32: float16 loses small terms.
        rows = ops.mean(ops.cast(inputs, "float32"), axis=-2)
        height, channels = rows.shape[-2:]
        leading = ops.shape(rows)[:-2]
        stripes = ops.reshape(rows, (*leading, self.num_stripes, height // self.num_stripes, channels))
        return ops.cast(ops.mean(stripes, axis=-2), self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], self.num_stripes, input_shape[-1])
