"""Importance of each frame by its content."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class IntraFrameAttention(KreidLayer):
    """Score each frame of a tracklet by its content: `w_i = sigmoid(A f_i + b)`.

    Masking: masked frames get 0, whatever they hold; passes the mask on. Frames do not interact.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames)`, float32, from 0 to 1.

    Raises:
        ValueError: for inputs or a mask of another shape.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 4, 16), "float32")
    >>> tuple(kreid.layers.IntraFrameAttention()(frames).shape)
    (2, 4)

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equation 3. The paper's A is "a binary regressor"; kreid takes one Dense unit with a sigmoid.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.regressor = keras.layers.Dense(1, dtype=self.dtype_policy, name="regressor")

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        self.regressor.build(input_shape)

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = mask_of(inputs, mask)
        if self.uniform_attention:
            return ops.cast(mask, "float32")
        scores = self.regressor(ops.where(spread(mask, inputs), inputs, 0))
        return ops.where(mask, ops.sigmoid(ops.cast(scores[:, :, 0], "float32")), 0.0)

    def compute_output_spec(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return keras.KerasTensor(inputs.shape[:2], dtype="float32")
