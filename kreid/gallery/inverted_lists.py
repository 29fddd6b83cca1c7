"""An approximate index of a gallery: lists of tracklets around centres (an inverted file, IVF)."""

import copy
import dataclasses
import json
import math
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from kreid.gallery.arrow import ArrowPart, JoinedRows
from kreid.gallery.embeddings import BROKEN, TrackletEmbeddings, read_arrays, write_arrays
from kreid.gallery.nearest import Match, NearestTracklets
from kreid.gallery.parts import squared_lengths

# Tracklets of which an index's recall is measured, and the nearest of each that are to be found.
SAMPLE, NEAREST = 256, 10
MIN_TRACKLETS = 64
# A search that compares a larger share than 1 / this does better with all: they are read in one go.
_MOST = 4
# Tracklets to compare for each that is asked for, at least.
_PER_RESULT = 4
# Of the depth of a search that found too little.
_GROWTH = 8.0
# Lists for each square root of tracklets, and tracklets for each list, which its centre is made from. With half as many
# lists of twice as many, persons share lists, and searches compare three times as many.
_LISTS, _PER_LIST, _LEAST_PER_LIST, _ROUNDS = 8, 16, 8, 10
_FORMAT = 1


class IndexReport(NamedTuple):
    """What is known of a gallery's index.

    Args:
        recall: measured share of the 10 nearest tracklets of an exact search that a search by the index finds. The
            queries are up to 256 of the gallery's tracklets, which had no part in making the lists.
        target: recall that was asked for.
        compared: tracklets that a search compares, at least.
        tracklets: in the index; those that were added later are all compared.
        lists: of the index.
    """

    recall: float
    target: float
    compared: int
    tracklets: int
    lists: int


class Source(Protocol):
    """Tracklets of a gallery, some of which a search asks for.

    Attributes:
        digests: uint64 `(tracklets,)`, known to the index.
    """

    @property
    def digests(self) -> np.ndarray:
        """Uint64 `(tracklets,)`."""

    def chosen(self, rows: np.ndarray, added_after: float | None) -> tuple[ArrowPart, np.ndarray]:
        """Return a part with those of some rows of this one that were added later, and their rows in it."""


