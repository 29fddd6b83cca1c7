"""Sparse vectors of k-reciprocal sets, and the Jaccard distances between them.

The vector of a tracklet has a weight for each member of its expanded k-reciprocal set; the weights sum to 1. See
`kreid.evaluation.rerank_embeddings` for the method and its source.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from kreid.evaluation.neighbours import TrackletSet
from kreid.evaluation.reranking import Reranking

# Numbers that a step of the work on neighbour lists holds at once.
_STEP = 2**22


def list_length(reranking: Reranking) -> int:
    """Return how many neighbours of each tracklet are needed, itself among them."""
    return max(reranking.k1 + 1, reranking.k2)


def half_length(reranking: Reranking) -> int:
    """Return how many neighbours of a candidate the expansion reads, itself among them."""
    return int(np.around(reranking.k1 / 2)) + 1


def step_rows(reranking: Reranking, width: int) -> int:
    """Return for how many rows, with `width` neighbours each, the candidates' sets are compared at once."""
    return max(1, _STEP // (4 * width * max(width, half_length(reranking))))


def reciprocal_neighbours(neighbours: np.ndarray) -> np.ndarray:
    """Return which neighbours have the row among their own neighbours, a bool array shaped like `neighbours`."""
    result = np.empty(neighbours.shape, bool)
    step = max(1, _STEP // max(1, neighbours.shape[1] ** 2))
    for start in range(0, len(neighbours), step):
        part = neighbours[start : start + step]
        own = np.arange(start, start + len(part), dtype=neighbours.dtype)
        result[start : start + step] = (neighbours[part] == own[:, None, None]).any(axis=-1)
    return result


def expanded_sets(
    neighbours: np.ndarray, reciprocal: np.ndarray, half: np.ndarray, half_reciprocal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expand k-reciprocal sets by the sets of those candidates of which they hold more than two thirds.

    Args:
        neighbours: integers `(rows, k1 + 1)`.
        reciprocal: bool like `neighbours`, see `reciprocal_neighbours`.
        half: integers `(tracklets, half_length)`, the nearest neighbours of every possible candidate. A neighbour
            without a row here is no candidate.
        half_reciprocal: bool like `half`.

    Returns:
        Rows and members of the sets, as pairs in rising order.
    """
    own = np.where(reciprocal, neighbours, -1)
    row, column = np.nonzero(reciprocal)
    member = neighbours[row, column]
    candidates = np.flatnonzero(member < len(half))
    their_members, valid = half[member[candidates]], half_reciprocal[member[candidates]]
    shared = np.zeros(their_members.shape, bool)
    for place in range(their_members.shape[1]):
        shared[:, place] = (own[row[candidates]] == their_members[:, place, None]).any(axis=1)
    shared &= valid
    accepted = 3 * shared.sum(axis=1) > 2 * valid.sum(axis=1)
    added, column = np.nonzero(valid & accepted[:, None])
    # Pairs as single integers: sorted, each differs from the one before unless it is repeated.
    keys = np.concatenate([row, row[candidates][added]]) << 32
    keys |= np.concatenate([member, their_members[added, column]])
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return keys >> 32, keys & 0xFFFFFFFF


def set_weights(row: np.ndarray, normalised: np.ndarray, rows: int) -> np.ndarray:
    """Return the weights of the members of sets, from their rows and normalised distances."""
    weights = np.exp(-normalised)
    return weights / np.bincount(row, weights, rows)[row]


def sparse_rows(
    weights: Sequence[np.ndarray], columns: Sequence[np.ndarray], counts: Sequence[np.ndarray], width: int
) -> scipy.sparse.csr_array:
    """Return a sparse matrix of the parts of its entries, row by row, with the entries of each row."""
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return scipy.sparse.csr_array(
        (np.concatenate(weights), np.concatenate(columns), pointers), shape=(len(pointers) - 1, width)
    )


def set_vectors(
    tracklets: TrackletSet, neighbours: np.ndarray, normalised: np.ndarray, reranking: Reranking
) -> scipy.sparse.csr_array:
    """Return the vector of every tracklet, `(tracklets, tracklets)`, from its neighbours and normalised distances."""
    neighbours, normalised = neighbours[:, : reranking.k1 + 1], normalised[:, : reranking.k1 + 1]
    half = neighbours[:, : half_length(reranking)]
    reciprocal, half_reciprocal = reciprocal_neighbours(neighbours), reciprocal_neighbours(half)
    step = step_rows(reranking, neighbours.shape[1])
    columns, weights, counts = [], [], []
    for start in range(0, tracklets.size, step):
        part = slice(start, start + step)
        row, column = expanded_sets(neighbours[part], reciprocal[part], half, half_reciprocal)
        rows = len(neighbours[part])
        # Most members are among the row's neighbours, whose distances are known.
        among_neighbours = neighbours[part][row] == column[:, None]
        known = among_neighbours.any(axis=1)
        values = normalised[part][row, among_neighbours.argmax(axis=1)]
        values[~known] = tracklets.normalised_pairs(row[~known] + start, column[~known])
        weights.append(set_weights(row, values, rows))
        columns.append(column.astype(np.int32))
        counts.append(np.bincount(row, minlength=rows))
    return sparse_rows(weights, columns, counts, tracklets.size)


def averaged_vectors(
    vectors: scipy.sparse.csr_array, neighbours: np.ndarray, reranking: Reranking
) -> scipy.sparse.csr_array:
    """Return the mean of the vectors of every tracklet's `k2` nearest neighbours, itself among them."""
    nearest = neighbours[:, : reranking.k2]
    rows, count = nearest.shape
    if count == 1:
        return vectors
    mean = scipy.sparse.csr_array(
        (np.full(nearest.size, 1 / count), nearest.ravel(), np.arange(0, nearest.size + 1, count)),
        shape=(rows, vectors.shape[0]),
    )
    return mean @ vectors


def mixed_distances(
    vectors: scipy.sparse.csr_array, others: scipy.sparse.csc_array, normalised: np.ndarray, reranking: Reranking
) -> np.ndarray:
    """Mix the Jaccard distances between vectors with normalised distances.

    Args:
        vectors: of some tracklets.
        others: vectors of all tracklets, by columns.
        normalised: normalised distances `(vectors, others)`; overwritten.
        reranking: a `Reranking`.

    Returns:
        `normalised`, which holds the result.
    """
    size = others.shape[0]
    lengths = np.diff(others.indptr)[vectors.indices]
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    row_ends = ends[vectors.indptr]
    normalised *= reranking.lambda_
    normalised += 1 - reranking.lambda_
    flat = normalised.reshape(-1)
    first = 0
    while first < len(normalised):
        last = max(first + 1, int(np.searchsorted(row_ends, row_ends[first] + _STEP, side="right")) - 1)
        part = slice(vectors.indptr[first], vectors.indptr[last])
        counts = lengths[part]
        # The entries of the columns that the rows have, column after column.
        entries = np.arange(ends[part.start], ends[part.stop])
        entries += np.repeat(others.indptr[vectors.indices[part]] - ends[part.start : part.stop], counts)
        smaller = np.minimum(others.data[entries], np.repeat(vectors.data[part], counts))
        row = np.repeat(np.arange(last - first), np.diff(vectors.indptr[first : last + 1]))
        places = np.repeat(row * size, counts) + others.indices[entries]
        shared = np.bincount(places, smaller, (last - first) * size)
        touched = np.flatnonzero(shared)
        # Each vector's weights sum to 1, so the larger weights of two vectors sum to 2 less the smaller ones. The bound
        # keeps rounding from giving equal vectors a distance below 0.
        shared = np.minimum(shared[touched], 1.0)
        flat[first * size + touched] -= (1 - reranking.lambda_) * (shared / (2.0 - shared))
        first = last
    return normalised
