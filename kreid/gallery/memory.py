"""A gallery in memory, exact and without files."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings, joined
from kreid.gallery.gallery import Gallery, Verification
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import Part
from kreid.gallery.where import Where


class RecordPart(Part):
    """Tracklets of a record of embeddings.

    Args:
        record: a `TrackletEmbeddings`.
        added: seconds since 1970, of each tracklet.
    """

    def __init__(self, record: TrackletEmbeddings, added: np.ndarray) -> None:
        self._record, self._added = record, added

    @property
    def embeddings(self) -> np.ndarray:
        return self._record.embeddings

    @property
    def persons(self) -> np.ndarray:
        return self._record.persons

    @property
    def cameras(self) -> np.ndarray:
        return self._record.cameras

    @property
    def added(self) -> np.ndarray:
        return self._added

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        places = {name: place for place, name in enumerate(ids)}
        return np.array([places.get(name, -1) for name in self._record.ids.tolist()], np.int64)

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        return self._record.take(rows)


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
        self._state = model.no_tracklets(), np.zeros(0)
        self._lock = threading.RLock()

    def verify(self, drop: bool = False) -> Verification:
        return Verification(self.count())

    def compact(self) -> None:
        with self._writing():
            self._delete_expired()

    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        record, added = self._state
        if not where and added_after is None:
            yield RecordPart(record, added)
            return
        chosen = _mask(record, added, where, added_after=added_after)
        yield RecordPart(record.take(chosen), added[chosen])

    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        record, times = self._state
        self._state = joined([record, embeddings]), np.concatenate([times, added])

    def _delete(self, where: Where, added_until: float | None) -> int:
        record, added = self._state
        chosen = _mask(record, added, where, added_until=added_until)
        self._state = record.take(~chosen), added[~chosen]
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
    record: TrackletEmbeddings,
    added: np.ndarray,
    where: Where,
    added_after: float | None = None,
    added_until: float | None = None,
) -> np.ndarray:
    chosen = where.mask(record)
    if added_after is not None:
        chosen &= added > added_after
    if added_until is not None:
        chosen &= added <= added_until
    return chosen
