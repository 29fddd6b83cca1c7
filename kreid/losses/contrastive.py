"""Contrastive loss of all pairs of a batch."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import DISTANCES, MINERS, check_choice, check_number, mined, pairs_of

_MINERS = MINERS[:2]


def contrastive(
    y_true: Tensor, y_pred: Tensor, margin: float = 1.0, distance: str = "euclidean", miner: str = "all"
) -> Tensor:
    """Contrastive loss, one value per anchor: the mean over its pairs.

    A pair of one identity at distance `d` is worth `d^2 / 2`, a pair of two
    identities `max(0, margin - d)^2 / 2`. The only embedding of a batch gives 0.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        margin: number of at least 0.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.
        miner: `"all"` pairs, or `"hard"` for each anchor's farthest positive and
            nearest negative.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if `margin`, `distance` or `miner` is none of the above.

    Example:

    >>> x = np.array([[0.0], [1.0], [1.5]], dtype="float32")
    >>> [float(value) for value in kreid.losses.contrastive([0, 0, 1], x)]
    [0.25, 0.3125, 0.0625]

    Reference: Hadsell et al., Dimensionality Reduction by Learning an Invariant
    Mapping, 2006, equation 4, whose factor of a half TensorFlow Addons leaves
    out. All pairs of a batch are kreid's choice.
    """
    _check(margin, distance, miner)
    positives, negatives = pairs_of(labels_of(y_true))
    distances = DISTANCES[distance](y_pred)
    positives, negatives = mined(miner, distances, positives, negatives)
    apart = ops.where(negatives, ops.square(ops.relu(margin - distances)), 0)
    losses = ops.where(positives, ops.square(distances), apart) / 2
    numbers = ops.sum(ops.cast(ops.logical_or(positives, negatives), losses.dtype), axis=1)
    return ops.divide_no_nan(ops.sum(losses, axis=1), numbers)


@keras.saving.register_keras_serializable(package="kreid")
class Contrastive(MetricLoss):
    """Contrastive loss on the pairs of a batch of embeddings.

    See `contrastive` for the value of one anchor, and `MetricLoss` for labels
    and replicas. An anchor counts as soon as there is another embedding: a batch of
    one identity is drawn together, and one tracklet per identity is pushed apart.

    Args:
        margin: number of at least 0.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.
        miner: `"all"` or `"hard"`.
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
        ValueError: if `margin`, `distance`, `miner` or `reduction` is unknown, or labels
            are not one per tracklet.

    Example:

    >>> x = np.array([[0.0], [1.0], [1.5]], dtype="float32")
    >>> round(float(kreid.losses.Contrastive()([0, 0, 1], x)), 4)
    0.2083

    Reference: Hadsell et al., 2006, equation 4.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        miner: str = "all",
        reduction: str | None = "sum_over_batch_size",
        name: str = "contrastive",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        _check(margin, distance, miner)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.margin = margin
        self.distance = distance
        self.miner = miner

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return contrastive(y_true, y_pred, self.margin, self.distance, self.miner)

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return True for each anchor that has a positive or a negative."""
        return ops.any(ops.logical_or(positives, negatives), axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "distance": self.distance, "miner": self.miner, **super().get_config()}


def _check(margin, distance, miner):
    check_number("margin", margin)
    check_choice("distance", distance, tuple(DISTANCES))
    check_choice("miner", miner, _MINERS)
