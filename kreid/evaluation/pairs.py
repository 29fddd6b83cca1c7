"""Distances of all pairs of tracklets, block by block.

Genuine pairs show one person in two cameras; pairs of one person in one camera are not counted, as in retrieval.
Impostor pairs show two persons, in any cameras. Two distractors may be one person, so pairs of distractors are not
counted. Junk is not counted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.evaluation.query_scorer import checked_labels
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

# Bytes of the distances held at once. Each block reads the embeddings after it again.
_BLOCK_BYTES = 2**26

# Rows of one person taken at once.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Distances of genuine pairs and of the nearest impostor pairs, enough for exact error rates in little memory.

    Args:
        genuine: distances of the genuine pairs, rising.
        nearer: int64, impostor pairs nearer than each of them.
        as_near: int64, impostor pairs nearer or equally near.
        nearest_impostors: distances of the nearest impostor pairs, rising.
        num_impostors: impostor pairs in all.
    """

    genuine: np.ndarray
    nearer: np.ndarray
    as_near: np.ndarray
    nearest_impostors: np.ndarray
    num_impostors: int


def pair_distances(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
    *,
    tail: float = 0.01,
) -> PairDistances:
    """Measure all pairs of tracklets, block by block.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`.
        persons: with an array, integers `(tracklets,)`; 0 is a distractor, -1 junk.
        cameras: with an array, integers `(tracklets,)`.
        metric: with an array, `"euclidean"` (the default) or `"cosine"` (a row of zeros is 1 from everything).
        tail: share of the impostor pairs, the nearest ones, whose distances are kept: the highest false-match rate
            that `threshold_at` can be asked for.

    Returns:
        A `PairDistances`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, or there is no genuine or no impostor pair.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1], tail=0.5)
    >>> pairs.genuine.round(2).tolist(), pairs.nearest_impostors.round(2).tolist(), pairs.num_impostors
    ([0.1], [0.2, 0.3], 2)
    """
    if not 0 < tail <= 1:
        raise ValueError(f"`tail` is a share above 0. Received: tail={tail!r}")
    tracklets = checked_for_pairs(embeddings, persons, cameras, metric)
    genuine = np.sort(np.concatenate([distances for _, distances in genuine_distances(tracklets)]))
    count = num_impostors(tracklets.persons)
    num_nearest = count_within(tail, count) + 1
    nearer, as_near = np.zeros((2, len(genuine)), np.int64)
    nearest = np.empty(0, genuine.dtype)
    for distances, impostors, _ in impostor_blocks(tracklets):
        rising = np.sort(distances[impostors])
        nearer += np.searchsorted(rising, genuine, side="left")
        as_near += np.searchsorted(rising, genuine, side="right")
        nearest = np.sort(np.concatenate([nearest, rising[:num_nearest]]))[:num_nearest]
    return PairDistances(genuine, nearer, as_near, nearest, count)


class PairLabels(NamedTuple):
    """Embeddings of tracklets without junk, and their labels."""

    embeddings: np.ndarray
    persons: np.ndarray
    cameras: np.ndarray
    metric: str


def checked_for_pairs(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None,
    cameras: ArrayLike | None,
    metric: str | None,
) -> PairLabels:
    """Check the arguments of `pair_distances` and return them without junk."""
    test = labelled(embeddings, persons, cameras, metric=metric, needed=("persons", "cameras"))
    checked_labels(test.persons, test.cameras, "tracklets'")
    if test.embeddings.ndim != 2 or len(test.embeddings) != len(test.persons):
        raise ValueError(
            "`embeddings` needs one row per tracklet. Received: "
            f"embeddings.shape={test.embeddings.shape}, {len(test.persons)} persons"
        )
    check_finite(test.embeddings, "embeddings")
    real = test.persons != JUNK
    tracklets = PairLabels(test.embeddings[real], test.persons[real], test.cameras[real], test.metric)
    if not num_impostors(tracklets.persons):
        raise ValueError(
            f"Impostor pairs need two persons. Received: {len(tracklets.persons)} tracklets of "
            f"{len(np.unique(tracklets.persons))} persons"
        )
    # A person in two cameras is here twice.
    known = tracklets.persons != DISTRACTOR
    persons_by_camera = np.unique(np.stack([tracklets.persons, tracklets.cameras])[:, known], axis=1)[0]
    if len(np.unique(persons_by_camera)) == len(persons_by_camera):
        raise ValueError(
            f"Genuine pairs need a person in two cameras. Received: {len(persons_by_camera)} persons, each in one "
            "camera"
        )
    return tracklets


def genuine_distances(tracklets: PairLabels) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of a person, and distances of genuine pairs among them."""
    embeddings, persons, cameras, metric = tracklets
    order = np.argsort(persons, kind="stable")
    labels, starts = np.unique(persons[order], return_index=True)
    for person, rows in zip(labels, np.split(order, starts[1:]), strict=True):
        if person == DISTRACTOR:
            continue
        for start in range(0, len(rows), _ROWS):
            block, rest = rows[start : start + _ROWS], rows[start:]
            pairs = np.triu(cameras[block][:, None] != cameras[rest], 1)
            if pairs.any():
                yield rows, distance_matrix(embeddings[block], embeddings[rest], metric)[pairs]


def impostor_blocks(tracklets: PairLabels) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield distances of a block of rows to the rows from its first on, a mask of impostor pairs, and the first row."""
    embeddings, persons, _, metric = tracklets
    step = max(1, _BLOCK_BYTES // (embeddings.itemsize * len(embeddings)))
    for start in range(0, len(embeddings), step):
        rows = slice(start, start + step)
        impostors = np.triu(persons[rows, None] != persons[start:], 1)
        yield distance_matrix(embeddings[rows], embeddings[start:], metric), impostors, start


def num_impostors(persons: np.ndarray) -> int:
    """Return the number of impostor pairs among tracklets of the persons."""
    counts = np.bincount(np.unique(persons, return_inverse=True)[1]).astype(float)
    return int(pairs_between(counts[None])[0])


def pairs_between(sizes: np.ndarray) -> np.ndarray:
    """Return, for each row of sizes of groups, the number of pairs across groups."""
    return (sizes.sum(axis=1) ** 2 - (sizes**2).sum(axis=1)) / 2


def count_within(share: float, count: int) -> int:
    """Return how many of `count` things a share allows: 29 for 0.29 of 100, although the product rounds below."""
    return math.floor(share * count * (1 + 1e-12))


def check_rate(rate: float, count: int, things: str, name: str) -> None:
    """Raise if a rate is not between 0 and 1, or `count` things are too few to show it."""
    if not 0 < rate < 1:
        raise ValueError(f"`{name}` is above 0 and below 1. Received: {name}={rate!r}")
    if not count_within(rate, count):
        raise ValueError(
            f"A rate of {rate} takes {math.ceil(1 / rate)} {things} to see one, but there are {count}; choose "
            f"{name}={1 / count:.2g} or more, or give more persons. Received: {name}={rate!r}"
        )
