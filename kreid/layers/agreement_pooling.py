"""Pooling by the agreement of each frame with the others."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.layers.centred_pooling import CentredPooling
from kreid.layers.masking import masked_softmax


@keras.saving.register_keras_serializable(package="kreid")
class AgreementPooling(CentredPooling):
    """Average frame vectors with more weight on frames that agree with the others: robust to single wrong frames.

    `w = softmax_i(t * a_i)` over the L real frames, with `a_i = 1 / (L - 1) sum_{j != i} cos(f_i - m, f_j - m)`, and
    the output is `sum_i w_i f_i`. m is the mean frame vector of training, see `moving_mean`. No weight is trained.

    A frame that shows another person or an obstacle agrees with few others and gets little weight. Where almost half of
    the frames show one other person, their agreement is almost as high: `MajorityPooling` decides better there.

    Masking: masked frames have weight 0, whatever they hold. A single frame gets weight 1, equal frames equal weights;
    a tracklet without a real frame gives zeros. The order of the frames does not matter. Summed in float32.

    In training the mean of the batch's real frames is subtracted, and `moving_mean` follows it with momentum 0.9, as in
    batch normalisation; a frozen layer subtracts `moving_mean`. No gradient passes through the mean.

    Args:
        t: factor of the agreement; 0 gives the plain mean.
        centre: subtract the mean. Without it cosines of different persons are close to 1, and t must be about ten times
            larger.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Attributes:
        moving_mean: m, a weight that is not trained, float32 `(C,)`; `set_mean(vector)` sets it.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.
        training: subtract the batch's mean.
        return_attention: also return the weight of each frame.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: `(batch, C)`; attention `(batch, frames)`, float32, summing to 1.

    Raises:
        ValueError: for an argument out of its range, or inputs or a mask of another shape.

    Example:

    >>> frames = np.array([[[1.0, 0.0], [1.0, 0.1], [0.9, 0.0], [-0.2, 1.0]]], "float32")
    >>> _, weights = kreid.layers.AgreementPooling()(frames, return_attention=True)
    >>> [round(float(weight), 2) for weight in weights[0]]
    [0.3, 0.41, 0.3, 0.0]

    Source: kreid's own; the weights of `InterFrameDistance` are its counterpart in Jiang et al., Rethinking Temporal
    Fusion, 2020, where frames that differ count more.
    """

    def __init__(self, t: float = 10.0, centre: bool = True, **kwargs: Any) -> None:
        super().__init__(centre=centre, **kwargs)
        if isinstance(t, bool) or not isinstance(t, (int, float)) or not 0 <= t < float("inf"):
            raise ValueError(f"The factor of the agreement is a finite number of at least 0. Received: t={t!r}")
        self.t = t

    def frame_weights(self, units: Tensor, mask: Tensor) -> Tensor:
        length = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        total = ops.sum(units, axis=1, keepdims=True)
        # The sum over the other frames: over all, less the frame's own.
        agreement = ops.sum(units * (total - units), axis=-1) / ops.maximum(length - 1.0, 1.0)
        return masked_softmax(self.t * agreement, mask)
