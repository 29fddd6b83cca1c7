"""Importance of each frame by its distance from the others."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.distances import pairwise_euclidean
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class InterFrameDistance(KreidLayer):
    """Score each frame of a tracklet by its mean Euclidean distance from all frames: `v_i = 1/L sum_j |f_i - f_j|`.

    Frames similar to the others get a low score, a different frame gets a high one.

    Masking: masked frames get 0 and enter no pair, whatever they hold; L counts the real frames. Passes the mask
    on. A single frame gets 0. The order of the frames does not matter.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames)`, float32, at least 0.

    Raises:
        ValueError: for inputs or a mask of another shape.

    Example:

    >>> frames = np.array([[[0.0], [0.0], [3.0]]], "float32")
    >>> keras.ops.convert_to_numpy(kreid.layers.InterFrameDistance()(frames)).tolist()
    [[1.0, 1.0, 2.0]]

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equation 4: the sum is divided by L as printed, though a frame has L - 1 others.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = mask_of(inputs, mask)
        if self.uniform_attention:
            return ops.cast(mask, "float32")
        distances = pairwise_euclidean(ops.where(spread(mask, inputs), inputs, 0))
        pairs = ops.logical_and(ops.expand_dims(mask, 2), ops.expand_dims(mask, 1))
        length = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        total = ops.sum(ops.where(pairs, ops.cast(distances, "float32"), 0.0), axis=2)
        return total / ops.maximum(length, 1.0)

    def compute_output_spec(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return keras.KerasTensor(inputs.shape[:2], dtype="float32")
