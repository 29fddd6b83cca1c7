"""What a gallery yields when it is read: some of its tracklets."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings


class Part(Protocol):
    """Some tracklets of a gallery."""

    @property
    def embeddings(self) -> np.ndarray:
        """Float32 `(tracklets, features)`."""

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

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Return the place of each tracklet's id in `ids`, -1 if it is not there."""

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

    @property
    def embeddings(self) -> np.ndarray:
        return self._part.embeddings[self._rows]

    @property
    def squares(self) -> np.ndarray:
        return self._part.squares[self._rows]

    @property
    def persons(self) -> np.ndarray:
        return self._part.persons[self._rows]

    @property
    def added(self) -> np.ndarray:
        return self._part.added[self._rows]

    @property
    def cameras(self) -> np.ndarray:
        return self._part.cameras[self._rows]

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        return self._part.positions(ids)[self._rows]

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        return self._part.take(self._rows[rows])


def squared_lengths(embeddings: np.ndarray) -> np.ndarray:
    """Return the squared lengths of embeddings in float32; damaged values may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.einsum("nd,nd->n", embeddings, embeddings)
