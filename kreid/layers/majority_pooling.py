"""Pooling over the frames that show what most frames show."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.layers.centred_pooling import CentredPooling
from kreid.layers.portable import first_largest, identity

WEIGHTINGS = ("similarity", "equal")
# The eigenvector is that of the similarities to the power 2 ** _SQUARINGS: all starts of a power iteration at once.
_SQUARINGS = 8
# The weights are those of 2 ** _WEIGHT_SQUARINGS steps from equal weights.
_WEIGHT_SQUARINGS = 5
# Below it two sides of equal size are equally alike, up to rounding.
_EQUALLY_ALIKE = 1e-5


@keras.saving.register_keras_serializable(package="kreid")
class MajorityPooling(CentredPooling):
    """Average the frames of the larger of two groups where a tracklet falls into two, with most weight on its core.

    A tracker that switches to another person gives a tracklet of two persons. The frame vectors, less the mean frame
    vector m of training and scaled to length 1, have the L x L matrix of similarities `S = U U^T`. The signs of the
    leading eigenvector of `H S H`, `H = I - 1/L`, cut the frames in two. If the mean similarity of pairs within a side
    exceeds that of pairs across by more than `threshold`, the larger side is kept; of equally large sides the one whose
    frames are more alike. Otherwise all frames are kept.

    Each kept frame is weighted by the leading eigenvector of the kept frames' `max(S, 0)^2`, elementwise: it counts by
    its likeness to frames that count. Frames of further persons, each another's, get little. The output is the weighted
    mean of the frames' own vectors. No weight is trained.

    Two frames cannot be cut (no side has a pair), nor one, and have equal weights; equal frames too. Everything is kept
    where both sides are equally large and alike up to 1e-5. A frame that equals m has weight 0 unless all do.

    Masking: masked frames have weight 0, whatever they hold. A tracklet without a real frame gives zeros. The order of
    the frames does not matter. Similarities are computed in float32; gradients pass through the kept frames' vectors,
    not through the choice and the weights.

    In training the mean of the batch's real frames is subtracted, and `moving_mean` follows it with momentum 0.9, as in
    batch normalisation; a frozen layer subtracts `moving_mean`.

    Args:
        threshold: smallest difference of mean similarities, within sides and across, of a cut.
        weighting: of the kept frames: `"similarity"`, as above, or `"equal"`, their plain mean.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Attributes:
        moving_mean: m, a weight that is not trained, float32 `(C,)`; `set_mean(vector)` sets it.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.
        training: subtract the batch's mean.
        return_attention: also return the weight of each frame.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, C)`; attention `(batch, frames)`, float32, summing to 1, 0 for frames cut off.

    Raises:
        ValueError: for an argument out of its range, or inputs or a mask of another shape.

    Example:

    >>> frames = np.array([[[1.0, 0.0], [1.0, 0.1], [0.9, 0.0], [-0.2, 1.0], [-0.1, 1.0]]], "float32")
    >>> _, weights = kreid.layers.MajorityPooling()(frames, return_attention=True)
    >>> [round(float(weight), 2) for weight in weights[0]]
    [0.33, 0.33, 0.33, 0.0, 0.0]

    Source: kreid's own, from spectral bisection: Fiedler, Algebraic connectivity of graphs, 1973, cuts by the signs of
    an eigenvector too. The eigenvector is found by power iteration with the columns of the matrix as starts, 256 steps
    as 8 squarings; the start with the largest result is taken. The weights are those of 32 steps from equal weights.
    """

    def __init__(self, threshold: float = 0.25, weighting: str = "similarity", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 2:
            raise ValueError(
                f"The threshold is a difference of cosines, from 0 to 2. Received: threshold={threshold!r}"
            )
        if weighting not in WEIGHTINGS:
            raise ValueError(f"Choose one of {', '.join(WEIGHTINGS)}. Received: weighting={weighting!r}")
        self.threshold = threshold
        self.weighting = weighting

    def frame_weights(self, units: Tensor, mask: Tensor) -> Tensor:
        units = ops.stop_gradient(units)
        real = ops.cast(mask, "float32")
        similarities = ops.matmul(units, ops.swapaxes(units, 1, 2))
        one = ops.cast(leading_eigenvector(similarities, real) >= 0, "float32") * real
        other = real - one
        alike = [_mean_within(similarities, side) for side in (one, other)]
        sizes = [ops.sum(side, axis=1) for side in (one, other)]
        pairs = [size * (size - 1) for size in sizes]
        within = (alike[0] * pairs[0] + alike[1] * pairs[1]) / ops.maximum(pairs[0] + pairs[1], 1.0)
        between = ops.sum(ops.expand_dims(one, 2) * similarities * ops.expand_dims(other, 1), axis=(1, 2))
        across = between / ops.maximum(sizes[0] * sizes[1], 1.0)
        # Positive for the first side, negative for the second.
        preferred = ops.where(
            sizes[0] == sizes[1],
            ops.where(ops.abs(alike[0] - alike[1]) > _EQUALLY_ALIKE, alike[0] - alike[1], 0.0),
            sizes[0] - sizes[1],
        )
        cut = ops.logical_and(sizes[0] * sizes[1] * (pairs[0] + pairs[1]) > 0, within - across > self.threshold)
        preferred = ops.expand_dims(ops.where(cut, preferred, 0.0), 1)
        kept = ops.where(preferred == 0, real, ops.where(preferred > 0, one, other))
        weights = kept
        if self.weighting == "similarity":
            alike = ops.square(ops.maximum(similarities, 0.0)) * ops.expand_dims(kept, 2) * ops.expand_dims(kept, 1)
            weights = ops.sum(_power(alike, _WEIGHT_SQUARINGS), axis=2)
            weights = ops.where(ops.sum(weights, axis=1, keepdims=True) > 0, weights, kept)
        total = ops.sum(weights, axis=1, keepdims=True)
        return weights / ops.where(total > 0, total, 1.0)


def leading_eigenvector(similarities: Tensor, real: Tensor) -> Tensor:
    """Return the leading eigenvector of the centred similarities `H S H`, of any length and sign.

    Args:
        similarities: float32 `(batch, frames, frames)`, positive semi-definite, 0 for masked frames.
        real: float32 `(batch, frames)`, 1 for real frames.

    Returns:
        float32 `(batch, frames)`, 0 for masked frames.
    """
    length = ops.expand_dims(ops.maximum(ops.sum(real, axis=1), 1.0), (1, 2))
    rows = ops.sum(similarities, axis=2, keepdims=True) / length
    whole = ops.sum(rows, axis=1, keepdims=True) / length
    power = similarities - rows - ops.swapaxes(rows, 1, 2) + whole
    power = power * ops.expand_dims(real, 2) * ops.expand_dims(real, 1)
    power = _power(power, _SQUARINGS)
    start = first_largest(_diagonal(power), axis=1)
    return ops.sum(power * ops.expand_dims(start, 1), axis=2)


def _power(matrix: Tensor, squarings: int) -> Tensor:
    """Return the matrices `(batch, n, n)` to the power `2 ** squarings`, scaled, zeros for zeros."""
    for _ in range(squarings):
        # By the trace: no entry overflows, and the largest eigenvalue is at least 1 / n.
        trace = ops.expand_dims(ops.sum(_diagonal(matrix), axis=1), (1, 2))
        matrix = matrix / ops.maximum(trace, 1e-30)
        matrix = ops.matmul(matrix, matrix)
    return matrix


def _mean_within(similarities: Tensor, side: Tensor) -> Tensor:
    """Return the mean similarity of two different frames of a side, 0 without two."""
    size = ops.sum(side, axis=1)
    total = ops.sum(ops.expand_dims(side, 2) * similarities * ops.expand_dims(side, 1), axis=(1, 2))
    own = ops.sum(side * _diagonal(similarities), axis=1)
    return (total - own) / ops.maximum(size * (size - 1), 1.0)


def _diagonal(matrix: Tensor) -> Tensor:
    """Return the diagonals `(batch, n)` of matrices `(batch, n, n)`."""
    return ops.sum(ops.where(identity(ops.shape(matrix)[1]), matrix, 0.0), axis=2)
