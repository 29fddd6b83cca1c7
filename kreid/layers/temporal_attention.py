"""Attention over the frames of a clip, from their maps."""

import math

import keras
from keras import ops

from kreid.layers.masking import mask_of, masked_softmax, spread


@keras.saving.register_keras_serializable(package="kreid")
class TemporalAttention(keras.layers.Layer):
    """Averages the frames of a clip by weights that a small network reads from their maps.

    A convolution over the whole map turns each frame into `hidden_dim` values, followed by a ReLU; a convolution of
    width 3 over time turns these into one score for each frame; the scores' softmax over the frames are the weights.
    The output is the weighted sum of the frames' mean features.

    Frames may be those of one clip per tracklet, or of several: then everything happens within each clip.

    Masking: masked frames weigh nothing, whatever they hold, and their neighbours see zeros in their place, as they do
    beyond the ends of a clip. A clip with no real frame gives zeros. The number of frames is free.

    Args:
        hidden_dim: values per frame between the two convolutions.
        score_initializer: of the convolution that gives the scores; name of a Keras initialiser.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        return_attention: also return the weight of each frame.

    Input shape: `(batch, frames, h, w, C)`, or `(batch, clips, frames, h, w, C)`; mask the same without `h, w, C`.
    Output shape: `(batch, C)`, or `(batch, clips, C)`; attention shaped like the mask, float32, summing to 1 over the
        frames of a clip.

    Raises:
        ValueError: for a `hidden_dim` below 1, inputs of another rank, or a map whose size is unknown.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 3, 4, 8, 4, 16), "float32")
    >>> vectors, weights = kreid.layers.TemporalAttention(hidden_dim=32)(maps, return_attention=True)
    >>> tuple(vectors.shape), tuple(weights.shape)
    ((2, 3, 16), (2, 3, 4))

    Reference: Gao and Nevatia, Revisiting Temporal Modeling for Video-based Person ReID, 2018, its temporal attention
    in the form with a temporal convolution and softmax; section 3.2 of Li et al., TACAN, 2020, takes it over. TACAN's
    1/T in front of the sum is dropped: weights that sum to 1 average already, and a clip's vector would shrink as T
    grows. kreid's choices: the ReLU, without which both convolutions would be one; the scores have no bias, which
    softmax would not see, and start at 0, so that training starts from the mean: random scores would single out random
    frames.
    """

    def __init__(self, hidden_dim=256, score_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        if not isinstance(hidden_dim, int) or hidden_dim < 1:
            raise ValueError(f"The hidden values are a positive number. Received: hidden_dim={hidden_dim!r}")
        self.hidden_dim = hidden_dim
        self.score_initializer = score_initializer
        # A convolution over the whole map has one place to stand: it is a Dense layer on the flat map.
        self.spatial = keras.layers.Dense(hidden_dim, "relu", dtype=self.dtype_policy, name="spatial")
        self.temporal = keras.layers.Conv1D(
            1, 3, padding="same", use_bias=False, kernel_initializer=score_initializer, dtype="float32", name="temporal"
        )
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) not in (5, 6) or None in input_shape[-3:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) or (batch, clips, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        self.spatial.build((None, None, math.prod(input_shape[-3:])))
        self.temporal.build((None, None, self.hidden_dim))

    def call(self, inputs, mask=None, return_attention=False):
        *leading, frames = ops.shape(inputs)[:-3]
        maps = ops.reshape(inputs, (-1, frames, *inputs.shape[-3:]))
        mask = mask_of(maps, None if mask is None else ops.reshape(mask, (-1, frames)))
        maps = ops.where(spread(mask, maps), maps, 0)

        hidden = self.spatial(ops.reshape(maps, (-1, frames, math.prod(maps.shape[-3:]))))
        # With its bias the first convolution turns a masked frame into something; zero padding has none.
        scores = self.temporal(ops.where(mask[..., None], ops.cast(hidden, "float32"), 0.0))[..., 0]
        weights = masked_softmax(scores, mask)

        vectors = ops.mean(ops.cast(maps, "float32"), axis=(2, 3))
        output = ops.sum(weights[..., None] * vectors, axis=1)
        output = ops.reshape(ops.cast(output, self.compute_dtype), (*leading, inputs.shape[-1]))
        return (output, ops.reshape(weights, (*leading, frames))) if return_attention else output

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_spec(self, inputs, mask=None, return_attention=False):
        output = keras.KerasTensor((*inputs.shape[:-4], inputs.shape[-1]), dtype=self.compute_dtype)
        return (output, keras.KerasTensor(inputs.shape[:-3], dtype="float32")) if return_attention else output

    def get_config(self):
        config = super().get_config()
        config.update(hidden_dim=self.hidden_dim, score_initializer=self.score_initializer)
        return config
