"""k-reciprocal re-ranking, exact, in memory linear in the number of tracklets.

Two tracklets of one person tend to have the same neighbours. Each tracklet is described by a sparse vector over all
tracklets, with weights where the two are among each other's nearest; the Jaccard distance of two such vectors is mixed
with the distance of the embeddings.

Of the matrix of all distances a block of rows exists at a time, in float32. It only proposes neighbours, with a margin
for its rounding; what is kept is decided by distances from differences in float64. So neighbours do not depend on the
size of the blocks.

The order of neighbours: a tracklet is its own nearest neighbour; those at equal distances come in the order of their
rows, queries before the gallery.
"""

import io
import os
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from kreid._files import write_atomically
from kreid._quiet import progress_bar
from kreid.data.tracklet import JUNK
from kreid.distances.arrays import not_finite
from kreid.evaluation.reranking import Reranking
from kreid.evaluation.retrieval import LABELS, RetrievalResult, Ties, scorers_of_test, warn_of_unknown
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

_DEFAULT = Reranking()

# Bytes of one block of float32 distances.
_BLOCK_BYTES = 2**26

# Numbers that a step of the work on neighbour lists holds at once.
_STEP = 2**22

# Rows whose differences are taken at once.
_PAIRS = 2**18

_TILE = 64

_HALF_ULP = 2.0**-24


def _half(settings):
    """Return the neighbours of a candidate for the expansion, itself among them."""
    return int(np.around(settings.k1 / 2)) + 1


def _listed_count(settings):
    return max(settings.k1 + 1, settings.k2)


