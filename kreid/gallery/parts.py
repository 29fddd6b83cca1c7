"""What a gallery yields when it is read: some of its tracklets."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.where import Where


class Part(Protocol):
    """Some tracklets of a gallery.

    Attributes:
        in_memory: the gallery keeps the tracklets in memory, so that a search may keep the part.
    """

    in_memory: bool

    @property
    def squares(self) -> np.ndarray:
        """Float32 `(tracklets,)`, the squared lengths of the embeddings."""

    @property
    def persons(self) -> np.ndarray:
        """Int64 `(tracklets,)`."""

    @property
    def added(self) -> np.ndarray:
        """Float64 `(tracklets,)`, seconds since 1970 at which each was added."""

    @property
    def cameras(self) -> np.ndarray:
        """Int64 `(tracklets,)`."""

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return embeddings of some rows, float32 `(rows, features)`."""

    def positions(self, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Return the place of each row's id in `ids`, -1 if it is not there."""

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        """Return some rows with all labels."""


class RecordPart(Part):
    """Tracklets of a record of embeddings.

    Args:
        record: a `TrackletEmbeddings`.
        added: seconds since 1970, of each tracklet.
    """

    in_memory = True

    def __init__(self, record: TrackletEmbeddings, added: np.ndarray) -> None:
        self.record, self._added = record, added

    @functools.cached_property
    def squares(self) -> np.ndarray:
        return squared_lengths(self.record.embeddings)

    @property
    def persons(self) -> np.ndarray:
        return self.record.persons

    @property
    def cameras(self) -> np.ndarray:
        return self.record.cameras

    @property
    def added(self) -> np.ndarray:
        return self._added

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        return self.record.embeddings[rows]

    def positions(self, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
        positions = np.full(len(rows), -1)
        own = sorted((self._rows[name], place) for place, name in enumerate(ids) if name in self._rows)
        if own:
            known, places = np.array(own).T
            nearest = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            here = known[nearest] == rows
            positions[here] = places[nearest[here]]
        return positions

    def chosen(self, where: Where, added_after: float | None = None, added_until: float | None = None) -> np.ndarray:
        """Return the rows that conditions choose, rising.

        Args:
            where: conditions.
            added_after: seconds since 1970; added later.
            added_until: seconds since 1970; added then or earlier.
        """
        if where.ids is not None:
            rows = np.array(sorted({self._rows[name] for name in where.ids if name in self._rows}), np.int64)
            mask = where.mask(self.record.take(rows)) if len(rows) else np.zeros(0, bool)
        else:
            rows, mask = np.arange(len(self.record)), where.mask(self.record)
        if added_after is not None:
            mask &= self.added[rows] > added_after
        if added_until is not None:
            mask &= self.added[rows] <= added_until
        return rows[mask]

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        return self.record.take(rows)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.record.ids.tolist())}


class SomeRows(Part):
    """Some tracklets of a part.

    Args:
        part: a `Part`.
        rows: numbers of its rows, rising.
    """

    def __init__(self, part: Part, rows: np.ndarray) -> None:
        self._part, self._rows = part, rows
        self.in_memory = part.in_memory

    @functools.cached_property
    def squares(self) -> np.ndarray:
        return self._part.squares[self._rows]

    @functools.cached_property
    def persons(self) -> np.ndarray:
        return self._part.persons[self._rows]

    @functools.cached_property
    def added(self) -> np.ndarray:
        return self._part.added[self._rows]

    @functools.cached_property
    def cameras(self) -> np.ndarray:
        return self._part.cameras[self._rows]

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._part.vectors(self._rows[rows])

    def positions(self, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
        return self._part.positions(ids, self._rows[rows])

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        return self._part.take(self._rows[rows])


def squared_lengths(embeddings: np.ndarray) -> np.ndarray:
    """Return the squared lengths of embeddings in float32; damaged values may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.einsum("nd,nd->n", embeddings, embeddings)
