"""Clips of adjacent frames from the frames of a tracklet."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class FramesToClips(KreidLayer):
    """Cut tracklets into clips with the same number of adjacent frames.

    The clips come in time order and do not overlap. If the frames do not fill the last clip, it is padded with
    zeros. Any number of frames, which may be unknown when the graph is built.

    Masking: masked frames become zeros, whatever they hold. The second output is True on the clips' real frames; a
    clip without a real frame belongs to the padding of its tracklet.

    Args:
        clip_length: number of frames of a clip.
        **kwargs: base layer arguments, such as `name`.

    Call arguments:
        inputs: frames, maps or vectors.
        mask: optional bool, True on real frames, which come first.

    Input shape: `(batch, frames, ...)`; mask `(batch, frames)`.
    Output shape: `(batch, clips, clip_length, ...)` and bool `(batch, clips, clip_length)`, where `clips` is
        `frames / clip_length`, rounded up.

    Raises:
        ValueError: if the clip's length is not a positive integer, for inputs without a frame axis or a mask of another
            shape.

    Example:

    >>> clips, real = kreid.layers.FramesToClips(clip_length=2)(np.array([[1.0, 2.0, 3.0]]))
    >>> keras.ops.convert_to_numpy(clips).tolist(), keras.ops.convert_to_numpy(real).tolist()
    ([[[1.0, 2.0], [3.0, 0.0]]], [[[True, True], [True, False]]])

    Reference: Li et al., TACAN: Temporal Aggregation with Clip-level Attention for Video-based Person
    Re-identification, 2020, section 3.1. Padding the left-over frames is kreid's choice.
    """

    def __init__(self, clip_length: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(clip_length, int) or clip_length < 1:
            raise ValueError(f"A clip needs a positive number of frames. Received: clip_length={clip_length!r}")
        self.clip_length = clip_length
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) < 2:
            raise ValueError(f"Frames must be (batch, frames, ...). Received: inputs of shape {tuple(input_shape)!r}")

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mask = mask_of(inputs, mask)
        batch, frames = ops.shape(inputs)[:2]
        clips = (frames + self.clip_length - 1) // self.clip_length
        missing = clips * self.clip_length - frames

        def cut(x):
            x = ops.pad(x, [(0, 0), (0, missing), *((0, 0),) * (len(x.shape) - 2)])
            return ops.reshape(x, (batch, clips, self.clip_length, *x.shape[2:]))

        return cut(ops.where(spread(mask, inputs), inputs, ops.zeros((), inputs.dtype))), cut(mask)

    def compute_output_spec(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        batch, frames = inputs.shape[:2]
        clips = None if frames is None else -(-frames // self.clip_length)
        shape = (batch, clips, self.clip_length)
        return (
            keras.KerasTensor((*shape, *inputs.shape[2:]), dtype=inputs.dtype),
            keras.KerasTensor(shape, dtype="bool"),
        )

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None