def _block_rows(settings, columns):
    return settings.block or max(1, _BLOCK_BYTES // (4 * max(1, columns)))


def rerank_embeddings(
    query_embeddings: ArrayLike,
    gallery_embeddings: ArrayLike,
    metric: str = "euclidean",
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> np.ndarray:
    """Re-rank a gallery for queries, all of them together.

    Queries and gallery are one set, in which every tracklet has neighbours: queries help each other. A tracklet that
    is both a query and in the gallery would be its own neighbour twice; for that, use `rerank_blocks`.

    Args:
        query_embeddings: array `(queries, features)`.
        gallery_embeddings: array `(gallery, features)`.
        metric: `"euclidean"` or `"cosine"` (1 - cos).
        reranking: a `Reranking`, the options.
        progress: show a progress bar.

    Returns:
        Array `(queries, gallery)` of distances from 0 to 1, float32, float64 if an input is float64.

    Raises:
        ValueError: if an option is out of range, sizes do not fit, the gallery is empty, an embedding is NaN or
            infinite, or one is zero under cosine.

    Example:

    >>> options = kreid.evaluation.Reranking(k1=2, k2=1)
    >>> gallery = [[0.0, 0.1], [0.3, 0.0], [5.0, 5.0], [5.2, 5.0]]
    >>> kreid.evaluation.rerank_embeddings([[0.0, 0.0]], gallery, reranking=options)[0].round(2).tolist()
    [0.0, 0.0, 0.99, 1.0]

    Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017. As its authors'
    code does, and the paper does not say: neighbours come on top of the tracklet itself, a candidate needs more than
    (not at least) two thirds of its own set, and a row of distances is divided by its maximum.
    """
    queries = _embeddings(query_embeddings, metric, "query_embeddings", may_be_empty=True)
    gallery = _embeddings(gallery_embeddings, metric, "gallery_embeddings")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "Queries and gallery need the same number of features. Received: "
            f"query_embeddings.shape={queries.shape}, gallery_embeddings.shape={gallery.shape}"
        )
    source = _Embedded(np.concatenate([queries, gallery]), metric, reranking.power)
    return _query_gallery(source, len(queries), reranking, progress)


def rerank_distances(
    query_gallery: ArrayLike,
    query_query: ArrayLike,
    gallery_gallery: ArrayLike,
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> np.ndarray:
    """Re-rank from distances of any kind. As `rerank_embeddings`, with the three matrices in the caller's memory.

    Args:
        query_gallery: array `(queries, gallery)` of distances; the few below 0, from rounding, count as 0.
        query_query: array `(queries, queries)`.
        gallery_gallery: array `(gallery, gallery)`.
        reranking: a `Reranking`, the options.
        progress: see `rerank_embeddings`.

    Returns:
        Array `(queries, gallery)` of distances, float32, float64 if an input is float64.

    Raises:
        ValueError: if an option is out of range, sizes do not fit, the gallery is empty, or a distance is NaN or
            infinite.

    Example:

    >>> options = kreid.evaluation.Reranking(k1=2, k2=1)
    >>> gallery = np.array([[0.0, 0.2, 9.0], [0.2, 0.0, 9.0], [9.0, 9.0, 0.0]])
    >>> kreid.evaluation.rerank_distances([[0.1, 0.1, 9.0]], [[0.0]], gallery, options)[0].round(2).tolist()
    [0.0, 0.0, 1.0]
    """
    source = _Given(query_gallery, query_query, gallery_gallery, reranking)
    return _query_gallery(source, source.queries, reranking, progress)


def rerank_blocks(
    embeddings: TrackletEmbeddings | ArrayLike,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Re-rank a set for some of its rows, a block of queries at a time; the whole matrix never exists.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`: queries and gallery, each tracklet
            once.
        query_rows: with an array, its rows that are queries.
        metric: with an array, see `rerank_embeddings`.
        reranking: a `Reranking`, the options.
        progress: see `rerank_embeddings`.

    Returns:
        An iterator over `(first_query, distances)`: the position in `query_rows` of the block's first query, and its
        re-ranked distances `(queries, tracklets)` to every row of `embeddings`.

    Raises:
        ValueError: as `rerank_embeddings` does.

    Example:

    >>> embeddings = np.array([[0.0, 0.0], [0.0, 0.1], [5.0, 5.0]])
    >>> options = kreid.evaluation.Reranking(block=1)
    >>> blocks = kreid.evaluation.rerank_blocks(embeddings, [0, 2], reranking=options)
    >>> [(first, rows.shape) for first, rows in blocks]
    [(0, (1, 3)), (1, (1, 3))]
    """
    embeddings, _, _, query_rows, metric = labelled(
        embeddings, query_rows=query_rows, metric=metric, needed=("query_rows",)
    )
    embeddings = _embeddings(embeddings, metric, "embeddings")
    return _blocks(_Embedded(embeddings, metric, reranking.power), query_rows, reranking, progress)


def evaluate_reranked(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
    reranking: Reranking = _DEFAULT,
    *,
    ties: Ties = "stable",
    ranks: Sequence[int] = (1, 5, 10, 20),
    progress: bool = False,
) -> dict[str, RetrievalResult]:
    """Score the re-ranked embeddings of all test tracklets under every protocol. As `evaluate_test`, re-ranked.

    Re-ranking sees the same set under every protocol: all test tracklets but junk, each of them once. Without the
    queries in the gallery that is queries and gallery together, as in the common toolboxes. With them, the queries
    are in the set already, and are not put there a second time to be their own nearest neighbours. A protocol chooses
    only which columns are ranked.

    Args:
        embeddings: see `evaluate_test`.
        persons: see `evaluate_test`.
        cameras: see `evaluate_test`.
        query_rows: see `evaluate_test`.
        metric: with an array, see `rerank_embeddings`.
        reranking: a `Reranking`, the options.
        ties: see `evaluate`.
        ranks: see `evaluate`.
        progress: show a progress bar.

    Returns:
        A dict from the names in `PROTOCOLS` to a `RetrievalResult` each.

    Raises:
        ValueError: as `evaluate_test` and `rerank_embeddings` do.

    Example:

    >>> embeddings = np.array([[0.0], [0.1], [0.2], [3.0]])
    >>> options = kreid.evaluation.Reranking(k1=1, k2=1)
    >>> labels = [7, 9, 7, 7], [0, 1, 1, 2]
    >>> results = kreid.evaluation.evaluate_reranked(embeddings, *labels, query_rows=[0], reranking=options)
    >>> round(results["standard"].map, 4), round(results["mars"].map, 4)
    (0.5833, 0.4167)
    """
    test = labelled(embeddings, persons, cameras, query_rows, metric, needed=LABELS)
    scorers = scorers_of_test(test, ties, ranks)
    warn_of_unknown(test.persons[test.query_rows])
    # Removed before anything is ranked: junk would be a neighbour of others.
    real = np.flatnonzero(test.persons != JUNK)
    queries = np.flatnonzero(test.persons[test.query_rows] != JUNK)
    blocks = rerank_blocks(
        test.embeddings[real],
        np.searchsorted(real, test.query_rows[queries]),
        test.metric,
        reranking,
        progress=progress,
    )
    for first, reranked in blocks:
        distances = np.zeros((len(reranked), len(test.persons)), reranked.dtype)
        distances[:, real] = reranked
        for scorer in scorers.values():
            scorer.score(queries[first : first + len(reranked)], distances)
    return {name: scorer.result() for name, scorer in scorers.items()}


class RerankingGallery:
    """A gallery whose neighbours are found once, to be re-ranked for queries as they come.

    This is not `rerank_embeddings`, where queries and gallery are one set. Here each query meets the gallery alone. It
    has neighbours in the gallery, and is a neighbour of the entries that it is near to, but it does not change what
    the entries are to each other: their neighbours, vectors and farthest distances are those of the gallery by itself.

    So the other queries have no effect on a query's distances. A query that would be no entry's neighbour, nor farther
    from one than all others are, has the distances that `rerank_embeddings` gives it alone. Those of another query
    differ, above all where few entries show a person.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(gallery, features)`.
        metric: with an array, see `rerank_embeddings`.
        reranking: a `Reranking`, the options.
        progress: show a progress bar while neighbours are found.

    Raises:
        ValueError: if an option is out of range, the gallery is empty, an embedding is NaN or infinite, or one is
            zero under cosine.

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
        embeddings = _embeddings(embeddings, metric, "embeddings")
        source = _Embedded(embeddings, metric, reranking.power)
        with progress_bar(total=source.size, desc="neighbours", unit=" tracklets", disable=not progress) as bar:
            lists, _ = source.neighbours(_listed_count(reranking), _block_rows(reranking, source.size), bar)
        self._take(embeddings, source, lists, reranking)

    def _take(self, embeddings, source, lists, settings):
        self.embeddings = embeddings
        self._source, self._lists, self._settings = source, lists, settings
        count = min(settings.k1 + 1, source.size)
        rows = np.repeat(np.arange(source.size), count)
        self._listed = source.pairs(source.embeddings, rows, lists[:, :count].ravel()).reshape(-1, count)
        ratios = source.ratio(self._listed.copy(), source.farthest[:, None])
        self._half = lists[:, : _half(settings)]
        self._half_reciprocal = _reciprocal(self._half)
        self._vectors = _vectors(source, lists, ratios, settings)
        self._index = _averaged(self._vectors, lists, settings).tocsc()

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
        queries = _embeddings(query_embeddings, self._source.metric, "query_embeddings", may_be_empty=True)
        if queries.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"The gallery's embeddings have {self.embeddings.shape[1]} features. Received: "
                f"query_embeddings.shape={queries.shape}"
            )
        prepared = _prepared(queries, self._source.metric)
        result = np.empty((len(queries), self._source.size), _kind(queries, self.embeddings))
        step = _block_rows(self._settings, self._source.size)
        for start in range(0, len(queries), step):
            result[start : start + step] = self._reranked(prepared[start : start + step])
        return result

    def _reranked(self, queries):
        source, settings = self._source, self._settings
        size = source.size
        nearest = min(max(settings.k1, settings.k2 - 1), size)
        lists, squares, farthest = source.nearest(queries, nearest)
        # The query itself comes first, as one more column.
        lists = np.concatenate([np.full((len(queries), 1), size, lists.dtype), lists], axis=1)
        squares = np.concatenate([np.zeros((len(queries), 1)), squares], axis=1)
        width = min(settings.k1, size) + 1
        reciprocal = np.ones((len(queries), width), bool)
        if self._listed.shape[1] > settings.k1:
            # A query is among an entry's neighbours if it pushes out the last: no farther, as queries come first.
            reciprocal[:, 1:] = squares[:, 1:width] <= self._listed[lists[:, 1:width], -1]
        data, columns, counts = [], [], []
        step = _step_rows(settings, width)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            row, column = _expanded(lists[part, :width], reciprocal[part], self._half, self._half_reciprocal)
            inside = column < size
            distances = np.zeros(len(row))  # As the query's is to itself.
            pairs = source.pairs(queries[part], row[inside], column[inside])
            distances[inside] = source.ratio(pairs, farthest[part][row[inside]])
            data.append(_weights(row, distances, len(queries[part]))[inside])
            columns.append(column[inside])
            counts.append(np.bincount(row[inside], minlength=len(queries[part])))
        vectors = _sparse(data, columns, counts, size)
        others = lists[:, 1 : settings.k2]
        if others.shape[1]:
            chosen = scipy.sparse.csr_array(
                (np.ones(others.size), others.ravel(), np.arange(len(queries) + 1) * others.shape[1]),
                shape=(len(queries), size),
            )
            vectors = (vectors + chosen @ self._vectors) / (1 + others.shape[1])
        return _mixed(vectors, self._index, source.between(queries, farthest), settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write embeddings, neighbours and settings as plain arrays, whole or not at all.

        Args:
            path: of the `.npz` file; its folder exists.
        """
        settings = self._settings
        content = io.BytesIO()
        np.savez(
            content,
            embeddings=self.embeddings,
            neighbours=self._lists,
            farthest=self._source.farthest,
            metric=self._source.metric,
            **{name: getattr(settings, name) for name in _OPTIONS},
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
            ValueError: if the file is no such gallery.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _SAVED}
            settings = Reranking(*(arrays[name].item() for name in _OPTIONS))
            embeddings = _embeddings(arrays["embeddings"], arrays["metric"].item(), "embeddings")
            lists, farthest = arrays["neighbours"], arrays["farthest"]
            count = min(_listed_count(settings), len(embeddings))
            if (
                lists.shape != (len(embeddings), count)
                or lists.dtype != np.int32
                or not np.array_equal(lists[:, 0], np.arange(len(embeddings)))
                or lists.max() >= len(embeddings)
                or lists.min() < 0
                or farthest.shape != lists.shape[:1]
                or not np.isfinite(farthest).all()
            ):
                raise ValueError(f"neighbours {lists.dtype} {lists.shape} of {len(embeddings)} embeddings")
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The file is no gallery that `RerankingGallery.save` wrote: {error}. Received: path={str(path)!r}"
            ) from error
        gallery = cls.__new__(cls)
        source = _Embedded(embeddings, arrays["metric"].item(), settings.power)
        source.farthest[:] = farthest
        gallery._take(embeddings, source, lists, settings)
        return gallery


_OPTIONS = ("k1", "k2", "lambda_", "power")
_SAVED = ("embeddings", "neighbours", "farthest", "metric", *_OPTIONS)


def _query_gallery(source, queries, settings, progress):
    result = np.empty((queries, source.size - queries), source.dtype)
    for first, distances in _blocks(source, np.arange(queries), settings, progress):
        result[first : first + len(distances)] = distances[:, queries:]
    return result


def _blocks(source, query_rows, settings, progress):
    step = _block_rows(settings, source.size)
    with progress_bar(total=source.size, desc="neighbours", unit=" tracklets", disable=not progress) as bar:
        lists, ratios = source.neighbours(_listed_count(settings), step, bar)
    vectors = _averaged(_vectors(source, lists, ratios, settings), lists, settings)
    index = vectors.tocsc()
    with progress_bar(total=len(query_rows), desc="re-ranking", unit=" queries", disable=not progress) as bar:
        for first in range(0, len(query_rows), step):
            rows = query_rows[first : first + step]
            yield first, _mixed(vectors[rows], index, source.rows(rows), settings).astype(source.dtype)
            bar.update(len(rows))


class _Embedded:
    """Distances of a set of embeddings: neighbours of its rows, pairs, and blocks of rows."""

    def __init__(self, embeddings, metric, power):
        self.size, features = embeddings.shape
        self.dtype = embeddings.dtype
        self.metric = metric
        # Of the squared distance: of normalised rows it is twice the cosine distance.
        self.exponent = power if metric == "cosine" else power / 2
        self.embeddings = _prepared(embeddings, metric)
        # Squared distances do not change with the origin; about the mean a product loses least.
        self.centre = self.embeddings.mean(axis=0, dtype=np.float64) if self.size else np.zeros(features)
        self.scale = 1.0
        self.squares = np.concatenate([np.einsum("nd,nd->n", rows, rows) for _, rows in self._parts()] or [np.zeros(0)])
        largest = np.sqrt(self.squares.max(initial=0.0))
        self.scale = 1.0 / largest if largest > 0 else 1.0
        self.squares *= self.scale**2
        # One product gives the squared distances but for the square of the row.
        self.right = np.empty((self.size, features + 1), np.float32)
        self.right[:, -1] = self.squares
        for part, rows in self._parts():
            self.right[part, :-1] = rows
        self.farthest = np.zeros(self.size)

    def _centred(self, embeddings):
        return (embeddings - self.centre) * self.scale

    def _parts(self):
        for start in range(0, self.size, 4096):
            part = slice(start, start + 4096)
            yield part, self._centred(self.embeddings[part])

    def neighbours(self, count, step, bar):
        """Return the nearest rows of each row, itself first, and their ratios; finds the farthest on the way."""
        count = min(count, self.size)
        lists = np.empty((self.size, count), np.int32)
        ratios = np.empty((self.size, count))
        for start in range(0, self.size, step):
            part = slice(start, start + step)
            own = np.arange(self.size)[part]
            lists[part], squares, self.farthest[part] = self.nearest(self.embeddings[part], count, own)
            ratios[part] = self.ratio(squares, self.farthest[part, None])
            bar.update(len(own))
        return lists, ratios

    def nearest(self, embeddings, count, own=None):
        """Return the `count` nearest rows of each of `embeddings`, their squared distances, and the farthest's.

        `own` are the rows that `embeddings` are themselves.
        """
        left = self._centred(embeddings)
        norms = np.sqrt(np.einsum("nd,nd->n", left, left))
        # What a float32 product of these rows may be wrong by, rounding of its factors included.
        # The rows of the set have norms up to 1; a longer row is divided by its norm, which changes no order.
        norms = np.maximum(norms, 1.0)
        margin = (2 * (left.shape[1] + 8) * _HALF_ULP * (2 + 1 / norms)).astype(np.float32)
        left = np.concatenate([-2 * left, np.ones((len(left), 1))], axis=1) / norms[:, None]
        left = left.astype(np.float32)
        # Columns in groups, neighbouring columns in different ones: few groups hold all that is near.
        depth = int(np.clip(self.size // (16 * count), 1, 64))
        groups = -(-self.size // depth)
        block = np.empty((len(left), depth, groups), np.float32)
        flat = block.reshape(len(left), -1)
        np.matmul(left, self.right.T, out=flat[:, : self.size])
        flat[:, self.size :] = np.inf
        nearest = block.min(axis=1)
        # As many groups, so as many columns, lie below it.
        within = np.partition(nearest, count - 1, axis=1)[:, count - 1] + margin
        row, column = _within(np.less_equal, block, nearest, within, self.size)
        squares = self.pairs(embeddings, row, column)
        if own is not None:
            squares[own[row] == column] = -1.0
        lists, squares = _first(row, column, squares, len(left), count)
        flat[:, self.size :] = -np.inf
        most = block.max(axis=1)
        row, column = _within(np.greater_equal, block, most, most.max(axis=1) - margin, self.size)
        farthest = np.zeros(len(left))
        np.maximum.at(farthest, row, self.pairs(embeddings, row, column))
        return lists, np.maximum(squares, 0.0), farthest

    def pairs(self, embeddings, row, column):
        """Return the squared distances between rows of `embeddings` and rows of the set."""
        squares = np.empty(len(row))
        step = max(1, _PAIRS // max(1, embeddings.shape[1]))
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            differences = np.subtract(embeddings[row[part]], self.embeddings[column[part]], dtype=np.float64)
            np.einsum("nd,nd->n", differences, differences, out=squares[part])
        return squares

    def ratios(self, row, column):
        """Return the distances of pairs of rows, raised and divided by the row's largest."""
        return self.ratio(self.pairs(self.embeddings, row, column), self.farthest[row])

    def rows(self, rows):
        """Return the ratios of some rows to all."""
        return self.between(self.embeddings[rows], self.farthest[rows])

    def between(self, embeddings, farthest):
        """Return the ratios of other embeddings to all rows, their largest squared distances given."""
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

    def ratio(self, squares, farthest):
        """Return squared distances, which it overwrites, divided by the farthest's and raised to the power."""
        ratio = np.divide(squares, np.where(farthest > 0, farthest, 1.0), out=squares)
        return ratio if self.exponent == 1 else np.power(ratio, self.exponent, out=ratio)


class _Given:
    """As `_Embedded`, from the distances themselves."""

    def __init__(self, query_gallery, query_query, gallery_gallery, settings):
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
        self.queries = shape[0]
        self.size = sum(shape)
        if not shape[1]:
            raise ValueError(
                f"There is no gallery to rank; give at least one column. Received: query_gallery.shape={shape}"
            )
        parts = {
            "query_gallery": self.query_gallery,
            "query_query": self.query_query,
            "gallery_gallery": self.gallery_gallery,
        }
        step = _block_rows(settings, self.size)
        for name, matrix in parts.items():
            for start in range(0, len(matrix), step):
                finite = np.isfinite(matrix[start : start + step])
                if not finite.all():
                    row, column = np.argwhere(~finite)[0]
                    raise ValueError(
                        "Distances must be finite; look for NaN in the embeddings. Received: "
                        f"{name}[{start + row}, {column}]={matrix[start + row, column]}"
                    )
        self.dtype = _kind(*parts.values())
        self.power = settings.power
        self.farthest = np.zeros(self.size)

    def neighbours(self, count, step, bar):
        count = min(count, self.size)
        lists = np.empty((self.size, count), np.int32)
        ratios = np.empty((self.size, count))
        for start in range(0, self.size, step):
            rows = np.arange(start, min(start + step, self.size))
            distances = self._distances(rows)
            self.farthest[rows] = distances.max(axis=1)
            distances[np.arange(len(rows)), rows] = -1.0
            within = np.partition(distances, count - 1, axis=1)[:, count - 1]
            row, column = np.nonzero(distances <= within[:, None])
            lists[rows], nearest = _first(row, column, distances[row, column], len(rows), count)
            ratios[rows] = self.ratio(np.maximum(nearest, 0.0), self.farthest[rows, None])
            # Its own distance is first, whatever it is.
            ratios[rows, 0] = self.ratios(rows, rows)
            bar.update(len(rows))
        return lists, ratios

    def ratios(self, row, column):
        # Where a query and a gallery entry meet, the query is the row of the matrix.
        low, high = np.minimum(row, column), np.maximum(row, column)
        of_queries, of_gallery = high < self.queries, low >= self.queries
        mixed = ~of_queries & ~of_gallery
        distances = np.empty(len(row))
        distances[of_queries] = self.query_query[row[of_queries], column[of_queries]]
        distances[of_gallery] = self.gallery_gallery[row[of_gallery] - self.queries, column[of_gallery] - self.queries]
        distances[mixed] = self.query_gallery[low[mixed], high[mixed] - self.queries]
        return self.ratio(np.maximum(distances, 0.0), self.farthest[row])

    def rows(self, rows):
        return self.ratio(self._distances(rows), self.farthest[rows, None])

    def _distances(self, rows):
        queries, gallery = rows[rows < self.queries], rows[rows >= self.queries] - self.queries
        of_queries = np.concatenate([self.query_query[queries], self.query_gallery[queries]], axis=1)
        of_gallery = np.concatenate([self.query_gallery[:, gallery].T, self.gallery_gallery[gallery]], axis=1)
        return np.maximum(np.concatenate([of_queries, of_gallery]), 0.0, dtype=np.float64)

    def ratio(self, distances, farthest):
        """Return distances divided by the farthest and raised to the power."""
        return (distances / np.where(farthest > 0, farthest, 1.0)) ** self.power


def _whole_tiles(rows):
    """Pad with zeros: a matrix product rounds the rows of a part of a tile differently."""
    return np.concatenate([rows, np.zeros((-len(rows) % _TILE, rows.shape[1]))])


def _within(compare, block, groups, limits, size):
    """Return rows and columns of the entries within each row's limit, from the best of each group of columns."""
    row, group = np.nonzero(compare(groups, limits[:, None]))
    at, layer = np.nonzero(compare(block[row, :, group], limits[row, None]))
    row, column = row[at], layer * block.shape[2] + group[at]
    return row[column < size], column[column < size]


def _first(row, column, values, rows, count):
    """Return the `count` least entries of every row and their values; equal ones in the order of their columns."""
    order = np.lexsort((column, values, row))
    starts = np.searchsorted(row[order], np.arange(rows))
    chosen = order[starts[:, None] + np.arange(count)]
    return column[chosen], values[chosen]


def _reciprocal(lists):
    """Return True where the row is among the neighbours of its neighbour."""
    result = np.empty(lists.shape, bool)
    step = max(1, _STEP // max(1, lists.shape[1] ** 2))
    for start in range(0, len(lists), step):
        part = lists[start : start + step]
        own = np.arange(start, start + len(part), dtype=lists.dtype)
        result[start : start + step] = (lists[part] == own[:, None, None]).any(axis=-1)
    return result


def _expanded(lists, reciprocal, half, half_reciprocal):
    """Return rows and members of the k-reciprocal sets, expanded by candidates of which they hold two thirds."""
    own = np.where(reciprocal, lists, -1)
    row, place = np.nonzero(reciprocal)
    candidate = lists[row, place]
    asked = np.flatnonzero(candidate < len(half))
    members, valid = half[candidate[asked]], half_reciprocal[candidate[asked]]
    shared = np.zeros(members.shape, bool)
    for position in range(members.shape[1]):
        shared[:, position] = (own[row[asked]] == members[:, position, None]).any(axis=1)
    shared &= valid
    accepted = 3 * shared.sum(axis=1) > 2 * valid.sum(axis=1)
    added, position = np.nonzero(valid & accepted[:, None])
    keys = np.concatenate([row, row[asked][added]]) << 32
    keys |= np.concatenate([candidate, members[added, position]])
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return keys >> 32, keys & 0xFFFFFFFF


def _step_rows(settings, width):
    """Return for how many rows the candidates' sets are compared at once."""
    return max(1, _STEP // (4 * width * max(width, _half(settings))))


def _weights(row, ratios, rows):
    weights = np.exp(-ratios)
    return weights / np.bincount(row, weights, rows)[row]


def _vectors(source, lists, ratios, settings):
    """Return the weights of every row over its expanded set, as a sparse matrix."""
    lists, ratios = lists[:, : settings.k1 + 1], ratios[:, : settings.k1 + 1]
    half = lists[:, : _half(settings)]
    reciprocal, half_reciprocal = _reciprocal(lists), _reciprocal(half)
    step = _step_rows(settings, lists.shape[1])
    columns, data, counts = [], [], []
    for start in range(0, source.size, step):
        part = slice(start, start + step)
        row, column = _expanded(lists[part], reciprocal[part], half, half_reciprocal)
        rows = len(lists[part])
        # Most are in the row's own list, where the distance is known.
        listed = lists[part][row] == column[:, None]
        known = listed.any(axis=1)
        values = ratios[part][row, listed.argmax(axis=1)]
        values[~known] = source.ratios(row[~known] + start, column[~known])
        data.append(_weights(row, values, rows))
        columns.append(column.astype(np.int32))
        counts.append(np.bincount(row, minlength=rows))
    return _sparse(data, columns, counts, source.size)


def _sparse(data, columns, counts, width):
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return scipy.sparse.csr_array(
        (np.concatenate(data), np.concatenate(columns), pointers), shape=(len(pointers) - 1, width)
    )


def _averaged(vectors, lists, settings):
    """Return the mean of the vectors of every row's nearest rows."""
    nearest = lists[:, : settings.k2]
    rows, count = nearest.shape
    if count == 1:
        return vectors
    mean = scipy.sparse.csr_array(
        (np.full(nearest.size, 1 / count), nearest.ravel(), np.arange(0, nearest.size + 1, count)),
        shape=(rows, vectors.shape[0]),
    )
    return mean @ vectors


def _mixed(vectors, index, ratios, settings):
    """Return Jaccard distances of the vectors to those in the index, mixed with `ratios`, which it overwrites."""
    size = index.shape[0]
    lengths = np.diff(index.indptr)[vectors.indices]
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    row_ends = ends[vectors.indptr]
    ratios *= settings.lambda_
    ratios += 1 - settings.lambda_
    flat = ratios.reshape(-1)
    first = 0
    while first < len(ratios):
        last = max(first + 1, int(np.searchsorted(row_ends, row_ends[first] + _STEP, side="right")) - 1)
        part = slice(vectors.indptr[first], vectors.indptr[last])
        counts = lengths[part]
        # The entries of the columns that the rows have, one column after the other.
        entries = np.arange(ends[part.start], ends[part.stop])
        entries += np.repeat(index.indptr[vectors.indices[part]] - ends[part.start : part.stop], counts)
        smaller = np.minimum(index.data[entries], np.repeat(vectors.data[part], counts))
        row = np.repeat(np.arange(last - first), np.diff(vectors.indptr[first : last + 1]))
        places = np.repeat(row * size, counts) + index.indices[entries]
        shared = np.bincount(places, smaller, (last - first) * size)
        touched = np.flatnonzero(shared)
        # The weights of a vector sum to 1, so those of the larger of two to 2 less the smaller. The bound keeps
        # rounding from leaving equal vectors a distance below 0.
        shared = np.minimum(shared[touched], 1.0)
        flat[first * size + touched] -= (1 - settings.lambda_) * (shared / (2.0 - shared))
        first = last
    return ratios


def _kind(*arrays):
    return np.dtype(np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32)


def _embeddings(embeddings, metric, name, may_be_empty=False):
    """Return the embeddings as float32 or float64 rows that the metric takes."""
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"`metric` is 'euclidean' or 'cosine'. Received: metric={metric!r}")
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"`{name}` is an array (tracklets, features). Received: {name}.shape={embeddings.shape}")
    if not len(embeddings) and not may_be_empty:
        raise ValueError(
            f"There is no gallery to rank; give at least one row. Received: {name}.shape={embeddings.shape}"
        )
    embeddings = embeddings.astype(_kind(embeddings), copy=False)
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


def _prepared(embeddings, metric):
    if metric != "cosine":
        return embeddings
    rows = embeddings.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
