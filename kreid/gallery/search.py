"""Search embeddings: the ranked list of a query."""

from typing import NamedTuple

import numpy as np

from kreid.data.tracklet import JUNK
from kreid.distances import distance_matrix


class Ranked(NamedTuple):
    """One tracklet of a query's ranked list.

    Args:
        row: of the tracklet.
        rank: from 1; `None` for the query's own person in its own camera, which no protocol counts.
        distance: to the query.
        same_person: whether it is the query's person.
    """

    row: int
    rank: int | None
    distance: float
    same_person: bool


def ranked_list(embeddings, query, count=8):
    """The nearest tracklets of a query, as the `standard` protocol ranks them.

    The gallery is without queries and junk. Tracklets of the query's person in its own camera are listed where they
    would stand, without a rank. Where none of the `count` nearest is a match, the first one follows, with its rank.

    Args:
        embeddings: a `TrackletEmbeddings`.
        query: row of the query.
        count: ranks to list.

    Returns:
        A list of `Ranked`, nearest first.

    Raises:
        ValueError: if the row is none of the queries.

    Example:

    >>> found = kreid.gallery.TrackletEmbeddings(
    ...     [[0.0], [0.1], [0.2], [0.3]], ["a", "b", "c", "d"], [7, 7, 9, 7], [1, 1, 2, 2], query_rows=[0]
    ... )
    >>> [(found.ids[entry.row].item(), entry.rank, entry.same_person) for entry in ranked_list(found, 0)]
    [('b', None, True), ('c', 1, False), ('d', 2, True)]
    """
    if query not in embeddings.query_rows:
        raise ValueError(f"The row is none of the {len(embeddings.query_rows)} queries. Received: query={query!r}")
    distances = distance_matrix(embeddings.embeddings[[query]], embeddings.embeddings, embeddings.metric)[0]
    same_person = embeddings.persons == embeddings.persons[query]
    own = same_person & (embeddings.cameras == embeddings.cameras[query])
    left_out = embeddings.persons == JUNK
    left_out[embeddings.query_rows] = True
    listed, rank, found = [], 0, False
    for row in np.argsort(distances, kind="stable").tolist():
        if left_out[row]:
            continue
        rank += not own[row]
        match = same_person[row] and not own[row]
        if rank > count and found:
            break
        if rank <= count or match:
            place = None if own[row] else rank
            listed.append(Ranked(row, place, float(distances[row]), bool(same_person[row])))
        found = found or match
    return listed
