"""Convolutions over windows of the frames of a tracklet, side by side."""

import keras
from keras import ops

from kreid.layers.frame_average import FrameAverage
from kreid.layers.frames_to_clips import FramesToClips
from kreid.layers.temporal_pyramid import TemporalPyramid


@keras.saving.register_keras_serializable(package="kreid")
class TemporalPyramidPooling(TemporalPyramid):
    """Temporal pyramid pooling: a rival of `DilatedTemporalPyramid` that sees coarser time instead of sparser frames.

    The n-th of N parallel branches averages windows of `2^(n-1)` adjacent frames, which do not overlap, convolves the
    means with width 3, and gives each frame what its window has got.

    Masking: masked frames are in no mean, and windows of nothing else count as zeros; they reach no statistics of batch
    normalisation. Masked frames become zeros. Passes the mask on. The number of frames is free.

    Args:
        num_branches: N, the branches.
        activation: after the batch normalisation; name of a Keras activation, such as `"linear"` for none.
        scale: where the batch normalisation's scale starts; a triplet loss with a margin of 0.3 asks for 0.1.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors, in time order.
        mask: optional bool, True on real frames, which come first.
        training: normalise by the batch.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames, N C)`.

    Raises:
        ValueError: for less than one branch, a scale of zero or below, or inputs of another rank.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 10, 8), "float32")
    >>> tuple(kreid.layers.TemporalPyramidPooling(num_branches=4)(frames).shape)
    (2, 10, 32)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, section 4.3
    and figure 6, after Zhao et al., Pyramid Scene Parsing Network, 2017. The paper says that it lowers the temporal
    resolution, that one branch is a convolution of width 3, and that the view is that of the dilated one; kreid takes
    the windows that come nearest: 3, 6, 12, 24 frames against 3, 5, 9, 17.
    """

    def __init__(self, num_branches=3, activation="relu", scale=1.0, **kwargs):
        super().__init__(num_branches, activation, scale, **kwargs)
        self.cut = [FramesToClips(2**number) for number in range(num_branches)]
        self.average = FrameAverage(axis=2, dtype=self.dtype_policy)

    def make_convolution(self, number, filters, **kwargs):
        return keras.layers.Conv1D(filters, 3, **kwargs)

    def branch(self, number, frames, mask, training):
        windows, real = self.cut[number](frames, mask=mask)
        means = self.average(windows, mask=real)
        outputs = super().branch(number, means, ops.any(real, axis=-1), training)
        return ops.repeat(outputs, 2**number, axis=1)[:, : ops.shape(frames)[1]]
