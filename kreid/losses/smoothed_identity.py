"""Cross-entropy over identities with smoothed labels."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.distances import at_least_float32
from kreid.losses.base import IdentityLoss, labels_of


def smoothed_identity(y_true: Tensor, y_pred: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with the target `(1 - smoothing) * onehot + smoothing / K`, one value per tracklet.

    K is the number of identities. A label outside `[0, K)` gives NaN on every
    backend, so that a classifier that is too small shows at the first step.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: logits `(batch, K)`; no softmax before it.
        smoothing: number from 0 to below 1. 0 is plain cross-entropy.

    Returns:
        float32 tensor `(batch,)`.

    Raises:
        ValueError: if `smoothing` is outside its range.

    Example:

    >>> [round(float(value), 4) for value in kreid.losses.smoothed_identity([1], np.zeros((1, 4), "float32"))]
    [1.3863]

    Reference: Szegedy et al., Rethinking the Inception Architecture, 2016,
    section 7. With `smoothing=0`, equation 10 of STA (Fu et al., 2019).
    """
    _check(smoothing)
    labels = labels_of(y_true)
    log_probabilities = ops.log_softmax(at_least_float32(y_pred), axis=-1)
    identities = ops.shape(log_probabilities)[-1]
    known = ops.logical_and(labels >= 0, labels < identities)
    index = ops.where(known, labels, 0)[:, None]
    values = -(1.0 - smoothing) * ops.squeeze(ops.take_along_axis(log_probabilities, index, axis=-1), -1)
    if smoothing:
        values = values - smoothing * ops.mean(log_probabilities, axis=-1)
    return ops.where(known, values, float("nan"))


@keras.saving.register_keras_serializable(package="kreid")
class SmoothedIdentity(IdentityLoss):
    """Cross-entropy over identities with smoothed labels, from logits.

    See `smoothed_identity`.

    Args:
        smoothing: number from 0 to below 1.
        reduction: Keras reduction. The default is the mean; `"sum"` is the sum
            over the batch of STA's equation 10.
        name: name of the loss.
        dtype: see `IdentityLoss`; computed in float32 at least.

    Call arguments:
        y_true: identity labels from 0 to K - 1.
        y_pred: logits.
        sample_weight: optional weights.

    Input shape: labels `(batch,)` or `(batch, 1)`; logits `(batch, K)`.
    Output shape: scalar, or `(batch,)` for `reduction=None`.

    Raises:
        ValueError: if `smoothing` is outside its range.

    Example:

    >>> round(float(kreid.losses.SmoothedIdentity()([0, 1], np.zeros((2, 4), "float32"))), 4)
    1.3863

    Reference: Szegedy et al., 2016, section 7.
    """

    def __init__(
        self,
        smoothing: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_identity",
        dtype: Any = None,
    ) -> None:
        _check(smoothing)
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.smoothing = smoothing

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per tracklet."""
        return smoothed_identity(y_true, y_pred, self.smoothing)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"smoothing": self.smoothing, **super().get_config()}


def _check(smoothing):
    if isinstance(smoothing, bool) or not isinstance(smoothing, (int, float)) or not 0 <= smoothing < 1:
        raise ValueError(f"`smoothing` is a number from 0 to below 1. Received: smoothing={smoothing!r}")
