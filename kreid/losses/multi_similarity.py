"""Multi-similarity loss."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.losses.base import labels_of
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.pairs import (
    DISTANCES,
    MINERS,
    check_choice,
    check_number,
    having_both,
    log_sum_exp,
    mined,
    pairs_of,
    similarities,
)


def multi_similarity(
    y_true: Tensor,
    y_pred: Tensor,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    distance: str = "cosine",
    miner: str = "informative",
    epsilon: float = 0.1,
) -> Tensor:
    """Multi-similarity loss, one value per anchor.

    With the similarities `s` of the anchor to its mined positives `p` and
    negatives `n`:
    `log(1 + sum_p exp(-alpha (s_p - base))) / alpha + log(1 + sum_n exp(beta (s_n - base))) / beta`.
    An anchor without a positive or without a negative gives 0.

    Args:
        y_true: identity labels `(batch,)` or `(batch, 1)`.
        y_pred: embeddings `(batch, features)`.
        alpha: weight of the positives' similarities, above 0.
        beta: weight of the negatives' similarities, above 0.
        base: similarity from which pairs are judged, any number.
        distance: `"cosine"` for cosines, or `"euclidean"` or
            `"squared_euclidean"` for negated distances.
        miner: `"informative"` for the negatives more similar than the least
            similar positive, and the positives less similar than the most similar
            negative, each by `epsilon` at most; `"all"`; or `"hard"` for those two
            alone.
        epsilon: slack of the miner `"informative"`, at least 0.

    Returns:
        Tensor `(batch,)`.

    Raises:
        ValueError: if an argument is none of the above.

    Example:

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype="float32")
    >>> [round(float(value), 4) for value in kreid.losses.multi_similarity([0, 0, 1, 1], x)]
    [1.1566, 1.1566, 1.1566, 1.1566]

    Reference: Wang et al., Multi-Similarity Loss with General Pair Weighting for
    Deep Metric Learning, 2019, equation 15, and equations 10 and 11 for the
    miner. The paper's base is 1; its authors' code has 0.5.
    """
    _check(alpha, beta, base, distance, miner, epsilon)
    positives, negatives = pairs_of(labels_of(y_true))
    counted = having_both(positives, negatives)
    similarity = similarities(distance, y_pred)
    positives, negatives = mined(miner, -similarity, positives, negatives, epsilon)
    pulled = ops.softplus(log_sum_exp(-alpha * (similarity - base), positives)) / alpha
    pushed = ops.softplus(log_sum_exp(beta * (similarity - base), negatives)) / beta
    return ops.where(counted, pulled + pushed, 0)


@keras.saving.register_keras_serializable(package="kreid")
class MultiSimilarity(MetricLoss):
    """Multi-similarity loss on embeddings.

    See `multi_similarity` for the value of one anchor, and `MetricLoss` for
    anchors that do not count, labels and replicas. An anchor none of whose pairs is
    informative counts, with the value 0, as in the paper.

    Args:
        alpha: weight of the positives' similarities, above 0.
        beta: weight of the negatives' similarities, above 0.
        base: similarity from which pairs are judged.
        distance: `"cosine"`, `"euclidean"` or `"squared_euclidean"`.
        miner: `"informative"`, `"all"` or `"hard"`.
        epsilon: slack of the miner `"informative"`, at least 0.
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
        ValueError: if an argument is none of the above, or labels are not one per tracklet.

    Example:

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype="float32")
    >>> round(float(kreid.losses.MultiSimilarity()([0, 0, 1, 1], x)), 4)
    1.1566

    Reference: Wang et al., 2019, equation 15.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        distance: str = "cosine",
        miner: str = "informative",
        epsilon: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "multi_similarity",
        dtype: Any = None,
        mining: str = "global",
    ) -> None:
        _check(alpha, beta, base, distance, miner, epsilon)
        super().__init__(reduction=reduction, name=name, dtype=dtype, mining=mining)
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.distance = distance
        self.miner = miner
        self.epsilon = epsilon

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return one value per anchor."""
        return multi_similarity(
            y_true, y_pred, self.alpha, self.beta, self.base, self.distance, self.miner, self.epsilon
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "distance": self.distance,
            "miner": self.miner,
            "epsilon": self.epsilon,
            **super().get_config(),
        }


def _check(alpha, beta, base, distance, miner, epsilon):
    check_number("alpha", alpha, "above 0")
    check_number("beta", beta, "above 0")
    check_number("base", base, "of any sign")
    check_number("epsilon", epsilon)
    check_choice("distance", distance, tuple(DISTANCES))
    check_choice("miner", miner, MINERS)
