"""Distances between the rows of NumPy arrays, for evaluation and queries, without Keras."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rows of a matrix product are padded to a multiple of this. Libraries compute the remaining rows in another order, so
# that equal rows would differ in the last digit, and a row's product would depend on the rows next to it.
_EDGE = 16

# In float64, squared distances up to this share of the squared norms are rounding errors.
_ROUNDING = 32 * np.finfo(np.float64).eps


def distance_matrix(x: ArrayLike, y: ArrayLike, metric: str = "euclidean", block: int = 2048) -> NDArray[Any]:
    """Return the distances between all rows of two NumPy arrays, for evaluation.

    The matrix product runs in float64 on blocks of rows, with the full precision
    of float32 embeddings: equal rows have distance 0, and equal distances to any
    other row. Memory beyond the result is about `3 * block * block` float64
    values.

    Args:
        x: array `(n, features)`.
        y: array `(m, features)`.
        metric: `"euclidean"` or `"cosine"` (1 - cos; a row of zeros has distance
            1 to every row).
        block: int, rows of `x` and of `y` per matrix product.

    Returns:
        float32 array `(n, m)`, float64 if an input is float64.

    Raises:
        ValueError: if the metric is unknown, the shapes do not match, `block` is
            not positive, or a value is NaN or infinite.

    Example:

    >>> kreid.distances.distance_matrix(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[5.0, 0.0]]
    """
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"`metric` must be 'euclidean' or 'cosine'. Received: metric={metric!r}")
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"Give two arrays of rows with the same number of features. Received: x.shape={x.shape}, y.shape={y.shape}"
        )
    if block < 1:
        raise ValueError(f"`block` must be at least 1. Received: block={block}")
    result = np.empty((len(x), len(y)), np.float64 if np.float64 in (x.dtype, y.dtype) else np.float32)
    for column in range(0, len(y), block):
        columns, column_squares = _rows_float64(y, slice(column, column + block), metric, "y")
        for row in range(0, len(x), block):
            rows, row_squares = _rows_float64(x, slice(row, row + block), metric, "x")
            target = result[row : row + block, column : column + block]
            product = (rows @ columns.T)[: target.shape[0], : target.shape[1]]
            if metric == "cosine":
                np.clip(np.subtract(1.0, product, out=product), 0.0, 2.0, out=product)
                product[product < _ROUNDING] = 0.0
                target[...] = product
                continue
            scale = row_squares[: len(target), None] + column_squares[None, : target.shape[1]]
            product *= -2.0
            product += scale
            # Set the rounding errors of equal rows to 0, because their square roots would be considerable.
            product[product <= np.multiply(scale, _ROUNDING, out=scale)] = 0.0
            np.sqrt(product, out=product)
            target[...] = product
    return result


def check_finite(embeddings: np.ndarray, name: str) -> None:
    """Raise `ValueError` for the first row with NaN or an infinity; see `not_finite`."""
    for start in range(0, len(embeddings), 4096):
        finite = np.isfinite(embeddings[start : start + 4096]).all(axis=1)
        if not finite.all():
            raise not_finite(embeddings, start + int(np.argmin(finite)), name)


def not_finite(embeddings: np.ndarray, row: int, name: str) -> ValueError:
    """Return the error for a row with NaN, an infinity, or a value whose square is infinite."""
    with np.errstate(over="ignore"):
        column = int(np.argmin(np.isfinite(np.square(embeddings[row], dtype=np.float64))))
    return ValueError(
        "Embeddings must be finite; leave out the rows that are not. Received: "
        f"{name}[{row}, {column}]={embeddings[row, column]}"
    )


def _rows_float64(array, part, metric, name):
    values = array[part]
    rows = np.zeros((-(-len(values) // _EDGE) * _EDGE, values.shape[1]))
    rows[: len(values)] = values
    squares = np.einsum("nd,nd->n", rows, rows)
    finite = np.isfinite(squares)
    if not finite.all():
        raise not_finite(array, part.start + int(np.argmin(finite)), name)
    if metric == "cosine":
        norms = np.sqrt(squares)
        rows = rows / np.where(norms == 0, 1.0, norms)[:, None]
    return rows, squares
