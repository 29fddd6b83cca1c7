"""Batch-hard triplet loss."""

from typing import Any

import keras
from keras import ops

from kreid._replicas import gathered, shared_loss
from kreid._typing import Tensor
from kreid.distances import pairwise_squared_euclidean, safe_sqrt
from kreid.losses.base import IdentityLoss, check_mining, labels_of


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
        distance: `"euclidean"` or `"squared_euclidean"`.

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
    _check(margin, distance)
    labels = labels_of(y_true)
    positives, negatives = _pairs(labels)
    counted = _counted(positives, negatives)

    squared = pairwise_squared_euclidean(y_pred)
    # Distances are at least 0, so 0 never hides a positive and the largest distance never hides a negative.
    largest = ops.max(ops.stop_gradient(squared), axis=1, keepdims=True)
    hardest_positive = ops.max(ops.where(positives, squared, 0), axis=1)
    hardest_negative = ops.min(ops.where(negatives, squared, largest), axis=1)
    if distance == "euclidean":
        hardest_positive, hardest_negative = safe_sqrt(hardest_positive), safe_sqrt(hardest_negative)
    violation = hardest_positive - hardest_negative
    values = ops.softplus(violation) if margin == "soft" else ops.relu(margin + violation)
    return ops.where(counted, values, 0)


@keras.saving.register_keras_serializable(package="kreid")
class BatchHardTriplet(IdentityLoss):
    """Batch-hard triplet loss on embeddings.

    See `batch_hard_triplet` for the value of one anchor. An anchor without a
    positive or a negative in the batch does not count: it adds nothing to a sum,
    and a mean is over the anchors that count, as Keras treats masked samples. A
    batch of one identity, or of one tracklet per identity, has no such anchor:
    the loss is 0 with gradients of 0. The
    loss cannot refuse it, as labels are known only when the graph runs; use a
    sampler with at least 2 persons and 2 tracklets each.

    Labels may be any 32-bit integers.

    Where TensorFlow mirrors a model on several devices, positives and negatives
    come from the batches of all replicas, as on one device.

    Args:
        margin: number, at least 0, or `"soft"`.
        distance: `"euclidean"` or `"squared_euclidean"`.
        reduction: Keras reduction. The default is the mean; `"sum"` is the sum
            over the batch of STA's equation 9.
        name: name of the loss.
        dtype: see `IdentityLoss`; computed in float32 at least.
        mining: `"global"`, or `"replica"`: a replica's anchors are compared within
            its own batch, which must hold its identities whole.

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
        _check(margin, distance)
        check_mining(mining)
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.margin = margin
        self.distance = distance
        self.mining = mining

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the reduced loss; see the class."""
        labels = labels_of(y_true)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.cast(sample_weight, self.dtype), [-1])
        if self.mining == "global":
            labels, y_pred = gathered(labels), gathered(ops.convert_to_tensor(y_pred))
            sample_weight = None if sample_weight is None else gathered(sample_weight)
        # Only equality matters, and small numbers survive the cast to float that Keras makes.
        labels = ops.argmax(ops.cast(labels[:, None] == labels[None, :], "int32"), axis=1)
        weights = self._anchor_weights(labels)
        if sample_weight is not None:
            weights *= sample_weight
        value = super().__call__(labels, y_pred, weights)
        # Every replica has the sum over the whole batch; Keras itself shares means.
        return shared_loss(value) if self.mining == "global" and self.reduction == "sum" else value

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return batch_hard_triplet(y_true, y_pred, self.margin, self.distance)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "distance": self.distance, "mining": self.mining, **super().get_config()}

    def _anchor_weights(self, labels):
        counted = ops.cast(_counted(*_pairs(labels)), self.dtype)
        if self.reduction in ("mean", "sum_over_batch_size"):
            # Keras divides by the batch; this makes it a division by the anchors that count.
            anchors = ops.cast(ops.shape(labels)[0], self.dtype)
            return counted * ops.divide_no_nan(anchors, ops.sum(counted))
        return counted


def _check(margin, distance):
    is_number = isinstance(margin, (int, float)) and not isinstance(margin, bool)
    if margin != "soft" and not (is_number and 0 <= margin < float("inf")):
        raise ValueError(f"`margin` is a number of at least 0 or 'soft'. Received: margin={margin!r}")
    if distance not in ("euclidean", "squared_euclidean"):
        raise ValueError(f"`distance` is 'euclidean' or 'squared_euclidean'. Received: distance={distance!r}")


def _pairs(labels):
    positions = ops.arange(ops.shape(labels)[0])
    same = labels[:, None] == labels[None, :]
    itself = positions[:, None] == positions[None, :]
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def _counted(positives, negatives):
    return ops.logical_and(ops.any(positives, axis=1), ops.any(negatives, axis=1))
