"""Parallel convolutions of several widths over the frames of a tracklet."""

from typing import Any

import keras

from kreid.layers.temporal_pyramid import TemporalPyramid


@keras.saving.register_keras_serializable(package="kreid")
class UndilatedTemporalPyramid(TemporalPyramid):
    """Pyramid of wide temporal convolutions: an alternative to `DilatedTemporalPyramid` with the same view.

    The n-th of N parallel convolutions has width `2^n + 1` (3, 5, 9, 17) and no dilation: the same view, with a
    weight for every frame in it.

    Masking: as in `DilatedTemporalPyramid`.

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
    >>> tuple(kreid.layers.UndilatedTemporalPyramid(num_branches=2)(frames).shape)
    (2, 16, 16)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, section 4.3
    and figure 6, "pyramid temporal convolution without dilation".
    """

    def make_convolution(self, number: int, filters: int, **kwargs: Any) -> keras.layers.Layer:
        return keras.layers.Conv1D(filters, 2 ** (number + 1) + 1, **kwargs)
