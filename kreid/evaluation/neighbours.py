"""The exact nearest neighbours of a set of tracklets, from its embeddings or from its distances.

One block of rows of the distance matrix exists at a time. From embeddings it is in float32 and only proposes
neighbours, with a margin for its rounding; differences in float64 decide. So the size of a block changes no neighbour.

A tracklet is its own nearest neighbour. Neighbours at equal distances keep the order of their rows.

A normalised distance is a distance divided by the largest distance of its row, then raised to a power.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kreid.distances.arrays import not_finite

# Bytes of one block of float32 distances.
_BLOCK_BYTES = 2**26

# Numbers of the differences that are held at once.
_DIFFERENCES = 2**18

# Rows of the embeddings that are centred at once.
_CENTRED_ROWS = 4096

# Rows and columns of a matrix product are padded to multiples of it.
_TILE = 64

_HALF_ULP = 2.0**-24


def block_rows(block: int | None, columns: int) -> int:
    """Return the rows of a block of distances: `block`, or as many as fit the memory limit."""
    return block or max(1, _BLOCK_BYTES // (4 * max(1, columns)))


def float_dtype(*arrays: np.ndarray) -> np.dtype:
    """Return float64 if one of the arrays is float64, else float32."""
    return np.dtype(np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32)


def checked_embeddings(embeddings: ArrayLike, metric: str, name: str, may_be_empty: bool = False) -> np.ndarray:
    """Check the embeddings and return them as float32 or float64 rows."""
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"`metric` is 'euclidean' or 'cosine'. Received: metric={metric!r}")
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"`{name}` is an array (tracklets, features). Received: {name}.shape={embeddings.shape}")
    if not len(embeddings) and not may_be_empty:
        raise ValueError(
            f"There is no gallery to rank; give at least one row. Received: {name}.shape={embeddings.shape}"
        )
    embeddings = embeddings.astype(float_dtype(embeddings), copy=False)
    squares = np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64)
    finite = np.isfinite(squares)
    if not finite.all():
        raise not_finite(embeddings, int(np.argmin(finite)), name)
    if metric == "cosine" and not squares.all():
        row = int(np.argmin(squares > 0))
        raise ValueError(
            "A row of zeros has no direction, so no neighbours under cosine; leave it out. Received: "
            f"{name}[{row}]={embeddings[row]}"
        )
    return embeddings


def normalised_for(embeddings: np.ndarray, metric: str) -> np.ndarray:
    """Return rows whose Euclidean distances rank as the metric does: of length 1 for cosine."""
    if metric != "cosine":
        return embeddings
    rows = embeddings.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class EmbeddedSet:
    """A set of tracklets given by embeddings: nearest neighbours and normalised distances.

    Args:
        embeddings: of `checked_embeddings`, `(tracklets, features)`.
        metric: `"euclidean"` or `"cosine"`.
        power: to which distances are raised.
    """

    def __init__(self, embeddings: np.ndarray, metric: str, power: float) -> None:
        self.size, features = embeddings.shape
        self.dtype = embeddings.dtype
        self.metric = metric
        # Of the squared distance, which for rows of length 1 is twice the cosine distance.
        self.exponent = power if metric == "cosine" else power / 2
        self.embeddings = normalised_for(embeddings, metric)
        # Squared distances do not change with the origin; a product rounds least about the mean.
        self.centre = self.embeddings.mean(axis=0, dtype=np.float64) if self.size else np.zeros(features)
        self.scale = 1.0
        self.squares = np.concatenate([np.einsum("nd,nd->n", rows, rows) for _, rows in self._parts()] or [np.zeros(0)])
        largest = np.sqrt(self.squares.max(initial=0.0))
        self.scale = 1.0 / largest if largest > 0 else 1.0
        self.squares *= self.scale**2
        # One product with it gives the squared distances less the square of the left row.
        self.right = np.empty((self.size, features + 1), np.float32)
        self.right[:, -1] = self.squares
        for part, rows in self._parts():
            self.right[part, :-1] = rows
        # Squared distance of each row's farthest row; `find_neighbours` fills it.
        self.farthest = np.zeros(self.size)

    def _centred(self, embeddings: np.ndarray) -> np.ndarray:
        return (embeddings - self.centre) * self.scale

    def _parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, self.size, _CENTRED_ROWS):
            part = slice(start, start + _CENTRED_ROWS)
            yield part, self._centred(self.embeddings[part])

    def find_neighbours(self, count: int, step: int, bar: Any) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest rows of each row, itself first, and fill `farthest`.

        Args:
            count: neighbours of a row; no more than the size of the set.
            step: rows of a block.
            bar: a `kreid._quiet.progress_bar`, updated by the rows that are done.

        Returns:
            The neighbours, int32 `(tracklets, count)`, and their normalised distances.
        """
        count = min(count, self.size)
        neighbours = np.empty((self.size, count), np.int32)
        normalised = np.empty((self.size, count))
        for start in range(0, self.size, step):
            part = slice(start, start + step)
            own = np.arange(self.size)[part]
            neighbours[part], squares, self.farthest[part] = self.nearest(self.embeddings[part], count, own)
            normalised[part] = self.normalise(squares, self.farthest[part, None])
            bar.update(len(own))
        return neighbours, normalised

    def nearest(
        self, embeddings: np.ndarray, count: int, own: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the nearest rows of each of the given embeddings.

        Args:
            embeddings: of `normalised_for`.
            count: neighbours of each.
            own: numbers of the rows that `embeddings` are, `None` for embeddings outside the set.

        Returns:
            The neighbours, their squared distances, and the squared distance of the farthest row.
        """
        left = self._centred(embeddings)
        norms = np.sqrt(np.einsum("nd,nd->n", left, left))
        # Rows of the set have norms up to 1; a longer row is divided by its norm, which changes no order.
        norms = np.maximum(norms, 1.0)
        # The largest error of a float32 product of these rows, rounding of its factors included.
        margin = (2 * (left.shape[1] + 8) * _HALF_ULP * (2 + 1 / norms)).astype(np.float32)
        left = np.concatenate([-2 * left, np.ones((len(left), 1))], axis=1) / norms[:, None]
        left = left.astype(np.float32)
        # Adjacent columns are in different groups, so that few groups hold all near columns.
        depth = int(np.clip(self.size // (16 * count), 1, 64))
        groups = -(-self.size // depth)
        block = np.empty((len(left), depth, groups), np.float32)
        flat = block.reshape(len(left), -1)
        np.matmul(left, self.right.T, out=flat[:, : self.size])
        flat[:, self.size :] = np.inf
        least = block.min(axis=1)
        # `count` groups, so at least `count` columns, are no farther.
        limits = np.partition(least, count - 1, axis=1)[:, count - 1] + margin
        row, column = _within_limits(np.less_equal, block, least, limits, self.size)
        squares = self.squared_distances(embeddings, row, column)
        if own is not None:
            squares[own[row] == column] = -1.0
        neighbours, squares = _least_of_rows(row, column, squares, len(left), count)
        flat[:, self.size :] = -np.inf
        most = block.max(axis=1)
        row, column = _within_limits(np.greater_equal, block, most, most.max(axis=1) - margin, self.size)
        farthest = np.zeros(len(left))
        np.maximum.at(farthest, row, self.squared_distances(embeddings, row, column))
        return neighbours, np.maximum(squares, 0.0), farthest

    def squared_distances(self, embeddings: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the squared distances of pairs: a row of `embeddings` and a row of the set."""
        squares = np.empty(len(row))
        step = max(1, _DIFFERENCES // max(1, embeddings.shape[1]))
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            differences = np.subtract(embeddings[row[part]], self.embeddings[column[part]], dtype=np.float64)
            np.einsum("nd,nd->n", differences, differences, out=squares[part])
        return squares

    def normalise(self, squares: np.ndarray, farthest: np.ndarray) -> np.ndarray:
        """Return the normalised distances of squared distances, which it overwrites."""
        normalised = np.divide(squares, np.where(farthest > 0, farthest, 1.0), out=squares)
        return normalised if self.exponent == 1 else np.power(normalised, self.exponent, out=normalised)

    def normalised_pairs(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the normalised distances of pairs of rows."""
        return self.normalise(self.squared_distances(self.embeddings, row, column), self.farthest[row])

    def normalised_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the normalised distances of some rows to all rows."""
        return self.normalised_to_all(self.embeddings[rows], self.farthest[rows])

    def normalised_to_all(self, embeddings: np.ndarray, farthest: np.ndarray) -> np.ndarray:
        """Return the normalised distances of embeddings to all rows, given their farthest squared distances."""
        left = self._centred(embeddings)
        left_squares = np.einsum("nd,nd->n", left, left)[:, None]
        farthest = np.where(farthest > 0, farthest, 1.0)[:, None] * self.scale**2
        left = np.concatenate([-2 * left, left_squares, np.ones_like(left_squares)], axis=1) / farthest
        result = np.empty((len(left), self.size))
        left = _whole_tiles(left)
        for part, right in self._parts():
            right = np.concatenate([right, np.ones((len(right), 1)), self.squares[part, None]], axis=1)
            target = result[:, part]
            np.maximum((left @ _whole_tiles(right).T)[: target.shape[0], : target.shape[1]], 0.0, out=target)
        return result if self.exponent == 1 else np.power(result, self.exponent, out=result)


class MeasuredSet:
    """A set of queries and a gallery given by distances of any kind: neighbours and normalised distances.

    Args:
        query_gallery: array `(queries, gallery)` of distances.
        query_query: array `(queries, queries)`.
        gallery_gallery: array `(gallery, gallery)`.
        power: to which distances are raised.
        block: rows that are checked at once, `None` for as many as fit the memory limit.

    Raises:
        ValueError: if sizes do not fit, the gallery is empty, or a distance is NaN or infinite.
    """

    def __init__(
        self,
        query_gallery: ArrayLike,
        query_query: ArrayLike,
        gallery_gallery: ArrayLike,
        power: float,
        block: int | None = None,
    ) -> None:
        self.query_gallery, self.query_query, self.gallery_gallery = (
            np.asarray(matrix) for matrix in (query_gallery, query_query, gallery_gallery)
        )
        shape = self.query_gallery.shape
        if len(shape) != 2 or self.query_query.shape != shape[:1] * 2 or self.gallery_gallery.shape != shape[1:] * 2:
            raise ValueError(
                "Give distances (queries, gallery), (queries, queries) and (gallery, gallery). Received: "
                f"query_gallery.shape={shape}, query_query.shape={self.query_query.shape}, "
                f"gallery_gallery.shape={self.gallery_gallery.shape}"
            )
        if not shape[1]:
            raise ValueError(
                f"There is no gallery to rank; give at least one column. Received: query_gallery.shape={shape}"
            )
        self.queries = shape[0]
        self.size = sum(shape)
        parts = {
            "query_gallery": self.query_gallery,
            "query_query": self.query_query,
            "gallery_gallery": self.gallery_gallery,
        }
        for name, matrix in parts.items():
            _check_finite_distances(matrix, name, block_rows(block, self.size))
        self.dtype = float_dtype(*parts.values())
        self.power = power
        # Distance of each row's farthest row; `find_neighbours` fills it.
        self.farthest = np.zeros(self.size)

    def find_neighbours(self, count: int, step: int, bar: Any) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest rows of each row, see `EmbeddedSet.find_neighbours`."""
        count = min(count, self.size)
        neighbours = np.empty((self.size, count), np.int32)
        normalised = np.empty((self.size, count))
        for start in range(0, self.size, step):
            rows = np.arange(start, min(start + step, self.size))
            distances = self._distances(rows)
            self.farthest[rows] = distances.max(axis=1)
            distances[np.arange(len(rows)), rows] = -1.0
            limits = np.partition(distances, count - 1, axis=1)[:, count - 1]
            row, column = np.nonzero(distances <= limits[:, None])
            neighbours[rows], nearest = _least_of_rows(row, column, distances[row, column], len(rows), count)
            normalised[rows] = self._normalise(np.maximum(nearest, 0.0), self.farthest[rows, None])
            # The row itself comes first, even if its given distance is not 0.
            normalised[rows, 0] = self.normalised_pairs(rows, rows)
            bar.update(len(rows))
        return neighbours, normalised

    def normalised_pairs(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the normalised distances of pairs of rows."""
        # In `query_gallery` the query is the row, whichever comes first in the pair.
        low, high = np.minimum(row, column), np.maximum(row, column)
        of_queries, of_gallery = high < self.queries, low >= self.queries
        mixed = ~of_queries & ~of_gallery
        distances = np.empty(len(row))
        distances[of_queries] = self.query_query[row[of_queries], column[of_queries]]
        distances[of_gallery] = self.gallery_gallery[row[of_gallery] - self.queries, column[of_gallery] - self.queries]
        distances[mixed] = self.query_gallery[low[mixed], high[mixed] - self.queries]
        return self._normalise(np.maximum(distances, 0.0), self.farthest[row])

    def normalised_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the normalised distances of some rows to all rows."""
        return self._normalise(self._distances(rows), self.farthest[rows, None])

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        queries, gallery = rows[rows < self.queries], rows[rows >= self.queries] - self.queries
        of_queries = np.concatenate([self.query_query[queries], self.query_gallery[queries]], axis=1)
        of_gallery = np.concatenate([self.query_gallery[:, gallery].T, self.gallery_gallery[gallery]], axis=1)
        return np.maximum(np.concatenate([of_queries, of_gallery]), 0.0, dtype=np.float64)

    def _normalise(self, distances: np.ndarray, farthest: np.ndarray) -> np.ndarray:
        return (distances / np.where(farthest > 0, farthest, 1.0)) ** self.power


TrackletSet: TypeAlias = EmbeddedSet | MeasuredSet


def _check_finite_distances(distances: np.ndarray, name: str, step: int) -> None:
    for start in range(0, len(distances), step):
        finite = np.isfinite(distances[start : start + step])
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                "Distances must be finite; look for NaN in the embeddings. Received: "
                f"{name}[{start + row}, {column}]={distances[start + row, column]}"
            )


def _whole_tiles(rows: np.ndarray) -> np.ndarray:
    """Pad with zeros: a matrix product rounds the rows of an incomplete tile differently."""
    return np.concatenate([rows, np.zeros((-len(rows) % _TILE, rows.shape[1]))])


def _within_limits(
    compare: np.ufunc, block: np.ndarray, best: np.ndarray, limits: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the entries within each row's limit, given the best entry of each group of columns."""
    row, group = np.nonzero(compare(best, limits[:, None]))
    number, layer = np.nonzero(compare(block[row, :, group], limits[row, None]))
    row, column = row[number], layer * block.shape[2] + group[number]
    return row[column < size], column[column < size]


def _least_of_rows(
    row: np.ndarray, column: np.ndarray, values: np.ndarray, rows: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and values of the `count` least entries of every row; equal values keep the order of columns."""
    order = np.lexsort((column, values, row))
    starts = np.searchsorted(row[order], np.arange(rows))
    chosen = order[starts[:, None] + np.arange(count)]
    return column[chosen], values[chosen]