class InvertedLists:
    """Lists of tracklets, each around a centre. A search compares the tracklets of the lists nearest to the query.

    A tracklet is known by the digest of its content, so that the lists hold whatever files the tracklets are in. One
    that is in no list, because it was added later, is compared in each search.

    Args:
        centres: float32 `(lists, features)`.
        digests: uint64 `(tracklets,)`.
        numbers: `(tracklets,)`, the list of each.
        report: an `IndexReport`.
    """

    def __init__(self, centres: np.ndarray, digests: np.ndarray, numbers: np.ndarray, report: IndexReport) -> None:
        order = np.argsort(digests)
        self.centres, self.digests, self._numbers = centres, digests[order], numbers[order].astype(np.int32)
        self.report = report
        self._halves = squared_lengths(centres) / 2
        # Goes with the tracklets that a gallery drops from memory.
        self._members: weakref.WeakKeyDictionary[Source, _Members] = weakref.WeakKeyDictionary()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all."""
        about = json.dumps({"format": _FORMAT, **self.report._asdict()})
        arrays = {"centres": self.centres, "digests": self.digests, "numbers": self._numbers}
        write_arrays(path, {**arrays, "about": np.array(about)})

    @classmethod
    def load(cls, path: str | os.PathLike[str], dimension: int) -> "InvertedLists":
        """Read a file.

        Args:
            path: of the file.
            dimension: of the gallery's embeddings.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, or a newer kreid wrote it.
        """
        try:
            arrays = read_arrays(path)
            about = json.loads(arrays["about"].item())
            if about.pop("format") != _FORMAT:
                raise ValueError("a newer kreid wrote it")
            centres, digests, numbers = (arrays[name] for name in ("centres", "digests", "numbers"))
            report = IndexReport(**about)
            if centres.shape != (report.lists, dimension) or not digests.shape == numbers.shape == (report.tracklets,):
                raise ValueError("its arrays do not fit together")
        except FileNotFoundError:
            raise
        except BROKEN as error:
            raise ValueError(f"The gallery's index cannot be read: {error}. Received: path={str(path)!r}") from error
        return cls(centres, digests, numbers, report)

    def with_compared(self, compared: int, recall: float) -> "InvertedLists":
        """Return the same lists, searched in another depth."""
        other = copy.copy(self)
        other.report = self.report._replace(compared=compared, recall=recall)
        return other

    def order(self, vector: np.ndarray) -> np.ndarray:
        """Return all lists, that of the nearest centre first."""
        # As in `nearest`, one query's products are no faster as those of a matrix, and threads wait for each other.
        return np.argsort(self._halves - np.vecdot(self.centres, vector), kind="stable")

    def members(self, source: Source) -> "_Members":
        """Return the rows of each list."""
        if source not in self._members:
            self._members[source] = _Members.of(self._lists_of(source.digests), self.report.lists)
        return self._members[source]

    def _lists_of(self, digests: np.ndarray) -> np.ndarray:
        places = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[places] == digests, self._numbers[places], self.report.lists)


@dataclasses.dataclass(frozen=True)
class _Members:
    """The rows of each list, in the order of the lists; the last one is of rows that are in none.

    Args:
        rows: of all lists.
        starts: of each list in `rows`, and the end.
    """

    rows: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, lists: int) -> "_Members":
        rows = np.argsort(numbers, kind="stable").astype(np.int32)
        return cls(rows, np.searchsorted(numbers[rows], np.arange(lists + 2)))

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.starts)

    def of_lists(self, numbers: np.ndarray) -> np.ndarray:
        """Return the rows of some lists, rising."""
        own = [self.rows[start:end] for start, end in zip(self.starts[numbers], self.starts[numbers + 1], strict=True)]
        return np.sort(np.concatenate(own))


def find_in_lists(
    index: InvertedLists,
    sources: Sequence[Source],
    query: TrackletEmbeddings,
    count: int,
    threshold: float | None,
    added_after: float | None,
) -> list[Match] | None:
    """Find the nearest tracklets of one, among those of the nearest lists.

    Lists are compared until they had as many tracklets as the index's recall was measured with, and four times as many
    as are asked for. Distances are exact.

    Args:
        index: an `InvertedLists`.
        sources: all tracklets.
        query: a `TrackletEmbeddings` of one tracklet.
        count: tracklets to find.
        threshold: only distances below it count; `None` for all.
        added_after: seconds since 1970; tracklets that were added earlier do not count.

    Returns:
        A list of `Match`; `None` if so large a share is needed that all are better compared.
    """
    members = [index.members(source) for source in sources]
    nearest = NearestTracklets(query, count, threshold)

    def compare(numbers: np.ndarray) -> int:
        """Compare the tracklets of some lists; return how many."""
        rows = [own.of_lists(numbers) for own in members]
        pairs = [source.chosen(own, added_after) for source, own in zip(sources, rows, strict=True) if len(own)]
        pairs = [(part, own) for part, own in pairs if len(own)]
        if pairs:
            nearest.add(JoinedRows(pairs))
        return sum(len(own) for _, own in pairs)

    # Tracklets that are in no list say nothing of how deep the search is.
    compare(np.array([index.report.lists]))
    order = index.order(directions(query.embeddings, query.metric)[0])
    sizes = sum((own.sizes for own in members), np.zeros(len(order) + 1, np.int64))
    reached = np.cumsum(sizes[order])
    least = max(index.report.compared, _PER_RESULT * count)
    first, seen, wanted = 0, 0, least
    while first < len(order) and seen < least:
        last = min(len(order), max(first, int(np.searchsorted(reached, wanted))) + 1)
        if _MOST * reached[last - 1] > reached[-1]:
            return None
        seen += compare(order[first:last])
        # More lists if many of these tracklets are too old.
        first, wanted = last, int(reached[last - 1] * min(_GROWTH, 1.1 * least / max(1, seen)))
    return nearest.results()[0]


def directions(embeddings: np.ndarray, metric: str) -> np.ndarray:
    """Return vectors whose Euclidean distances are in the order of the metric's."""
    if metric == "euclidean":
        return embeddings
    with np.errstate(invalid="ignore", divide="ignore"):
        return (embeddings / np.sqrt(squared_lengths(embeddings))[:, None]).astype(np.float32)


def lists_for(tracklets: int) -> int:
    """Return how many lists suit a number of tracklets."""
    return max(1, min(_LISTS * math.isqrt(tracklets), tracklets // _LEAST_PER_LIST))


def rows_to_draw(tracklets: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a gallery to measure with, and others to make centres from, both rising."""
    sample = min(SAMPLE, tracklets // 4)
    rows = random.permutation(tracklets)[: sample + _PER_LIST * lists_for(tracklets)]
    return np.sort(rows[:sample]), np.sort(rows[sample:])


def make_centres(vectors: np.ndarray, lists: int) -> np.ndarray:
    """Cluster vectors by k-means.

    Args:
        vectors: float32 `(tracklets, features)`.
        lists: number of clusters.

    Returns:
        Float32 `(lists, features)`.
    """
    faiss = import_faiss()
    means = faiss.Kmeans(
        vectors.shape[1], lists, niter=_ROUNDS, seed=0, min_points_per_centroid=1, max_points_per_centroid=2 * _PER_LIST
    )
    means.train(vectors)
    return means.centroids


def nearest_centres(centres: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the number of each vector's nearest centre, below 0 for a vector that is not finite."""
    _, numbers = import_faiss().knn(np.ascontiguousarray(vectors), centres, 1)
    return numbers[:, 0]


def recall_of(found: Sequence[Sequence[Match]], exact: Sequence[Sequence[Match]]) -> float:
    """Return the share of the exact results that were found; one as near as the last counts as well."""
    hits, total = 0, 0
    for own, all_own in zip(found, exact, strict=True):
        if all_own:
            hits += sum(match.distance <= all_own[-1].distance for match in own[: len(all_own)])
            total += len(all_own)
    return hits / max(1, total)


def import_faiss() -> Any:
    """Return the package FAISS, which makes the lists; a search needs none.

    Raises:
        ImportError: if it is not installed, with the command that installs it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("The index of a gallery is made by FAISS: pip install 'kreid[index]'") from error
    return faiss
