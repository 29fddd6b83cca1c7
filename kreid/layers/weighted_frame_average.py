"""Weighted average pooling over the frames of a tracklet."""

import keras
from keras import ops

from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class WeightedFrameAverage(keras.layers.Layer):
    """Fuses frame vectors or maps with given weights: `1/N sum_i a_i f_i`, N the real frames.

    With weights of mean 1, as `FrameWeights` gives, it is a weighted mean; with all of them 1 it is `FrameAverage`.
    Summed in float32.

    Masking: masked frames count for nothing, whatever they and their weights hold. A tracklet with no real frame gives
    zeros.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors or maps.
        weights: the frames' weights a.
        mask: optional bool, True on real frames.
        return_attention: also return each frame's share, `a_i / N`.

    Input shape: `(batch, frames, ...)` and `(batch, frames)`; mask `(batch, frames)`.
    Output shape: `(batch, ...)`; attention `(batch, frames)`, float32.

    Raises:
        ValueError: for inputs without a frame axis, or weights of another shape.

    Example:

    >>> frames, weights = np.array([[[1.0], [3.0]]], "float32"), np.array([[0.5, 1.5]], "float32")
    >>> float(kreid.layers.WeightedFrameAverage()(frames, weights)[0, 0])
    2.5

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equation 1.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        # Weights are float32 under every policy, and stay so.
        self.autocast = False

    def build(self, inputs_shape, weights_shape):
        if len(inputs_shape) < 3 or len(weights_shape) != 2:
            raise ValueError(
                "Frames must be (batch, frames, features...) and their weights (batch, frames). "
                f"Received: inputs of shape {tuple(inputs_shape)!r}, weights of shape {tuple(weights_shape)!r}"
            )

    def call(self, inputs, weights, mask=None, return_attention=False):
        mask = mask_of(inputs, mask)
        length = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        shares = ops.where(mask, ops.cast(weights, "float32"), 0.0) / ops.maximum(length, 1.0)
        x = ops.where(spread(mask, inputs), ops.cast(inputs, "float32"), 0.0)
        output = ops.cast(ops.sum(x * spread(shares, inputs), axis=1), self.compute_dtype)
        return (output, shares) if return_attention else output

    def compute_mask(self, inputs, weights=None, previous_mask=None):
        return None

    def compute_output_spec(self, inputs, weights, mask=None, return_attention=False):
        output = keras.KerasTensor((inputs.shape[0], *inputs.shape[2:]), dtype=self.compute_dtype)
        return (output, keras.KerasTensor(inputs.shape[:2], dtype="float32")) if return_attention else output
