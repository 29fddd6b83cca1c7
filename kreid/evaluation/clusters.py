"""The diameters of the clusters that the embeddings of each person form."""

import numpy as np
from numpy.typing import ArrayLike

from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

# Rows of a person's embeddings that are compared with as many others at once.
_BLOCK = 1024


def cluster_diameters(embeddings: TrackletEmbeddings | ArrayLike, persons: ArrayLike | None = None) -> dict[int, float]:
    """Return the largest Euclidean distance between two embeddings of each person.

    Distances are computed block by block, so memory stays bounded for any number of embeddings. Distances grow with
    the scale of the embeddings: compare models whose embeddings have the same scale, such as length 1.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`.
        persons: with an array, integers `(tracklets,)`. Distractors (0) and junk (-1) are skipped: their labels are
            shared by several persons.

    Returns:
        A dict from the person, in rising order, to a float; 0 for a person with one embedding.

    Raises:
        ValueError: if sizes do not fit, or an embedding is NaN or infinite.

    Example:

    >>> kreid.evaluation.cluster_diameters([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]], [7, 7, 2])
    {2: 0.0, 7: 5.0}

    Reference: Li et al., TACAN: Temporal Aggregation with Clip-level Attention
    for Video-based Person Re-identification, 2020, equation 10 and Table 3.
    """
    embeddings, persons, *_ = labelled(embeddings, persons, needed=("persons",))
    fits = embeddings.ndim == 2 and persons.shape == embeddings.shape[:1]
    if not fits or not (np.issubdtype(persons.dtype, np.integer) or not persons.size):
        raise ValueError(
            "Give one row of `embeddings` for each of the integers in `persons`. Received: "
            f"embeddings of shape {embeddings.shape}, persons {persons.dtype} of shape {persons.shape}"
        )
    check_finite(embeddings, "embeddings")
    embeddings, persons = embeddings[persons > 0], persons[persons > 0]
    order = np.argsort(persons, kind="stable")
    labels, counts = np.unique(persons, return_counts=True)
    ends = np.cumsum(counts)
    diameters = {}
    for person, first, end in zip(labels.tolist(), ends - counts, ends, strict=True):
        rows = order[first:end]
        largest = 0.0
        for start in range(0, len(rows), _BLOCK):
            block = embeddings[rows[start : start + _BLOCK]]
            for other in range(start, len(rows), _BLOCK):
                distances = distance_matrix(block, embeddings[rows[other : other + _BLOCK]])
                largest = max(largest, float(distances.max()))
        diameters[person] = largest
    return diameters
