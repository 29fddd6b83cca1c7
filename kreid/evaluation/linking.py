"""The mean distance below which groups of tracklets are best linked into persons."""

from typing import Any

import numpy as np
import scipy.cluster.hierarchy
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform

from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

# All pairs of them are in memory, 800 MB.
_MOST_TRACKLETS = 10_000


def fit_linking(
    embeddings: TrackletEmbeddings | ArrayLike, persons: ArrayLike | None = None, metric: str | None = None
) -> dict[str, Any] | None:
    """Fit the threshold of `kreid.identities.link_tracklets` on tracklets of known persons.

    The tracklets are linked as there, by average linkage: the two nearest groups are joined again and again. The
    threshold is the one at which the pairs of tracklets in one group have the highest F1 for "the same person", in the
    middle of the distances between which it stays so; of equal ones the lowest. Pairs count and not IDF1, because each
    join then changes the score by its own pairs alone, whatever person a group is assigned to.

    A threshold for pairs (`fit_verification`) is another one: it keeps the share of wrong pairs low, and a group's
    distance is a mean over many. The more persons there are, the lower the best threshold: this one is for about as
    many as it was fitted on.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`; of persons that the model was not
            trained on. Of more than 10,000 tracklets, those of persons drawn at random are taken.
        persons: with an array, integers `(tracklets,)`. Each distractor (0) is a person of its own, junk (-1) is left
            out.
        metric: with an array, `"euclidean"` (the default) or `"cosine"`.

    Returns:
        A dict that `json` can write: `threshold`, and the `precision`, `recall` and `f1` of pairs at it. `None` if no
        person has two tracklets, or no other has any.

    Raises:
        ValueError: if sizes do not fit, or an embedding is NaN or infinite.

    Example:

    >>> fitted = kreid.evaluation.fit_linking([[0.0], [0.2], [1.0], [1.2]], [7, 7, 9, 9])
    >>> round(fitted["threshold"], 2), fitted["f1"]
    (0.6, 1.0)
    """
    tracklets = labelled(embeddings, persons, metric=metric, needed=("persons",))
    vectors, truth = np.asarray(tracklets.embeddings), np.asarray(tracklets.persons)
    if vectors.ndim != 2 or truth.shape != vectors.shape[:1]:
        raise ValueError(
            f"Give one row of `embeddings` for each person. Received: embeddings of shape {vectors.shape}, persons of "
            f"shape {truth.shape}"
        )
    check_finite(vectors, "embeddings")
    vectors, truth = _chosen(vectors, truth)
    groups, sizes = np.unique(truth, return_inverse=True)[1], np.unique(truth, return_counts=True)[1]
    true = int((sizes * (sizes - 1) // 2).sum())
    if not true or len(sizes) < 2:
        return None
    distances = distance_matrix(vectors, vectors, tracklets.metric).astype(np.float64)
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0.0)
    tree = scipy.cluster.hierarchy.linkage(squareform(distances, checks=False), "average")
    right, linked = _pairs_of_joins(tree, groups)
    heights = np.append(tree[:, 2], np.inf)
    scores = 2 * right / (linked + true)
    # A threshold is between two distances.
    scores[heights[:-1] == heights[1:]] = -1
    best = int(np.argmax(scores))
    last = best
    while last + 1 < len(scores) and scores[last + 1] in (-1, scores[best]):
        last += 1
    above = heights[last + 1] if last + 1 < len(scores) else 2 * heights[last]
    return {
        "threshold": float((heights[best] + above) / 2),
        "precision": float(right[best] / linked[best]),
        "recall": float(right[best] / true),
        "f1": float(scores[best]),
    }


def _chosen(vectors: np.ndarray, persons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tracklets to link, and their persons, each distractor one of its own."""
    real = persons != JUNK
    vectors, persons = vectors[real], persons[real].astype(np.int64)
    unknown = persons == DISTRACTOR
    persons[unknown] = -2 - np.arange(np.count_nonzero(unknown))
    if len(persons) > _MOST_TRACKLETS:
        order = np.random.default_rng(0).permutation(np.unique(persons))
        sizes = np.unique(persons, return_counts=True)[1][np.searchsorted(np.unique(persons), order)]
        kept = np.isin(persons, order[np.cumsum(sizes) <= _MOST_TRACKLETS])
        vectors, persons = vectors[kept], persons[kept]
    return vectors, persons


def _pairs_of_joins(tree: NDArray[np.float64], persons: NDArray[np.int64]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many linked pairs are of one person, and how many are linked, after each join of a tree."""
    members: dict[int, dict[int, int]] = {row: {person: 1} for row, person in enumerate(persons.tolist())}
    right, linked = np.zeros(len(tree)), np.zeros(len(tree))
    for number, (one, other) in enumerate(tree[:, :2].astype(np.int64).tolist()):
        small, large = sorted((members.pop(one), members.pop(other)), key=len)
        right[number] = sum(count * large.get(person, 0) for person, count in small.items())
        linked[number] = sum(small.values()) * sum(large.values())
        for person, count in small.items():
            large[person] = large.get(person, 0) + count
        members[len(persons) + number] = large
    return np.cumsum(right), np.cumsum(linked)
