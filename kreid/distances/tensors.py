"""Pairwise distances of tensors, and a square root with safe gradients, for losses and layers.

The distances sum squared differences, block by block of features, instead of expanding `|x|^2 + |y|^2 - 2 x.y`.
Differences are exact for equal vectors and have exact gradients. The expansion loses small distances to rounding: equal
embeddings of norm 30 get a distance of 0.01 in float32, and TensorFloat-32 matrix products are a thousand times worse.
"""

import keras
from keras import ops

from kreid._typing import Tensor

# Limits the memory of the differences to `n * m * 128` values.
_FEATURES_AT_ONCE = 128

# Smallest normal numbers. Below them square roots may be flushed to 0, with infinite gradients.
_TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` as a float32 tensor; float64 stays float64.

    Args:
        x: tensor or array of any number type.

    Returns:
        A tensor of the same shape.

    Example:

    >>> at_least = kreid.distances.at_least_float32(np.ones(2, dtype="float16"))
    >>> str(np.asarray(at_least).dtype)
    'float32'
    """
    x = ops.convert_to_tensor(x)
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def safe_sqrt(x: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0.

    The plain square root has an infinite gradient at 0, which turns into NaN for
    a sum that is exactly 0, as for repeated frames or equal embeddings. Negative
    and subnormal values count as 0. NaN stays NaN.

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor like `x`.

    Example:

    >>> [float(root) for root in kreid.distances.safe_sqrt(np.array([0.0, 4.0], dtype="float32"))]
    [0.0, 2.0]
    """
    x = ops.convert_to_tensor(x)
    zero = x < _TINY[keras.backend.standardize_dtype(x.dtype)]
    return ops.where(zero, ops.zeros_like(x), ops.sqrt(ops.where(zero, ops.ones_like(x), x)))


def pairwise_squared_euclidean(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the squared Euclidean distances between all rows of `x` and of `y`.

    Computed in float32 for any input dtype (float64 stays float64). Equal rows
    have distance 0 exactly.

    Args:
        x: tensor `(..., n, features)`.
        y: optional tensor `(..., m, features)`. Defaults to `x`.

    Returns:
        Tensor `(..., n, m)`.

    Raises:
        ValueError: if the numbers of features differ or are unknown.

    Example:

    >>> x = np.array([[0.0, 0.0], [3.0, 4.0]], dtype="float32")
    >>> float(kreid.distances.pairwise_squared_euclidean(x)[0, 1])
    25.0
    """
    return _summed(lambda one, other: ops.square(one - other), *_pair(x, y))


def pairwise_dot(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the inner products of all rows of `x` with all rows of `y`.

    Computed in float32 for any input dtype (float64 stays float64), without TensorFloat-32.

    Args:
        x: tensor `(..., n, features)`.
        y: optional tensor `(..., m, features)`. Defaults to `x`.

    Returns:
        Tensor `(..., n, m)`.

    Raises:
        ValueError: if the numbers of features differ or are unknown.

    Example:

    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]], dtype="float32")
    >>> float(kreid.distances.pairwise_dot(x)[0, 1])
    11.0
    """
    return _summed(lambda one, other: one * other, *_pair(x, y))


def pairwise_euclidean(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the Euclidean distances between all rows of `x` and of `y`.

    The square root of `pairwise_squared_euclidean`; the gradient at distance 0
    is 0.

    Args:
        x: tensor `(..., n, features)`.
        y: optional tensor `(..., m, features)`. Defaults to `x`.

    Returns:
        Tensor `(..., n, m)`.

    Raises:
        ValueError: if the numbers of features differ or are unknown.

    Example:

    >>> x = np.array([[0.0, 0.0], [3.0, 4.0]], dtype="float32")
    >>> float(kreid.distances.pairwise_euclidean(x)[0, 1])
    5.0
    """
    return safe_sqrt(pairwise_squared_euclidean(x, y))


def pairwise_cosine(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the cosine distances, 1 - cos, between all rows of `x` and of `y`.

    Computed as half the squared distance of the normalised rows, so equal rows
    have distance 0 exactly. A row of zeros has distance 1 to every row.

    Args:
        x: tensor `(..., n, features)`.
        y: optional tensor `(..., m, features)`. Defaults to `x`.

    Returns:
        Tensor `(..., n, m)`, values from 0 to 2.

    Raises:
        ValueError: if the numbers of features differ or are unknown.

    Example:

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], dtype="float32")
    >>> [float(value) for value in kreid.distances.pairwise_cosine(x)[0]]
    [0.0, 1.0, 2.0]
    """
    x, y = _pair(x, y)
    x, x_is_zero = _normalised(x)
    y, y_is_zero = _normalised(y)
    zeros = ops.expand_dims(x_is_zero, -1) + ops.expand_dims(y_is_zero, -2)
    return (pairwise_squared_euclidean(x, y) + zeros) / 2


def _pair(x, y):
    x = at_least_float32(x)
    y = x if y is None else at_least_float32(y)
    if x.shape[-1] is None or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            "Both inputs need the same, known number of features on the last axis. "
            f"Received: x.shape={tuple(x.shape)}, y.shape={tuple(y.shape)}"
        )
    return x, y


def _summed(function, x, y):
    """Sum a function of two features over all features, for all pairs of rows."""
    total = None
    for start in range(0, x.shape[-1], _FEATURES_AT_ONCE):
        part = slice(start, start + _FEATURES_AT_ONCE)
        values = function(ops.expand_dims(x[..., part], -2), ops.expand_dims(y[..., part], -3))
        sums = ops.sum(values, axis=-1)
        total = sums if total is None else total + sums
    return total


def _normalised(x):
    norms = safe_sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
    is_zero = ops.cast(norms == 0, x.dtype)
    return x / (norms + is_zero), ops.squeeze(is_zero, -1)
