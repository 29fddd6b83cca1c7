"""Multi-class N-pair loss."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.distances import pairwise_dot
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import DISTANCES, check_choice, log_sum_exp, pairs_of, positives_of_counted, similarities

_DISTANCES = ("dot", *DISTANCES)
_MINERS = ("all", "one")


def n_pairs(y_true: Tensor, y_pred: Tensor, distance: str = "dot", miner: str = "all") -> Tensor:
    """N-pair loss, one value per anchor: the mean over its positives.

    A pair of an anchor and a positive is worth
    `log(1 + sum_n exp(s(anchor, n) - s(anchor, positive)))` over the anchor's
    negatives `n`, with the inner product as similarity `s`. An anchor without a
    positive or without a negative gives 0.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        distance: `"dot"` for inner products, `"cosine"` for cosines, or
            `"euclidean"` or `"squared_euclidean"` for negated distances.
        miner: `"all"` for every anchor with all its positives and negatives, or
            `"one"` for the first embedding of each identity, with the identity's
            second as its positive and the second ones of other identities as negatives.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if `distance` or `miner` is none of the above.

    Example:

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype="float32")
    >>> [round(float(value), 4) for value in kreid.losses.n_pairs([0, 0, 1, 1], x, miner="one")]
    [0.3133, 0.0, 0.3133, 0.0]

    Reference: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss
    Objective, 2016: the (N+1)-tuplet loss for `"all"`, N-pair-mc for `"one"`. The paper's
    penalty on the norms of embeddings is left to the model.
    """
    _check(distance, miner)
    positives, negatives = _mined(miner, *pairs_of(labels_of(y_true)))
    similarity = pairwise_dot(y_pred) if distance == "dot" else similarities(distance, y_pred)
    losses = ops.softplus(log_sum_exp(similarity, negatives)[:, None] - similarity)
    numbers = ops.cast(positives_of_counted(positives, negatives), losses.dtype)
    return ops.divide_no_nan(ops.sum(ops.where(positives, losses, 0), axis=1), numbers)


@keras.saving.register_keras_serializable(package="kreid")
class NPairs(MetricLoss):
    """N-pair loss on embeddings.

    See `n_pairs` for the value of one anchor, and `MetricLoss` for anchors that
    do not count, labels and replicas. A mean is over all pairs of an anchor and a
    positive. Inner products of long embeddings are large: the loss of embeddings that are
    not normalised starts high, and their norms should be bounded by weight decay.

    Args:
        distance: `"dot"`, `"cosine"`, `"euclidean"` or `"squared_euclidean"`.
        miner: `"all"` or `"one"`.
        reduction: Keras reduction. The default is the mean.
        name: name of the loss.
        dtype: see `IdentityLoss`; computed in float32 at least.
        mining: `"global"` or `"replica"`, see `MetricLoss`.

    Call arguments:
        y_true: identity labels.
        y_pred: embeddings.
        sample_weight: optional weights of the anchors.

    Input shape: labels `(batch,)` or `(batch, 1)`; embeddings
        `(batch, features)`.
    Output shape: scalar, or `(batch,)` for `reduction=None`.

    Raises:
        ValueError: if `distance`, `miner` or `reduction` is unknown, or labels are not
            one per tracklet.

    Example:

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype="float32")
    >>> round(float(kreid.losses.NPairs(miner="one")([0, 0, 1, 1], x)), 4)
    0.3133

    Reference: Sohn, 2016.
    """

    def __init__(
        self,
        distance: str = "dot",
        miner: str = "all",
        reduction: str | None = "sum_over_batch_size",
        name: str = "n_pairs",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        _check(distance, miner)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.distance = distance
        self.miner = miner

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return n_pairs(y_true, y_pred, self.distance, self.miner)

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the number of the anchor's positives that are compared."""
        return positives_of_counted(*_mined(self.miner, positives, negatives))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"distance": self.distance, "miner": self.miner, **super().get_config()}


def _check(distance, miner):
    check_choice("distance", distance, _DISTANCES)
    check_choice("miner", miner, _MINERS)


def _mined(miner, positives, negatives):
    if miner == "all":
        return positives, negatives
    positions = ops.arange(ops.shape(positives)[0])
    earlier = ops.logical_and(positives, positions[None, :] < positions[:, None])
    place = ops.sum(ops.cast(earlier, "int32"), axis=1)  # Among the embeddings of the identity.
    compared = ops.logical_and(place[:, None] == 0, place[None, :] == 1)
    return ops.logical_and(positives, compared), ops.logical_and(negatives, compared)
