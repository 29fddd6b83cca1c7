"""What a gallery yields when it is read: some of its tracklets."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings


class Part(Protocol):
    """Some tracklets of a gallery."""

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


class SomeRows(Part):
    """Some tracklets of a part.

    Args:
        part: a `Part`.
        rows: numbers of its rows, rising.
    """

    def __init__(self, part: Part, rows: np.ndarray) -> None:
        self._part, self._rows = part, rows

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
