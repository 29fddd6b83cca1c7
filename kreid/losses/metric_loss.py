"""The base of the losses that compare the embeddings of a batch."""

from typing import Any

from keras import ops

from kreid._replicas import gathered, shared_loss
from kreid._typing import Tensor
from kreid.losses.base import IdentityLoss, check_mining, labels_of
from kreid.losses.pairs import having_both, pairs_of


class MetricLoss(IdentityLoss):
    """Base of the losses that compare each embedding, the anchor, with its positives and negatives in the batch.

    A subclass computes one value per anchor in `call`: the mean of the anchor's terms. `terms` says how many an anchor
    has; an anchor without terms does not count. A mean is over all terms of the batch, as Keras treats masked
    samples, and `"sum"` adds them up. A batch without terms, such as one of a single identity, gives 0 with gradients
    of 0: the loss cannot refuse it, as labels are known only when the graph runs. Use a sampler with at least 2
    persons and 2 tracklets each.

    Labels may be any 32-bit integers.

    Where TensorFlow mirrors a model on several devices, positives and negatives
    come from the batches of all replicas, as on one device.

    Args:
        reduction: Keras reduction. The default is the mean; `None` gives the values of `call`.
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
        ValueError: if `reduction` or `mining` is unknown, or labels are not one per tracklet.

    Example:

    >>> class NearestStranger(kreid.losses.MetricLoss):
    ...     def call(self, y_true, y_pred):
    ...         distances = kreid.distances.pairwise_euclidean(y_pred)
    ...         return -keras.ops.min(keras.ops.where(y_true[:, None] == y_true, 1e9, distances), axis=1)
    >>> float(NearestStranger()([0, 0, 1, 1], np.array([[0.0], [1.0], [3.0], [3.0]], dtype="float32")))
    -2.25
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        check_mining(mining)
        super().__init__(reduction=reduction, name=name, dtype=dtype)
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

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the number of terms of each anchor, by default 1 for an anchor with a positive and a negative.

        Args:
            positives: bool `(batch, batch)`, a row per anchor.
            negatives: bool `(batch, batch)`.

        Returns:
            Bool or integers `(batch,)`.
        """
        return having_both(positives, negatives)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"mining": self.mining, **super().get_config()}

    def _anchor_weights(self, labels):
        terms = ops.cast(self.terms(*pairs_of(labels)), self.dtype)
        if self.reduction in (None, "none"):
            return ops.cast(terms > 0, self.dtype)
        if self.reduction in ("mean", "sum_over_batch_size"):
            # Keras divides by the batch; this makes it a division by the terms.
            anchors = ops.cast(ops.shape(labels)[0], self.dtype)
            return terms * ops.divide_no_nan(anchors, ops.sum(terms))
        return terms
