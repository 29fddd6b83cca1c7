"""Triplet loss with semi-hard negatives."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import check_triplet, comparable, finished, hinge, pairs_of, positives_of_counted


def semi_hard_triplet(y_true: Tensor, y_pred: Tensor, margin: float | str = 0.3, distance: str = "euclidean") -> Tensor:
    """Triplet loss with semi-hard negatives, one value per anchor: the mean over its positives.

    A pair of an anchor and a positive is compared with the nearest negative that
    is farther from the anchor than the positive, or with the anchor's farthest
    negative if all are nearer: `max(0, margin + d(anchor, positive) - d(anchor, negative))`. An anchor without a
    positive or without a negative gives 0.

    Memory grows with the third power of the batch: 64 MiB for 256 embeddings.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        margin: number, at least 0, or `"soft"` for `softplus` in place of
            `max(0, margin + ...)`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if `margin` or `distance` is none of the above.

    Example:

    >>> x = np.array([[0.0], [1.0], [3.0], [3.5]], dtype="float32")
    >>> [float(value) for value in kreid.losses.semi_hard_triplet([0, 0, 1, 1], x, margin=2.5)]
    [0.5, 1.5, 1.0, 0.5]

    Reference: Schroff et al., FaceNet, 2015, equations 2 and 4. The farthest
    negative where none is semi-hard, and the mean over the positives, are as in
    TensorFlow Addons, whose default margin is 1.
    """
    check_triplet(margin, distance)
    positives, negatives = pairs_of(labels_of(y_true))
    values = comparable(distance, y_pred)
    largest = ops.max(ops.stop_gradient(values))
    # Anchors by positives by negatives.
    to_negatives = ops.expand_dims(values, 1)
    farther = ops.logical_and(ops.expand_dims(negatives, 1), to_negatives > ops.expand_dims(values, 2))
    semi_hard = ops.min(ops.where(farther, to_negatives, largest), axis=2)
    farthest = ops.max(ops.where(negatives, values, 0), axis=1, keepdims=True)
    chosen = ops.where(ops.any(farther, axis=2), semi_hard, farthest)
    losses = hinge(margin, finished(distance, values) - finished(distance, chosen))
    numbers = ops.cast(positives_of_counted(positives, negatives), losses.dtype)
    return ops.divide_no_nan(ops.sum(ops.where(positives, losses, 0), axis=1), numbers)


@keras.saving.register_keras_serializable(package="kreid")
class SemiHardTriplet(MetricLoss):
    """Triplet loss with semi-hard negatives on embeddings.

    See `semi_hard_triplet` for the value of one anchor, and `MetricLoss` for
    anchors that do not count, labels and replicas. A mean is over all pairs of an
    anchor and a positive.

    Args:
        margin: number, at least 0, or `"soft"`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.
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
        ValueError: if `margin`, `distance` or `reduction` is unknown, or labels are not
            one per tracklet.

    Example:

    >>> x = np.array([[0.0], [1.0], [3.0], [3.5]], dtype="float32")
    >>> float(kreid.losses.SemiHardTriplet(margin=2.5)([0, 0, 1, 1], x))
    0.875

    Reference: Schroff et al., FaceNet, 2015, equations 2 and 4.
    """

    def __init__(
        self,
        margin: float | str = 0.3,
        distance: str = "euclidean",
        reduction: str | None = "sum_over_batch_size",
        name: str = "semi_hard_triplet",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        check_triplet(margin, distance)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.margin = margin
        self.distance = distance

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return semi_hard_triplet(y_true, y_pred, self.margin, self.distance)

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the number of positives of each anchor that has a negative."""
        return positives_of_counted(positives, negatives)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "distance": self.distance, **super().get_config()}
