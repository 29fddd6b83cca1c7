"""Average pooling over the frames of a tracklet."""

import keras
from keras import ops

from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class FrameAverage(keras.layers.Layer):
    """Averages frame vectors or maps over a tracklet's real frames: the baseline of all five papers.

    Masking: masked frames weigh nothing, whatever they hold. A tracklet with no real frame gives zeros.

    Args:
        axis: of the frames. With 2 the frames of each clip are averaged apart: `clips` stands before `frames` in all
            shapes below.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors or maps.
        mask: optional bool, True on real frames.
        return_attention: also return the weight of each frame.

    Input shape: `(batch, frames, ...)`; mask `(batch, frames)`.
    Output shape: `(batch, ...)`; attention `(batch, frames)`, float32, summing to 1.

    Raises:
        ValueError: for another axis, or inputs without it.

    Example:

    >>> frames = np.array([[[1.0], [3.0], [8.0]]], "float32")
    >>> float(kreid.layers.FrameAverage()(frames, mask=np.array([[True, True, False]]))[0, 0])
    2.0

    Reference: average pooling over time, for instance "Baseline + TL + Avg" in Table 1 of Fu et al., STA, 2019.
    """

    def __init__(self, axis=1, **kwargs):
        super().__init__(**kwargs)
        if axis not in (1, 2):
            raise ValueError(f"Frames are on axis 1, or 2 behind clips. Received: axis={axis!r}")
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) < self.axis + 2:
            layout = "batch, frames" if self.axis == 1 else "batch, clips, frames"
            raise ValueError(
                f"Frames must be ({layout}, features...). Received: inputs of shape {tuple(input_shape)!r}"
            )

    def call(self, inputs, mask=None, return_attention=False):
        mask = mask_of(inputs, mask, self.axis)
        real = ops.cast(mask, "float32")
        weights = real / ops.maximum(ops.sum(real, axis=-1, keepdims=True), 1.0)
        x = ops.where(spread(mask, inputs), ops.cast(inputs, "float32"), 0.0)
        output = ops.cast(ops.sum(x * spread(weights, inputs), axis=self.axis), self.compute_dtype)
        return (output, weights) if return_attention else output

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_spec(self, inputs, mask=None, return_attention=False):
        shape = inputs.shape
        output = keras.KerasTensor((*shape[: self.axis], *shape[self.axis + 1 :]), dtype=self.compute_dtype)
        weights = keras.KerasTensor(shape[: self.axis + 1], dtype="float32")
        return (output, weights) if return_attention else output

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}
