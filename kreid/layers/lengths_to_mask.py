"""The mask that every layer takes, from the lengths of padded tracklets."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import lengths_of


@keras.saving.register_keras_serializable(package="kreid")
class LengthsToMask(KreidLayer):
    """Make the mask of real frames from the tracklets' lengths.

    Real frames come first. kreid passes lengths, not masks, between programs: a server that pads requests repeats a
    tensor's first element, which would turn a padded mask into real frames.

    Masking: the output is the mask.

    Args:
        **kwargs: base layer arguments, such as `name`.

    Call arguments:
        frames: any tensor with the frames on its second axis; only its shape is read.
        lengths: integers, the number of real frames of each tracklet.

    Input shape: `(batch, frames, ...)` and `(batch,)`.
    Output shape: `(batch, frames)`, bool.

    Lengths outside `0..frames` are clipped, as a graph cannot raise; `model.embed` checks them first and raises.

    Raises:
        ValueError: if the lengths are not one per tracklet.

    Example:

    >>> mask = kreid.layers.LengthsToMask()(np.zeros((2, 3, 8)), np.array([1, 3]))
    >>> keras.ops.convert_to_numpy(mask).tolist()
    [[True, False, False], [True, True, True]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        # Automatic casting would copy the frames to the compute dtype.
        self.autocast = False

    def build(self, frames_shape: Shape, lengths_shape: Shape) -> None:
        """Has no weights."""

    def call(self, frames: Tensor, lengths: Tensor) -> Tensor:
        positions = ops.arange(ops.shape(frames)[1], dtype="int32")
        return ops.expand_dims(positions, 0) < ops.expand_dims(lengths_of(frames, lengths), 1)

    def compute_output_spec(self, frames: Tensor, lengths: Tensor) -> Any:
        return keras.KerasTensor(frames.shape[:2], dtype="bool")

    def compute_mask(self, frames: Tensor, lengths: Tensor = None, previous_mask: Tensor | None = None) -> None:
        return None
