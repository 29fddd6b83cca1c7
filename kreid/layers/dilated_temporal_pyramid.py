"""Parallel dilated convolutions over the frames of a tracklet."""

from typing import Any

import keras

from kreid.layers.temporal_pyramid import TemporalPyramid


@keras.saving.register_keras_serializable(package="kreid")
class DilatedTemporalPyramid(TemporalPyramid):
    """Dilated temporal pyramid convolution (DTP): the local temporal cues of GLTR.

    N parallel convolutions of width 3 over time, the n-th with dilation `2^(n-1)`, so that a frame sees 1, 2, 4, ...
    frames to either side (equation 5). Each keeps the number of features; the results are concatenated (equation 6).

    Masking: masked frames count as zeros, like those beyond the ends, whatever they hold; they do not enter the
    statistics of batch normalisation, and become zeros. Passes the mask on. Any number of frames.

    Args:
        num_branches: N, the number of branches.
        activation: after the batch normalisation; name of a Keras activation, such as `"linear"` for none.
        scale: start of the batch normalisation's scale; a triplet loss with a margin of 0.3 needs 0.1.
        kernel_initializer: of the convolutions: `"identity"`, or the name of a Keras initialiser.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors, in time order.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, frames, N C)`.

    Raises:
        ValueError: for less than one branch, a scale of zero or below, or inputs or a mask of another shape.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 16, 8), "float32")
    >>> tuple(kreid.layers.DilatedTemporalPyramid()(frames).shape)
    (2, 16, 24)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, equations 5
    and 6. Equation 5 sums frames `t + r` to `t + 3r`; as equation 2 has frames on both sides, kreid centres them.
    kreid's choices: zero padding, batch normalisation and ReLU after each convolution, because without
    ReLU the mean over frames would undo the convolution except at the ends; the start of each convolution.
    """

    def make_convolution(self, number: int, filters: int, **kwargs: Any) -> keras.layers.Layer:
        return keras.layers.Conv1D(filters, 3, dilation_rate=2**number, **kwargs)
