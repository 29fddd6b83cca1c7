"""Lifted structured embedding loss."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import DISTANCES, check_choice, check_number, log_sum_exp, pairs_of, positives_of_counted


def lifted_structure(y_true: Tensor, y_pred: Tensor, margin: float = 1.0, distance: str = "euclidean") -> Tensor:
    """Lifted structured embedding loss, one value per anchor: the mean over its positives.

    A pair `i`, `j` of one identity is worth `max(0, J)^2 / 2` with
    `J = log(sum_k exp(margin - d(i, k)) + sum_l exp(margin - d(j, l))) + d(i, j)`
    over the negatives `k` of `i` and `l` of `j`. An anchor without a positive or
    without a negative gives 0.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        margin: number of at least 0.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if `margin` or `distance` is none of the above.

    Example:

    >>> x = np.array([[0.0], [1.0], [3.0], [3.5]], dtype="float32")
    >>> [round(float(value), 4) for value in kreid.losses.lifted_structure([0, 0, 1, 1], x)]
    [0.31, 0.31, 0.0413, 0.0413]

    Reference: Song et al., Deep Metric Learning via Lifted Structured Feature
    Embedding, 2016, equation 4, as in TensorFlow Addons.
    """
    _check(margin, distance)
    positives, negatives = pairs_of(labels_of(y_true))
    distances = DISTANCES[distance](y_pred)
    of_anchor = log_sum_exp(margin - distances, negatives)
    pairs = ops.logaddexp(of_anchor[:, None], of_anchor[None, :]) + distances
    losses = ops.where(positives, ops.square(ops.relu(pairs)) / 2, 0)
    numbers = ops.cast(positives_of_counted(positives, negatives), losses.dtype)
    return ops.divide_no_nan(ops.sum(losses, axis=1), numbers)


@keras.saving.register_keras_serializable(package="kreid")
class LiftedStructure(MetricLoss):
    """Lifted structured embedding loss.

    See `lifted_structure` for the value of one anchor, and `MetricLoss` for
    anchors that do not count, labels and replicas. A mean is over all pairs of one
    identity.

    Args:
        margin: number of at least 0.
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
    >>> round(float(kreid.losses.LiftedStructure()([0, 0, 1, 1], x)), 4)
    0.1756

    Reference: Song et al., 2016, equation 4.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        reduction: str | None = "sum_over_batch_size",
        name: str = "lifted_structure",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        _check(margin, distance)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.margin = margin
        self.distance = distance

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return lifted_structure(y_true, y_pred, self.margin, self.distance)

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the number of positives of each anchor that has a negative."""
        return positives_of_counted(positives, negatives)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "distance": self.distance, **super().get_config()}


def _check(margin, distance):
    check_number("margin", margin)
    check_choice("distance", distance, tuple(DISTANCES))
