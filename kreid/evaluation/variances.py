"""Where the variance of single frames' embeddings comes from: their tracklet, their person or the other persons."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.distances.arrays import check_finite


class Variances(NamedTuple):
    """The parts of the variance of frames' embeddings, as means of squared Euclidean distances; they add up to it.

    Args:
        within_tracklets: of frames to the mean of their tracklet.
        between_tracklets: of a tracklet's mean to the mean of its person.
        between_persons: of a person's mean to the mean of all frames.
    """

    within_tracklets: float
    between_tracklets: float
    between_persons: float


def frame_variances(embeddings: ArrayLike, tracklets: ArrayLike, persons: ArrayLike) -> Variances:
    """Split the variance of frames' embeddings into that within tracklets, between tracklets and between persons.

    Attention over frames has something to gain only from the first part. Every frame counts alike. Distractors (0) and
    junk (-1) are skipped: their labels are shared by several persons.

    Args:
        embeddings: floats `(frames, features)`; of length 1, to compare models of different scales.
        tracklets: integers `(frames,)`, the number of each frame's tracklet.
        persons: integers `(frames,)`, the person of each frame.

    Returns:
        A `Variances`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, a tracklet has two persons, or no frame shows
            a known person.

    Example:

    >>> kreid.evaluation.frame_variances([[0.0], [2.0], [4.0], [6.0]], tracklets=[0, 0, 1, 2], persons=[1, 1, 1, 2])
    Variances(within_tracklets=0.5, between_tracklets=1.5, between_persons=3.0)
    """
    embeddings, tracklets, persons = np.asarray(embeddings, float), np.asarray(tracklets), np.asarray(persons)
    if embeddings.ndim != 2 or {tracklets.shape, persons.shape} != {embeddings.shape[:1]}:
        raise ValueError(
            "Give one row of `embeddings` for each number in `tracklets` and `persons`. Received: embeddings of shape "
            f"{embeddings.shape}, tracklets of shape {tracklets.shape}, persons of shape {persons.shape}"
        )
    check_finite(embeddings, "embeddings")
    known = persons > 0
    embeddings, tracklets, persons = embeddings[known], tracklets[known], persons[known]
    if not len(embeddings):
        raise ValueError("Variances need frames of known persons, numbered from 1. Received: persons without any")
    pairs = np.unique(np.stack([tracklets, persons]), axis=1)
    repeated = np.flatnonzero(pairs[0, 1:] == pairs[0, :-1])
    if len(repeated):
        raise ValueError(
            "A tracklet shows one person; number the tracklets of all persons apart. Received: tracklet "
            f"{pairs[0, repeated[0]]} of persons {pairs[1, repeated[0]]} and {pairs[1, repeated[0] + 1]}"
        )
    of_tracklet, of_person = _group_means(embeddings, tracklets), _group_means(embeddings, persons)
    steps = (embeddings - of_tracklet, of_tracklet - of_person, of_person - embeddings.mean(axis=0))
    return Variances(*(float((step**2).sum(axis=1).mean()) for step in steps))


def _group_means(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the mean of each vector's group, in the vectors' places."""
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, numbers, vectors)
    return (sums / counts[:, None])[numbers]
