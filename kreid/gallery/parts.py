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
