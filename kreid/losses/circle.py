"""Circle loss."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import (
    MINERS,
    check_choice,
    check_number,
    having_both,
    log_sum_exp,
    mined,
    pairs_of,
    similarities,
)

_MINERS = MINERS[:2]


def circle(y_true: Tensor, y_pred: Tensor, margin: float = 0.25, scale: float = 128.0, miner: str = "all") -> Tensor:
    """Circle loss, one value per anchor.

    With the cosines `s` of the anchor to its positives `p` and negatives `n`:
    `log(1 + sum_n exp(scale a_n (s_n - margin)) sum_p exp(-scale a_p (s_p - 1 + margin)))`.
    The weights `a_p = max(0, 1 + margin - s_p)` and `a_n = max(0, s_n + margin)`
    have no gradient. An anchor without a positive or without a negative gives 0.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        margin: number of at least 0.
        scale: factor on the similarities, above 0.
        miner: `"all"` pairs, or `"hard"` for each anchor's least similar positive
            and most similar negative.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if `margin`, `scale` or `miner` is none of the above.

    Example:

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype="float32")
    >>> [round(float(value), 1) for value in kreid.losses.circle([0, 0, 1, 1], x, scale=10)]
    [18.8, 18.8, 18.8, 18.8]

    Reference: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
    Optimization, 2020, equations 5 and 6, with `O_p = 1 + m`, `O_n = -m`,
    `Delta_p = 1 - m` and `Delta_n = m`. The defaults are the paper's for person
    re-identification. It is made for cosines, so there is no other distance.
    """
    _check(margin, scale, miner)
    positives, negatives = pairs_of(labels_of(y_true))
    counted = having_both(positives, negatives)
    similarity = similarities("cosine", y_pred)
    positives, negatives = mined(miner, -similarity, positives, negatives)
    constant = ops.stop_gradient(similarity)
    pulled = -scale * ops.relu(1 + margin - constant) * (similarity - 1 + margin)
    pushed = scale * ops.relu(constant + margin) * (similarity - margin)
    return ops.where(counted, ops.softplus(log_sum_exp(pulled, positives) + log_sum_exp(pushed, negatives)), 0)


@keras.saving.register_keras_serializable(package="kreid")
class Circle(MetricLoss):
    """Circle loss on embeddings.

    See `circle` for the value of one anchor, and `MetricLoss` for anchors that
    do not count, labels and replicas.

    Args:
        margin: number of at least 0.
        scale: factor on the similarities, above 0.
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
        ValueError: if `margin`, `scale`, `miner` or `reduction` is unknown, or labels are
            not one per tracklet.

    Example:

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype="float32")
    >>> round(float(kreid.losses.Circle(scale=10)([0, 0, 1, 1], x)), 1)
    18.8

    Reference: Sun et al., 2020, equation 6.
    """

    def __init__(
        self,
        margin: float = 0.25,
        scale: float = 128.0,
        miner: str = "all",
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        _check(margin, scale, miner)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.margin = margin
        self.scale = scale
        self.miner = miner

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return circle(y_true, y_pred, self.margin, self.scale, self.miner)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"margin": self.margin, "scale": self.scale, "miner": self.miner, **super().get_config()}


def _check(margin, scale, miner):
    check_number("margin", margin)
    check_number("scale", scale, "above 0")
    check_choice("miner", miner, _MINERS)
