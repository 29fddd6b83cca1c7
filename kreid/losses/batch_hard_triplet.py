"""Batch-hard triplet loss."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import check_triplet, comparable, finished, having_both, hinge, pairs_of


def batch_hard_triplet(
    y_true: Tensor, y_pred: Tensor, margin: float | str = 0.3, distance: str = "euclidean"
) -> Tensor:
    """Batch-hard triplet loss, one value per anchor.

    For each anchor, the farthest embedding of the same identity and the
    nearest of another:
    `max(0, margin + hardest_positive - hardest_negative)`. An anchor without a
    positive or without a negative gives 0. Distances are float32, exactly 0
    between equal embeddings, with finite gradients there.

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

    >>> x = np.array([[0.0], [1.0], [3.0], [3.0]], dtype="float32")
    >>> [round(float(value), 1) for value in kreid.losses.batch_hard_triplet([0, 0, 1, 1], x, margin=1.5)]
    [0.0, 0.5, 0.0, 0.0]

    Reference: Hermans et al., In Defense of the Triplet Loss for Person
    Re-Identification, 2017, equation 5, and section 3.2 for the soft margin.
    """
    check_triplet(margin, distance)
    positives, negatives = pairs_of(labels_of(y_true))
    values = comparable(distance, y_pred)
    # Distances are at least 0, so 0 never hides a positive and the largest distance never hides a negative.
    largest = ops.max(ops.stop_gradient(values), axis=1, keepdims=True)
    hardest_positive = finished(distance, ops.max(ops.where(positives, values, 0), axis=1))
    hardest_negative = finished(distance, ops.min(ops.where(negatives, values, largest), axis=1))
    return ops.where(having_both(positives, negatives), hinge(margin, hardest_positive - hardest_negative), 0)


@keras.saving.register_keras_serializable(package="kreid")
class BatchHardTriplet(MetricLoss):
    """Batch-hard triplet loss on embeddings.

    See `batch_hard_triplet` for the value of one anchor, and `MetricLoss` for
    anchors that do not count, labels and replicas.

    Args:
        margin: number, at least 0, or `"soft"`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.
        reduction: Keras reduction. The default is the mean; `"sum"` is the sum
            over the batch of STA's equation 9.
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

    >>> x = np.array([[0.0], [1.0], [3.0], [3.0]], dtype="float32")
    >>> float(kreid.losses.BatchHardTriplet(margin=1.5)([0, 0, 1, 1], x))
    0.125

    Reference: Hermans et al., 2017, equation 5; Fu et al., STA, 2019,
    equation 9. Neither gives the loss of an anchor without a positive.
    """

    def __init__(
        self,
        margin: float | str = 0.3,
        distance: str = "euclidean",
        reduction: str | None = "sum_over_batch_size",
        name: str = "batch_hard_triplet",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        check_triplet(margin, distance)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.margin = margin
        self.distance = distance

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return batch_hard_triplet(y_true, y_pred, self.margin, self.distance)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "distance": self.distance, **super().get_config()}
