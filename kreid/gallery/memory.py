"""A gallery in memory, exact and without files."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings, joined
from kreid.gallery.gallery import Gallery, Verification
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import Part, SomeRows, squared_lengths
from kreid.gallery.where import Where


class RecordPart(Part):
    """Tracklets of a record of embeddings.

    Args:
        record: a `TrackletEmbeddings`.
        added: seconds since 1970, of each tracklet.
    """

    def __init__(self, record: TrackletEmbeddings, added: np.ndarray) -> None:
        self.record, self._added = record, added

    @property
    def embeddings(self) -> np.ndarray:
        return self.record.embeddings

    @functools.cached_property
    def squares(self) -> np.ndarray:
        return squared_lengths(self.embeddings)

    @property
    def persons(self) -> np.ndarray:
        return self.record.persons

    @property
    def cameras(self) -> np.ndarray:
        return self.record.cameras

    @property
    def added(self) -> np.ndarray:
        return self._added

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        positions = np.full(len(self.record), -1)
        for place, name in enumerate(ids):
            if name in self._rows:
                positions[self._rows[name]] = place
        return positions

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        return self.record.take(rows)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.record.ids.tolist())}


class MemoryGallery(Gallery):
    """A gallery in memory: exact, gone with the process, without a log. Threads may use it at the same time.

    Args:
        model: a `GalleryModel`.
        keep_days: see `Gallery`.

    Example:

    >>> walks = kreid.gallery.TrackletEmbeddings(
    ...     [[0.0], [0.1], [5.0]], ["ann-1", "ann-2", "bob-1"], [7, 7, 9], [1, 2, 2]
    ... )
    >>> gallery = kreid.gallery.MemoryGallery(kreid.gallery.GalleryModel.of(walks))
    >>> gallery.add(walks)
    Added(added=3, unchanged=0, junk=0)
    >>> [match.id for match in gallery.search(walks.take([0]), threshold=1.0)]
    ['ann-2']
    >>> gallery.delete({"persons": [7]}), gallery.search(walks.take([0]), threshold=1.0)
    (2, [])
    """

    def __init__(self, model: GalleryModel, keep_days: float | None = None) -> None:
        super().__init__(model, keep_days)
        # Replaced as a whole, so that readers need no lock.
        self._state = RecordPart(model.no_tracklets(), np.zeros(0))
        self._lock = threading.RLock()

    def verify(self, drop: bool = False) -> Verification:
        return Verification(self.count())

    def compact(self) -> None:
        with self._writing():
            self._delete_expired()

    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        state = self._state
        if where or added_after is not None:
            yield SomeRows(state, np.flatnonzero(_mask(state, where, added_after=added_after)))
        else:
            yield state

    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        state = self._state
        self._state = RecordPart(joined([state.record, embeddings]), np.concatenate([state.added, added]))

    def _delete(self, where: Where, added_until: float | None) -> int:
        state = self._state
        chosen = _mask(state, where, added_until=added_until)
        self._state = RecordPart(state.record.take(~chosen), state.added[~chosen])
        return int(chosen.sum())

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return self._locked()

    def _log(self, action: str, **details: Any) -> None:
        """Keep no log: the tracklets end with the process, too."""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            yield


def _mask(
    state: RecordPart, where: Where, added_after: float | None = None, added_until: float | None = None
) -> np.ndarray:
    chosen = where.mask(state.record)
    if added_after is not None:
        chosen &= state.added > added_after
    if added_until is not None:
        chosen &= state.added <= added_until
    return chosen
