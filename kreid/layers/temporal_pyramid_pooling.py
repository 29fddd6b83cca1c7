"""Parallel convolutions over windows of the frames of a tracklet."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.layers.frame_average import FrameAverage
from kreid.layers.frames_to_clips import FramesToClips
from kreid.layers.temporal_pyramid import TemporalPyramid


@keras.saving.register_keras_serializable(package="kreid")
class TemporalPyramidPooling(TemporalPyramid):
    """Temporal pyramid pooling: an alternative to `DilatedTemporalPyramid` with coarser time.

    The n-th of N parallel branches averages windows of `2^(n-1)` adjacent frames, which do not overlap, convolves the
    means with width 3, and gives each frame the result of its window.

    Masking: masked frames enter no mean, and windows without a real frame count as zeros; neither enters the statistics
    of batch normalisation. Masked frames become zeros. Passes the mask on. Any number of frames.

    Args:
        num_branches: N, the number of branches.
        activation: after the batch normalisation; name of a Keras activation, such as `"linear"` for none.
        scale: start of the batch normalisation's scale; a triplet loss with a margin of 0.3 needs 0.1.
        kernel_initializer: of the convolutions: `"identity"`, or the name of a Keras initialiser.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors, in time order.
        mask: optional bool, True on real frames, which come first.
        training: normalise by the batch's statistics.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames, N C)`.

    Raises:
        ValueError: for less than one branch, a scale of zero or below, or inputs or a mask of another shape.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 10, 8), "float32")
    >>> tuple(kreid.layers.TemporalPyramidPooling(num_branches=4)(frames).shape)
    (2, 10, 32)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, section 4.3
    and figure 6, after Zhao et al., Pyramid Scene Parsing Network, 2017. The paper says that it lowers the temporal
    resolution, that one branch is a convolution of width 3, and that the view is that of the dilated one; kreid takes
    the nearest windows: 3, 6, 12, 24 frames against 3, 5, 9, 17.
    """

    def __init__(
        self,
        num_branches: int = 3,
        activation: str = "relu",
        scale: float = 1.0,
        kernel_initializer: str = "identity",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_branches, activation, scale, kernel_initializer, **kwargs)
        self.cut = [FramesToClips(2**number) for number in range(num_branches)]
        self.average = FrameAverage(axis=2, dtype=self.dtype_policy)

    def make_convolution(self, number: int, filters: int, **kwargs: Any) -> keras.layers.Layer:
        return keras.layers.Conv1D(filters, 3, **kwargs)

    def branch(self, number: int, frames: Tensor, mask: Tensor, training: bool | None) -> Tensor:
        windows, real = self.cut[number](frames, mask=mask)
        means = self.average(windows, mask=real)
        outputs = super().branch(number, means, ops.any(real, axis=-1), training)
        return ops.repeat(outputs, 2**number, axis=1)[:, : ops.shape(frames)[1]]
