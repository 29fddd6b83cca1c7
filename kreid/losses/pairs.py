"""The pairs of a batch as masks of fixed shape, and the miners that keep some of them."""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from keras import ops

from kreid._typing import Tensor
from kreid.distances import pairwise_cosine, pairwise_euclidean, pairwise_squared_euclidean, safe_sqrt

DISTANCES = {
    "euclidean": pairwise_euclidean,
    "squared_euclidean": pairwise_squared_euclidean,
    "cosine": pairwise_cosine,
}
MINERS = ("all", "hard", "informative")

# Below every logit, and far enough above the least float32 that sums and differences with it stay finite.
_LOWEST = -1e30


def pairs_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positives and the negatives of each anchor.

    Args:
        labels: int32 `(batch,)`.

    Returns:
        Two bool tensors `(batch, batch)`, a row per anchor. An anchor is not its own positive.
    """
    positions = ops.arange(ops.shape(labels)[0])
    same = labels[:, None] == labels[None, :]
    itself = positions[:, None] == positions[None, :]
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def having_both(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return a bool tensor `(batch,)`, True for anchors with a positive and a negative."""
    return ops.logical_and(ops.any(positives, axis=1), ops.any(negatives, axis=1))


def positives_of_counted(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return the int32 number of positives of each anchor, 0 for an anchor without a negative."""
    numbers = ops.sum(ops.cast(positives, "int32"), axis=1)
    return ops.where(ops.any(negatives, axis=1), numbers, 0)


def mined(
    miner: str, distances: Tensor, positives: Tensor, negatives: Tensor, epsilon: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the positives and negatives that a miner keeps.

    Args:
        miner: `"all"`; `"hard"` for an anchor's farthest positive and nearest negative, the first of equals; or
            `"informative"` for the negatives nearer than the farthest positive, and the positives farther than the
            nearest negative, each by `epsilon` at most.
        distances: `(batch, batch)`.
        positives: see `pairs_of`.
        negatives: see `pairs_of`.
        epsilon: slack of `"informative"`.

    Returns:
        Two bool tensors `(batch, batch)`.
    """
    if miner == "all":
        return positives, negatives
    far = ops.where(positives, distances, _LOWEST)
    near = ops.where(negatives, distances, -_LOWEST)
    if miner == "hard":
        positions = ops.arange(ops.shape(distances)[0])[None, :]
        keep_positive = positions == ops.argmax(far, axis=1)[:, None]
        keep_negative = positions == ops.argmin(near, axis=1)[:, None]
    else:
        keep_positive = distances > ops.min(near, axis=1, keepdims=True) - epsilon
        keep_negative = distances < ops.max(far, axis=1, keepdims=True) + epsilon
    return ops.logical_and(positives, keep_positive), ops.logical_and(negatives, keep_negative)


def comparable(distance: str, x: Tensor) -> Tensor:
    """Return distances in the order of `distance`, whose roots `finished` takes where they are needed."""
    return pairwise_cosine(x) if distance == "cosine" else pairwise_squared_euclidean(x)


def finished(distance: str, values: Tensor) -> Tensor:
    """Return the distances that stand for values of `comparable`."""
    return safe_sqrt(values) if distance == "euclidean" else values


def similarities(distance: str, x: Tensor) -> Tensor:
    """Return cosines for `"cosine"`, and negated distances for the other distances."""
    values = DISTANCES[distance](x)
    return 1 - values if distance == "cosine" else -values


def log_sum_exp(values: Tensor, mask: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials over the masked values of each row; -1e30 for none."""
    return ops.logsumexp(ops.where(mask, values, _LOWEST), axis=1)


def hinge(margin: float | str, violation: Tensor) -> Tensor:
    """Return `max(0, margin + violation)`, or the softplus of the violation for the soft margin."""
    return ops.softplus(violation) if margin == "soft" else ops.relu(margin + violation)


def check_triplet(margin: object, distance: object) -> None:
    """Raise if a triplet loss has no such margin or distance."""
    if margin != "soft" and not (_is_finite(margin) and margin >= 0):
        raise ValueError(f"`margin` is a number of at least 0 or 'soft'. Received: margin={margin!r}")
    check_choice("distance", distance, tuple(DISTANCES))


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise if an argument is none of its choices."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(repr(choice) for choice in choices[:-1])
        raise ValueError(f"`{name}` is {known} or {choices[-1]!r}. Received: {name}={value!r}")


def check_number(name: str, value: object, kind: str = "of at least 0") -> None:
    """Raise if an argument is not a finite number of a kind: of at least 0, above 0, or of any sign."""
    allowed = _is_finite(value) and (kind == "of any sign" or value > 0 or (value == 0 and kind == "of at least 0"))
    if not allowed:
        raise ValueError(f"`{name}` is a finite number {kind}. Received: {name}={value!r}")


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
