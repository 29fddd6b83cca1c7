"""Search embeddings: the ranked list of a query."""

from typing import NamedTuple

import numpy as np

from kreid.data.tracklet import JUNK
from kreid.distances import distance_matrix
from kreid.gallery.embeddings import TrackletEmbeddings


class Ranked(NamedTuple):
    """One tracklet of a query's ranked list.

    Args:
        row: of the tracklet.
        rank: from 1; `None` for the query's person in the query's camera, which no protocol ranks.
        distance: to the query.
        same_person: whether it shows the query's person.
    """

    row: int
    rank: int | None
    distance: float
    same_person: bool


def ranked_list(embeddings: TrackletEmbeddings, query: int, count: int = 8) -> list[Ranked]:
    """List the nearest tracklets of a query, as the `standard` protocol ranks them.

    The gallery is without queries and junk. Tracklets of the query's person in the query's camera are listed at their
    distance, without a rank. If none of the `count` nearest tracklets is a match, the first match is added with its
    rank.

    Args:
        embeddings: a `TrackletEmbeddings`.
        query: row of the query.
        count: ranks to list.

    Returns:
        A list of `Ranked`, nearest first.

    Raises:
        ValueError: if the row is not a query.

    Example:

    >>> walks = kreid.gallery.TrackletEmbeddings(
    ...     [[0.0], [0.1], [0.2], [0.3]], ["a", "b", "c", "d"], [7, 7, 9, 7], [1, 1, 2, 2], query_rows=[0]
    ... )
    >>> [(walks.ids[entry.row].item(), entry.rank, entry.same_person) for entry in ranked_list(walks, 0)]
    [('b', None, True), ('c', 1, False), ('d', 2, True)]
    """
    if query not in embeddings.query_rows:
        raise ValueError(f"The row is none of the {len(embeddings.query_rows)} queries. Received: query={query!r}")
    distances = distance_matrix(embeddings.embeddings[[query]], embeddings.embeddings, embeddings.metric)[0]
    same_person = embeddings.persons == embeddings.persons[query]
    same_camera = embeddings.cameras == embeddings.cameras[query]
    unranked = same_person & same_camera
    excluded = embeddings.persons == JUNK
    excluded[embeddings.query_rows] = True
    entries: list[Ranked] = []
    rank, has_match = 0, False
    for row in np.argsort(distances, kind="stable").tolist():
        if excluded[row]:
            continue
        is_match = bool(same_person[row] and not unranked[row])
        rank += not unranked[row]
        if rank > count and has_match:
            break
        if rank <= count or is_match:
            own_rank = None if unranked[row] else rank
            entries.append(Ranked(row, own_rank, float(distances[row]), bool(same_person[row])))
        has_match = has_match or is_match
    return entries
