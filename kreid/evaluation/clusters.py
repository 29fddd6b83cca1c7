"""How tightly the embeddings of each person lie together."""

import numpy as np

from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite

# Rows of a person's embeddings taken at once, against as many others.
_BLOCK = 1024


def cluster_diameters(embeddings, persons):
    """The largest Euclidean distance between two embeddings of each person.

    Distances are computed block by block, so memory stays bounded however many
    embeddings a person has. Distances grow with the embeddings: compare models
    whose embeddings have the same scale, such as length 1.

    Args:
        embeddings: array `(tracklets, features)`.
        persons: integers `(tracklets,)`. Leave out distractors and junk, which
            share a label without being one person.

    Returns:
        A dict from the person, in rising order, to a float; 0 for a person of
        one embedding.

    Raises:
        ValueError: if sizes do not fit, or an embedding is NaN or infinite.

    Example:

    >>> kreid.evaluation.cluster_diameters([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]], [7, 7, 2])
    {2: 0.0, 7: 5.0}

    Reference: Li et al., TACAN: Temporal Aggregation with Clip-level Attention
    for Video-based Person Re-identification, 2020, equation 10 and Table 3.
    """
    embeddings, persons = np.asarray(embeddings), np.asarray(persons)
    fits = embeddings.ndim == 2 and persons.shape == embeddings.shape[:1]
    if not fits or not (np.issubdtype(persons.dtype, np.integer) or not persons.size):
        raise ValueError(
            "Give one row of `embeddings` for each of the integers in `persons`. Received: "
            f"embeddings of shape {embeddings.shape}, persons {persons.dtype} of shape {persons.shape}"
        )
    check_finite(embeddings, "embeddings")
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
                found = distance_matrix(block, embeddings[rows[other : other + _BLOCK]])
                largest = max(largest, float(found.max()))
        diameters[person] = largest
    return diameters
