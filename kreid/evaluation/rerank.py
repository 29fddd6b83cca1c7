"""k-reciprocal re-ranking, exact, in memory linear in the number of tracklets.

Two tracklets of one person tend to have the same neighbours. Each tracklet is described by a sparse vector over all
tracklets, with weights where the two are among each other's nearest; the Jaccard distance of two such vectors is mixed
with the distance of the embeddings.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kreid._quiet import progress_bar
from kreid.data.tracklet import JUNK
from kreid.evaluation.neighbours import EmbeddedSet, MeasuredSet, TrackletSet, block_rows, checked_embeddings
from kreid.evaluation.query_scorer import Ties
from kreid.evaluation.reciprocal import averaged_vectors, list_length, mixed_distances, set_vectors
from kreid.evaluation.reranking import Reranking
from kreid.evaluation.retrieval import LABELS, results_of_test, scorers_of_test, warn_of_unscored_queries
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

_DEFAULT = Reranking()


def rerank_embeddings(
    query_embeddings: ArrayLike,
    gallery_embeddings: ArrayLike,
    metric: str = "euclidean",
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> np.ndarray:
    """Re-rank a gallery for all queries together.

    Queries and gallery are one set in which every tracklet has neighbours, so queries change each other's distances.
    Use `rerank_blocks` where a tracklet is both a query and in the gallery: here it would be its own neighbour twice.

    Args:
        query_embeddings: array `(queries, features)`.
        gallery_embeddings: array `(gallery, features)`.
        metric: `"euclidean"` or `"cosine"` (1 - cos).
        reranking: a `Reranking`, the options.
        progress: show a progress bar.

    Returns:
        Array `(queries, gallery)` of distances from 0 to 1, float32, float64 if an input is float64.

    Raises:
        ValueError: if sizes do not fit, the gallery is empty, an embedding is NaN or infinite, or one is zero under
            cosine.

    Example:

    >>> options = kreid.evaluation.Reranking(k1=2, k2=1)
    >>> gallery = [[0.0, 0.1], [0.3, 0.0], [5.0, 5.0], [5.2, 5.0]]
    >>> kreid.evaluation.rerank_embeddings([[0.0, 0.0]], gallery, reranking=options)[0].round(2).tolist()
    [0.0, 0.0, 0.99, 1.0]

    Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017. Where the paper is
    silent this follows its authors' code: the tracklet itself is not one of its `k1` neighbours, a candidate must share
    more than two thirds of its own set, and a row of distances is divided by its maximum.
    """
    queries = checked_embeddings(query_embeddings, metric, "query_embeddings", may_be_empty=True)
    gallery = checked_embeddings(gallery_embeddings, metric, "gallery_embeddings")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "Queries and gallery need the same number of features. Received: "
            f"query_embeddings.shape={queries.shape}, gallery_embeddings.shape={gallery.shape}"
        )
    tracklets = EmbeddedSet(np.concatenate([queries, gallery]), metric, reranking.power)
    return _query_gallery(tracklets, len(queries), reranking, progress)


def rerank_distances(
    query_gallery: ArrayLike,
    query_query: ArrayLike,
    gallery_gallery: ArrayLike,
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> np.ndarray:
    """Re-rank from distances of any kind, given as three matrices; see `rerank_embeddings`.

    Args:
        query_gallery: array `(queries, gallery)` of distances; a distance below 0, from rounding, counts as 0.
        query_query: array `(queries, queries)`.
        gallery_gallery: array `(gallery, gallery)`.
        reranking: a `Reranking`, the options.
        progress: see `rerank_embeddings`.

    Returns:
        Array `(queries, gallery)` of distances, float32, float64 if an input is float64.

    Raises:
        ValueError: if sizes do not fit, the gallery is empty, or a distance is NaN or infinite.

    Example:

    >>> options = kreid.evaluation.Reranking(k1=2, k2=1)
    >>> gallery = np.array([[0.0, 0.2, 9.0], [0.2, 0.0, 9.0], [9.0, 9.0, 0.0]])
    >>> kreid.evaluation.rerank_distances([[0.1, 0.1, 9.0]], [[0.0]], gallery, options)[0].round(2).tolist()
    [0.0, 0.0, 1.0]
    """
    tracklets = MeasuredSet(query_gallery, query_query, gallery_gallery, reranking.power, reranking.block)
    return _query_gallery(tracklets, tracklets.queries, reranking, progress)


def rerank_blocks(
    embeddings: TrackletEmbeddings | ArrayLike,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
    reranking: Reranking = _DEFAULT,
    *,
    progress: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Re-rank a set of tracklets for some of them, one block of queries at a time.

    The whole matrix of distances never exists.

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
    embeddings = checked_embeddings(embeddings, metric, "embeddings")
    return _blocks(EmbeddedSet(embeddings, metric, reranking.power), query_rows, reranking, progress)


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
    """Score the re-ranked embeddings of all test tracklets under every protocol, see `evaluate_test`.

    Under every protocol the same set is re-ranked: all test tracklets but junk, each of them once. Where the gallery is
    without the queries, the set is queries and gallery together, as in the common toolboxes. Where the gallery has the
    queries, they are not added a second time, which would make them their own nearest neighbours. A protocol only
    chooses which columns are ranked.

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
    warn_of_unscored_queries(test.persons[test.query_rows])
    # Junk is removed first: it would be a neighbour of other tracklets.
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
    return results_of_test(scorers)


def _query_gallery(tracklets: TrackletSet, queries: int, reranking: Reranking, progress: bool) -> np.ndarray:
    """Return the re-ranked distances of the first rows, the queries, to the rest, the gallery."""
    result = np.empty((queries, tracklets.size - queries), tracklets.dtype)
    for first, distances in _blocks(tracklets, np.arange(queries), reranking, progress):
        result[first : first + len(distances)] = distances[:, queries:]
    return result


def _blocks(
    tracklets: TrackletSet, query_rows: np.ndarray, reranking: Reranking, progress: bool
) -> Iterator[tuple[int, np.ndarray]]:
    step = block_rows(reranking.block, tracklets.size)
    with progress_bar(total=tracklets.size, desc="neighbours", unit=" tracklets", disable=not progress) as bar:
        neighbours, normalised = tracklets.find_neighbours(list_length(reranking), step, bar)
    vectors = averaged_vectors(set_vectors(tracklets, neighbours, normalised, reranking), neighbours, reranking)
    by_column = vectors.tocsc()
    with progress_bar(total=len(query_rows), desc="re-ranking", unit=" queries", disable=not progress) as bar:
        for first in range(0, len(query_rows), step):
            rows = query_rows[first : first + step]
            distances = mixed_distances(vectors[rows], by_column, tracklets.normalised_rows(rows), reranking)
            yield first, distances.astype(tracklets.dtype)
            bar.update(len(rows))
