"""A gallery in memory, exact and without files."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings, joined
from kreid.gallery.gallery import Gallery, Verification
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import Part, RecordPart, SomeRows
from kreid.gallery.where import Where

# Tracklets up to which parts are joined.
_PART_ROWS = 1 << 16


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
        self._state: tuple[RecordPart, ...] = ()
        self._lock = threading.RLock()

    def verify(self, drop: bool = False) -> Verification:
        return Verification(self.count())

    def compact(self) -> None:
        with self._writing():
            self._delete_expired()

    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        for part in self._state:
            if where or added_after is not None:
                yield SomeRows(part, part.chosen(where, added_after=added_after))
            else:
                yield part

    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        *parts, last = *self._state, RecordPart(embeddings, added)
        # Parts of rising size are joined, so that adding copies each tracklet a few times, however many there are.
        while parts and len(parts[-1].record) <= min(2 * len(last.record), _PART_ROWS - len(last.record)):
            part = parts.pop()
            last = RecordPart(joined([part.record, last.record]), np.concatenate([part.added, last.added]))
        self._state = (*parts, last)

    def _delete(self, where: Where, added_until: float | None) -> int:
        parts, deleted = [], 0
        for part in self._state:
            rows = part.chosen(where, added_until=added_until)
            deleted += len(rows)
            if len(rows):
                kept = np.delete(np.arange(len(part.record)), rows)
                part = RecordPart(part.record.take(kept), part.added[kept])
            parts += [part] if len(part.record) else []
        self._state = tuple(parts)
        return deleted

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return self._locked()

    def _log(self, action: str, **details: Any) -> None:
        """Keep no log: the tracklets end with the process, too."""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            yield
