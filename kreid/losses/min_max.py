"""Min-max loss: scatter within persons over scatter between them."""

from typing import Any

import keras
from keras import ops

from kreid._replicas import gathered, shared_loss
from kreid._typing import Tensor
from kreid.distances import at_least_float32
from kreid.losses.base import IdentityLoss, check_mining, labels_of

# The ratio stays below 1 over this value; small ratios are exact up to float32's rounding.
_LEAST_SHARE = 1e-7


def min_max(y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Min-max loss of a batch, one number.

    The scatter of the embeddings around the mean of their identity, over the
    scatter of those means around the mean of all:
    `sum_k sum_i |f_i - m_k|^2 / sum_k n_k |m_k - m|^2`. The scale of the
    embeddings does not matter.

    A batch of one identity, or of equal embeddings, gives 0 with gradients of
    0: there is nothing to separate, or no scale. If
    different identities have the same mean the ratio would be infinite; it
    stays below 1e7, with finite gradients.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        sample_weight: optional weights `(batch,)` or `(batch, 1)`, at least 0,
            in all sums and means; an embedding of weight 0 does not count.

    Returns:
        Scalar tensor.

    Example:

    >>> x = np.array([[0.0], [2.0], [5.0], [7.0]], dtype="float32")
    >>> round(float(kreid.losses.min_max([0, 0, 1, 1], x)), 4)
    0.16

    Reference: Li et al., Temporal Aggregation with Clip-level Attention for
    Video-based Person Re-identification, 2020, equations 7 to 9, after Shi et
    al., Improving CNN Performance Accuracies with Min-Max Objective, 2017. The
    value 0 of a batch without two identities is kreid's choice.
    """
    labels = labels_of(y_true)
    x = at_least_float32(y_pred)
    if sample_weight is None:
        weights = ops.ones_like(x[:, 0])
    else:
        weights = ops.reshape(ops.cast(sample_weight, x.dtype), [-1])
    counted = ops.where(weights > 0, weights, 0)[:, None]

    # Differences to one embedding, in units of the largest: equal embeddings are exactly 0, and no square leaves the
    # range of float32. The loss knows neither origin nor scale, so its gradient does not go through them.
    first = ops.argmax(ops.cast(counted > 0, "int32"), axis=0)
    x = ops.where(counted > 0, x - ops.stop_gradient(ops.take(x, first, axis=0)), 0)
    largest = ops.stop_gradient(ops.max(ops.abs(x)))
    x = x / ops.where(largest > 0, largest, 1)

    # An identity's number is the position of its first embedding. Sums by number are exact where a matrix product
    # would be rounded to TensorFloat-32.
    number = ops.argmax(ops.cast(labels[:, None] == labels[None, :], "int32"), axis=1)
    x = x - ops.divide_no_nan(ops.sum(counted * x, axis=0), ops.sum(counted))
    total = ops.segment_sum(ops.concatenate([counted * x, counted], axis=1), number, ops.shape(number)[0])
    means = ops.take(ops.divide_no_nan(total[:, :-1], total[:, -1:]), number, axis=0)
    within = ops.sum(counted * ops.square(x - means))
    between = ops.sum(counted * ops.square(means))

    strangers = ops.logical_and(counted > 0, number[:, None] != ops.take(number, first, axis=0))
    measurable = ops.logical_and(ops.any(strangers), largest > 0)
    scale = ops.where(measurable, between + _LEAST_SHARE * within, 1)
    return ops.where(measurable, within / scale, 0)


@keras.saving.register_keras_serializable(package="kreid")
class MinMax(IdentityLoss):
    """Min-max loss on embeddings: compact identities, far from each other.

    See `min_max`. The loss is one ratio for the whole batch, so there is no
    reduction.

    Labels may be any 32-bit integers.

    Where TensorFlow mirrors a model on several devices, the ratio is that of the
    batches of all replicas, as on one device.

    Args:
        name: name of the loss.
        dtype: see `IdentityLoss`; computed in float32 at least.
        mining: `"global"`, or `"replica"` for the mean of the replicas' own ratios.

    Call arguments:
        y_true: identity labels.
        y_pred: embeddings.
        sample_weight: optional weights, in the sums and means of the ratio.

    Input shape: labels `(batch,)` or `(batch, 1)`; embeddings
        `(batch, features)`.
    Output shape: scalar.

    Example:

    >>> x = np.array([[0.0], [2.0], [5.0], [7.0]], dtype="float32")
    >>> round(float(kreid.losses.MinMax()([0, 0, 1, 1], x)), 4)
    0.16

    Reference: Li et al., Temporal Aggregation with Clip-level Attention for
    Video-based Person Re-identification, 2020, equation 9.
    """

    def __init__(self, name: str = "min_max", dtype: Any = None, mining: str = "global") -> None:
        check_mining(mining)
        super().__init__(reduction="sum", name=name, dtype=dtype)
        self.mining = mining

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the ratio; see the class."""
        labels, embeddings = labels_of(y_true), ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
        if self.mining == "global":
            labels, embeddings = gathered(labels), gathered(embeddings)
            if sample_weight is not None:
                sample_weight = gathered(ops.reshape(ops.cast(sample_weight, self.dtype), [-1]))
        return shared_loss(min_max(labels, embeddings, sample_weight))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype, "mining": self.mining}
