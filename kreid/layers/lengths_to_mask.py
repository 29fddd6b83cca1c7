"""From the lengths of padded tracklets to the mask that every layer takes."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kreid")
class LengthsToMask(keras.layers.Layer):
    """Makes the mask of real frames from the tracklets' lengths.

    Real frames come first. kreid passes lengths, not masks, between programs: a server that pads requests repeats a
    tensor's first element, which would turn a padded mask into real frames.

    Masking: this is where masks come from.

    Args:
        **kwargs: base layer arguments, such as `name`.

    Call arguments:
        frames: any tensor whose second axis is the frames; only its shape is read.
        lengths: integers, the number of real frames of each tracklet.

    Input shape: `(batch, frames, ...)` and `(batch,)`.
    Output shape: `(batch, frames)`, bool.

    Lengths beyond `0..frames` are clipped, as a graph cannot raise; `model.embed` checks them first and raises.

    Example:

    >>> mask = kreid.layers.LengthsToMask()(np.zeros((2, 3, 8)), np.array([1, 3]))
    >>> keras.ops.convert_to_numpy(mask).tolist()
    [[True, False, False], [True, True, True]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        # Under automatic casting integer lengths stay as they are, but frames would be copied to the compute dtype.
        self.autocast = False

    def build(self, frames_shape, lengths_shape):
        if len(lengths_shape) != 1:
            raise ValueError(
                f"Lengths must have one axis, the batch. Received: lengths of shape {tuple(lengths_shape)!r}"
            )

    def call(self, frames, lengths):
        positions = ops.arange(ops.shape(frames)[1], dtype="int32")
        return positions[None, :] < ops.cast(lengths, "int32")[:, None]

    def compute_mask(self, frames, lengths=None, previous_mask=None):
        return None

    def compute_output_spec(self, frames, lengths):
        return keras.KerasTensor((frames.shape[0], frames.shape[1]), dtype="bool")
