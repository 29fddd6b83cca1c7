"""Attention over the frames of a clip, from their maps."""

import math
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import equal_shares, mask_of, masked_softmax, spread


@keras.saving.register_keras_serializable(package="kreid")
class TemporalAttention(KreidLayer):
    """Average the frames of a clip with weights that a small network computes from their maps.

    A convolution over the whole map turns each frame into `hidden_dim` values, followed by a ReLU; a convolution of
    width 3 over time turns these into one score for each frame; the softmax of the scores over the frames gives the
    weights. The output is the weighted sum of the frames' mean features.

    With several clips per tracklet each clip is averaged separately.

    Masking: masked frames have weight 0, whatever they hold, and count as zeros for their neighbours, like frames
    beyond the ends of a clip. A clip without a real frame gives zeros. Any number of frames.

    Args:
        hidden_dim: values per frame between the two convolutions.
        score_initializer: name of a Keras initialiser for the convolution that gives the scores.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        return_attention: also return the weight of each frame.

    Input shape: `(batch, frames, h, w, C)`, or `(batch, clips, frames, h, w, C)`; mask the same without `h, w, C`.
    Output shape: `(batch, C)`, or `(batch, clips, C)`; attention shaped like the mask, float32, summing to 1 over the
        frames of a clip.

    Raises:
        ValueError: for a `hidden_dim` below 1, inputs or a mask of another shape, or a map of unknown size.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 3, 4, 8, 4, 16), "float32")
    >>> vectors, weights = kreid.layers.TemporalAttention(hidden_dim=32)(maps, return_attention=True)
    >>> tuple(vectors.shape), tuple(weights.shape)
    ((2, 3, 16), (2, 3, 4))

    Reference: Gao and Nevatia, Revisiting Temporal Modeling for Video-based Person ReID, 2018, its temporal attention
    in the form with a temporal convolution and softmax; section 3.2 of Li et al., TACAN, 2020, uses it. TACAN's
    1/T in front of the sum is dropped: weights that sum to 1 average already, and a clip's vector would shrink as T
    grows. kreid's choices: the ReLU, without which both convolutions would be one; the scores have no bias, which
    softmax would cancel, and start at 0, so that training starts from the mean: random scores would select random
    frames.
    """

    def __init__(self, hidden_dim: int = 256, score_initializer: str = "zeros", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(hidden_dim, int) or hidden_dim < 1:
            raise ValueError(f"There must be at least one hidden value. Received: hidden_dim={hidden_dim!r}")
        self.hidden_dim = hidden_dim
        self.score_initializer = score_initializer
        # A convolution over the whole map has one position: it is a Dense layer on the flat map.
        self.spatial = keras.layers.Dense(hidden_dim, "relu", dtype=self.dtype_policy, name="spatial")
        self.temporal = keras.layers.Conv1D(
            1, 3, padding="same", use_bias=False, kernel_initializer=score_initializer, dtype="float32", name="temporal"
        )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (5, 6) or None in input_shape[-3:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) or (batch, clips, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        self.spatial.build((None, None, math.prod(input_shape[-3:])))
        self.temporal.build((None, None, self.hidden_dim))

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        mask = mask_of(inputs, mask, axis=len(inputs.shape) - 4)
        *leading, frames = ops.shape(inputs)[:-3]
        maps = ops.reshape(inputs, (-1, frames, *inputs.shape[-3:]))
        mask = ops.reshape(mask, (-1, frames))
        maps = ops.where(spread(mask, maps), maps, 0)

        hidden = self.spatial(ops.reshape(maps, (-1, frames, math.prod(maps.shape[-3:]))))
        # The first convolution's bias makes masked frames nonzero; they must count as zero padding.
        scores = self.temporal(ops.where(ops.expand_dims(mask, -1), ops.cast(hidden, "float32"), 0.0))[..., 0]
        weights = equal_shares(mask) if self.uniform_attention else masked_softmax(scores, mask)

        vectors = ops.mean(ops.cast(maps, "float32"), axis=(2, 3))
        output = ops.sum(ops.expand_dims(weights, -1) * vectors, axis=1)
        output = ops.reshape(ops.cast(output, self.compute_dtype), (*leading, inputs.shape[-1]))
        return (output, ops.reshape(weights, (*leading, frames))) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-4], input_shape[-1])

    def attention_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:-3]

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None
