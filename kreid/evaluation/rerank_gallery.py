"""A gallery that is re-ranked for queries as they come."""

import io
import os
import zipfile

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from kreid._files import write_atomically
from kreid._quiet import progress_bar
from kreid.evaluation.neighbours import EmbeddedSet, block_rows, checked_embeddings, float_dtype, normalised_for
from kreid.evaluation.reciprocal import (
    averaged_vectors,
    expanded_sets,
    half_length,
    list_length,
    mixed_distances,
    reciprocal_neighbours,
    set_vectors,
    set_weights,
    sparse_rows,
    step_rows,
)
from kreid.evaluation.reranking import Reranking
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

_DEFAULT = Reranking()

# Options that change the result, in the order of `Reranking`.
_OPTIONS = ("k1", "k2", "lambda_", "power")
_ARRAYS = ("embeddings", "neighbours", "farthest", "metric", *_OPTIONS)


class RerankingGallery:
    """A gallery whose neighbours are computed once, to be re-ranked for queries as they come.

    `rerank_embeddings` takes queries and gallery as one set. Here each query meets the gallery alone: it has neighbours
    in the gallery, and is a neighbour of the entries near to it, but the entries keep the neighbours, vectors and
    farthest distances that they have among themselves.

    So other queries have no effect on a query's distances. A query that is no entry's neighbour, and not farther from
    an entry than all others, has the distances that `rerank_embeddings` gives it alone. The distances of other queries
    differ, most where few entries show a person.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(gallery, features)`.
        metric: with an array, see `rerank_embeddings`.
        reranking: a `Reranking`, the options.
        progress: show a progress bar while neighbours are computed.

    Raises:
        ValueError: if the gallery is empty, an embedding is NaN or infinite, or one is zero under cosine.

    Example:

    >>> options = kreid.evaluation.Reranking(k1=2, k2=1)
    >>> rows = [[0.0, 0.1], [0.3, 0.0], [5.0, 5.0], [5.2, 5.0]]
    >>> gallery = kreid.evaluation.RerankingGallery(rows, reranking=options)
    >>> gallery.rerank([[0.0, 0.0]])[0].argsort().tolist()
    [0, 1, 2, 3]

    Reference: Zhong et al., see `rerank_embeddings`.
    """

    def __init__(
        self,
        embeddings: TrackletEmbeddings | ArrayLike,
        metric: str | None = None,
        reranking: Reranking = _DEFAULT,
        *,
        progress: bool = False,
    ):
        embeddings, *_, metric = labelled(embeddings, metric=metric)
        embeddings = checked_embeddings(embeddings, metric, "embeddings")
        entries = EmbeddedSet(embeddings, metric, reranking.power)
        with progress_bar(total=entries.size, desc="neighbours", unit=" tracklets", disable=not progress) as bar:
            step = block_rows(reranking.block, entries.size)
            neighbours, _ = entries.find_neighbours(list_length(reranking), step, bar)
        self._prepare(embeddings, entries, neighbours, reranking)

    def _prepare(
        self, embeddings: np.ndarray, entries: EmbeddedSet, neighbours: np.ndarray, reranking: Reranking
    ) -> None:
        """Compute what every query needs from the neighbours of the entries."""
        self.embeddings = embeddings
        self._entries, self._neighbours, self._reranking = entries, neighbours, reranking
        count = min(reranking.k1 + 1, entries.size)
        rows = np.repeat(np.arange(entries.size), count)
        squares = entries.squared_distances(entries.embeddings, rows, neighbours[:, :count].ravel())
        self._neighbour_squares = squares.reshape(-1, count)
        normalised = entries.normalise(self._neighbour_squares.copy(), entries.farthest[:, None])
        self._half = neighbours[:, : half_length(reranking)]
        self._half_reciprocal = reciprocal_neighbours(self._half)
        self._vectors = set_vectors(entries, neighbours, normalised, reranking)
        self._averaged = averaged_vectors(self._vectors, neighbours, reranking).tocsc()

    def rerank(self, query_embeddings: ArrayLike) -> np.ndarray:
        """Return the re-ranked distances of queries to the gallery.

        Args:
            query_embeddings: array `(queries, features)`.

        Returns:
            Array `(queries, gallery)`, float32, float64 if the queries or the gallery are float64.

        Raises:
            ValueError: if the number of features is another, an embedding is NaN or infinite, or one is zero under
                cosine.
        """
        queries = checked_embeddings(query_embeddings, self._entries.metric, "query_embeddings", may_be_empty=True)
        if queries.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"The gallery's embeddings have {self.embeddings.shape[1]} features. Received: "
                f"query_embeddings.shape={queries.shape}"
            )
        comparable = normalised_for(queries, self._entries.metric)
        result = np.empty((len(queries), self._entries.size), float_dtype(queries, self.embeddings))
        step = block_rows(self._reranking.block, self._entries.size)
        for start in range(0, len(queries), step):
            result[start : start + step] = self._reranked(comparable[start : start + step])
        return result

    def _reranked(self, queries: np.ndarray) -> np.ndarray:
        entries, reranking = self._entries, self._reranking
        size = entries.size
        count = min(max(reranking.k1, reranking.k2 - 1), size)
        neighbours, squares, farthest = entries.nearest(queries, count)
        # The query itself comes first, as one more column.
        neighbours = np.concatenate([np.full((len(queries), 1), size, neighbours.dtype), neighbours], axis=1)
        squares = np.concatenate([np.zeros((len(queries), 1)), squares], axis=1)
        vectors = self._query_vectors(queries, neighbours, squares, farthest)
        nearest = neighbours[:, 1 : reranking.k2]
        if nearest.shape[1]:
            chosen = scipy.sparse.csr_array(
                (np.ones(nearest.size), nearest.ravel(), np.arange(len(queries) + 1) * nearest.shape[1]),
                shape=(len(queries), size),
            )
            vectors = (vectors + chosen @ self._vectors) / (1 + nearest.shape[1])
        return mixed_distances(vectors, self._averaged, entries.normalised_to_all(queries, farthest), reranking)

    def _query_vectors(
        self, queries: np.ndarray, neighbours: np.ndarray, squares: np.ndarray, farthest: np.ndarray
    ) -> scipy.sparse.csr_array:
        """Return the vectors of the queries over the entries; the weight of the query itself is left out."""
        entries, reranking = self._entries, self._reranking
        size = entries.size
        width = min(reranking.k1, size) + 1
        reciprocal = np.ones((len(queries), width), bool)
        if self._neighbour_squares.shape[1] > reranking.k1:
            # A query is among an entry's neighbours if it pushes out the last: no farther, as queries come first.
            reciprocal[:, 1:] = squares[:, 1:width] <= self._neighbour_squares[neighbours[:, 1:width], -1]
        weights, columns, counts = [], [], []
        step = step_rows(reranking, width)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            row, column = expanded_sets(neighbours[part, :width], reciprocal[part], self._half, self._half_reciprocal)
            inside = column < size
            normalised = np.zeros(len(row))  # The query's distance to itself is 0.
            pair_squares = entries.squared_distances(queries[part], row[inside], column[inside])
            normalised[inside] = entries.normalise(pair_squares, farthest[part][row[inside]])
            weights.append(set_weights(row, normalised, len(queries[part]))[inside])
            columns.append(column[inside])
            counts.append(np.bincount(row[inside], minlength=len(queries[part])))
        return sparse_rows(weights, columns, counts, size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write embeddings, neighbours and options as plain arrays, whole or not at all.

        Args:
            path: of the `.npz` file; its folder exists.
        """
        content = io.BytesIO()
        np.savez(
            content,
            embeddings=self.embeddings,
            neighbours=self._neighbours,
            farthest=self._entries.farthest,
            metric=self._entries.metric,
            **{name: getattr(self._reranking, name) for name in _OPTIONS},
        )
        write_atomically(path, content.getbuffer())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RerankingGallery":
        """Read a file that `save` wrote.

        Args:
            path: of the file.

        Returns:
            A `RerankingGallery` that gives the same distances.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if `save` did not write it.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
            reranking = Reranking(*(arrays[name].item() for name in _OPTIONS))
            metric = arrays["metric"].item()
            embeddings = checked_embeddings(arrays["embeddings"], metric, "embeddings")
            neighbours, farthest = arrays["neighbours"], arrays["farthest"]
            count = min(list_length(reranking), len(embeddings))
            if (
                neighbours.shape != (len(embeddings), count)
                or neighbours.dtype != np.int32
                or not np.array_equal(neighbours[:, 0], np.arange(len(embeddings)))
                or neighbours.max() >= len(embeddings)
                or neighbours.min() < 0
                or farthest.shape != neighbours.shape[:1]
                or not np.isfinite(farthest).all()
            ):
                raise ValueError(f"neighbours {neighbours.dtype} {neighbours.shape} of {len(embeddings)} embeddings")
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The file is no gallery that `RerankingGallery.save` wrote: {error}. Received: path={str(path)!r}"
            ) from error
        gallery = cls.__new__(cls)
        entries = EmbeddedSet(embeddings, metric, reranking.power)
        entries.farthest[:] = farthest
        gallery._prepare(embeddings, entries, neighbours, reranking)
        return gallery
