"""The interface of galleries: keep embeddings, search them and forget them."""

import abc
import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from kreid._files import printable
from kreid.data.tracklet import JUNK
from kreid.gallery import parquet
from kreid.gallery.compressed_index import IndexReport
from kreid.gallery.embeddings import TrackletEmbeddings, check_ids, joined
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.nearest import Match, NearestTracklets, check_search
from kreid.gallery.parts import Part
from kreid.gallery.where import Where

Result = TypeVar("Result")

_DAY = 24 * 60 * 60
# Ids of a condition at once.
_IDS = 2000
# Names in a line of the log, at most.
_LOGGED = 20


class GalleryBusyError(OSError):
    """The error of a gallery that others change: try again later."""


class GalleryDamagedError(OSError, ValueError):
    """The error of a gallery whose files are damaged where a request needs them."""


class Added(NamedTuple):
    """The result of adding tracklets.

    Args:
        added: tracklets that are new.
        unchanged: tracklets that the gallery had already.
        junk: false detections (person -1), which are left out.
    """

    added: int
    unchanged: int
    junk: int


class Verification(NamedTuple):
    """The result of verifying a gallery.

    Args:
        intact: tracklets that can be read and are as they were added.
        damaged: ids of tracklets that can be read and are not.
        lost: tracklets that cannot be read.
        lost_ids: ids of these, as far as they can be read.
        files: names of the damaged files.
    """

    intact: int
    damaged: tuple[str, ...] = ()
    lost: int = 0
    lost_ids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged or lost."""
        return not self.damaged and not self.lost


class Gallery(abc.ABC):
    """Embeddings of tracklets of one model: kept, searched and deleted.

    `MemoryGallery` is the exact form in memory, `LanceGallery` a folder on the disk, `MilvusGallery` in a server. All
    answer alike.

    Persons are numbers above 0; 0 is unknown. A tracklet is known by its id. Times are seconds, in any clock that all
    tracklets share. With `keep_days`, a tracklet is gone that many days after it was added: it is never found again,
    and the next `add` or `compact` deletes it.

    Args:
        model: a `GalleryModel`.
        keep_days: days to keep a tracklet; `None` for any time.

    Raises:
        ValueError: if `keep_days` is not a positive number.
    """

    def __init__(self, model: GalleryModel, keep_days: float | None = None) -> None:
        self._model, self._keep_days = model, checked_keep_days(keep_days)

    @property
    def model(self) -> GalleryModel:
        """The model of all embeddings."""
        return self._model

    @property
    def keep_days(self) -> float | None:
        """Days to keep a tracklet."""
        return self._keep_days

    @property
    def damaged_files(self) -> tuple[str, ...]:
        """Names of the gallery's files that were found damaged when they were read; `verify` reads all."""
        return ()

    @property
    def index(self) -> IndexReport | None:
        """The index that searches without conditions use, with its measured recall; `None` without one."""
        return None

    def index_for(
        self,
        *,
        where: Where | Mapping[str, Any] | None = None,
        other_cameras: bool = False,
        by_person: bool = False,
        exact: bool = False,
    ) -> IndexReport | None:
        """Return the index that a search with these arguments uses, `None` if it compares all tracklets.

        Args:
            where: see `search`; any condition makes it exact.
            other_cameras: see `search`; `True` makes it exact.
            by_person: see `search`; `True` makes it exact.
            exact: see `search`.

        Raises:
            ValueError: if a condition is unknown.
        """
        return None if exact or other_cameras or by_person or Where.of(where) else self.index

    def asked_by(self, who: str) -> contextlib.AbstractContextManager[None]:
        """Name who asks in the log, for the requests of this thread inside the block.

        Args:
            who: asks.
        """
        return contextlib.nullcontext()

    def add(self, embeddings: TrackletEmbeddings) -> Added:
        """Add tracklets, all or none. A tracklet that the gallery has already is left as it is.

        Args:
            embeddings: a `TrackletEmbeddings`, as `kreid.gallery.embed_tracklets` makes it.

        Returns:
            An `Added`.

        Raises:
            ValueError: if the embeddings are of another model, a value is NaN, a person is not a number from 0 (or -1),
                or the gallery has a tracklet of the same id and other content.
        """
        return self._add(embeddings, np.full(len(embeddings), time.time()))

    def search(
        self,
        query: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Where | Mapping[str, Any] | None = None,
        other_cameras: bool = False,
        threshold: float | Literal["model"] | None = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[Match]:
        """Find the nearest tracklets of one. The gallery's own tracklet of the same id is left out.

        Args:
            query: a `TrackletEmbeddings` of one tracklet.
            count: tracklets to find.
            where: conditions, a `Where` or a mapping of its fields.
            other_cameras: leave out tracklets of the query's camera.
            threshold: only distances below it count. `"model"` is the model's; without one, and with `None`, all
                count.
            by_person: find the nearest tracklet of each person; tracklets of unknown persons count one by one.
            exact: compare all tracklets, also where the gallery has an index. A search with conditions, in other
                cameras or by person always does.

        Returns:
            A list of `Match`, nearest first, equal distances by id. It is empty if nobody is known who is near enough.

        Raises:
            ValueError: if the query is of another model, not one tracklet, or a condition is unknown.
        """
        if len(query) != 1:
            raise ValueError(
                f"`search` takes one tracklet, `search_many` takes several. Received: {len(query)} tracklets"
            )
        return self.search_many(
            query,
            count,
            where=where,
            other_cameras=other_cameras,
            threshold=threshold,
            by_person=by_person,
            exact=exact,
        )[0]

    def search_many(
        self,
        queries: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Where | Mapping[str, Any] | None = None,
        other_cameras: bool = False,
        threshold: float | Literal["model"] | None = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the nearest tracklets of several, in one pass over the gallery.

        Args:
            queries: a `TrackletEmbeddings`.
            count: see `search`.
            where: see `search`.
            other_cameras: see `search`.
            threshold: see `search`.
            by_person: see `search`.
            exact: see `search`.

        Returns:
            A list of `Match` for each query, see `search`.

        Raises:
            ValueError: see `search`.
        """
        conditions = Where.of(where)
        check_search(count, threshold)
        self.model.check(queries, "queries")
        limit = self.model.threshold if threshold == "model" else threshold
        ids = queries.ids[:_LOGGED].tolist()
        self._log("search", queries=len(queries), ids=ids, where=conditions.to_dict(), count=int(count))

        find = self._find if exact else self._find_near
        return self._read(lambda: find(queries, int(count), limit, other_cameras, by_person, conditions))

    def get(self, ids: Sequence[str]) -> TrackletEmbeddings:
        """Return tracklets by id.

        Args:
            ids: of the tracklets, each once.

        Returns:
            A `TrackletEmbeddings` in the order of `ids`.

        Raises:
            ValueError: if the gallery has no tracklet of an id, or an id is named twice.
        """
        ids = Where(ids=ids).ids or ()
        check_ids(np.array(ids, np.str_))
        self._log("read", where={"ids": ids})
        found = self._read(lambda: self._of_ids(ids))
        rows = {name: row for row, name in enumerate(found.ids.tolist())}
        missing = [name for name in ids if name not in rows]
        if missing:
            raise ValueError(f"The gallery has no tracklet of {len(missing)} ids. Received: ids with {missing[:5]}")
        return found.take([rows[name] for name in ids])

    def read(self, where: Where | Mapping[str, Any] | None = None) -> TrackletEmbeddings:
        """Return all tracklets that conditions choose, for the scores of `kreid.evaluation`.

        Args:
            where: conditions, a `Where` or a mapping of its fields.

        Returns:
            A `TrackletEmbeddings` in the order of the ids.
        """
        conditions = Where.of(where)
        self._log("read", where=conditions.to_dict())
        record = self._read(lambda: self._joined(part.take(_all(part)) for part in self._kept_parts(conditions)))
        return record.take(np.argsort(record.ids, kind="stable"))

    def count(self, where: Where | Mapping[str, Any] | None = None) -> int:
        """Return how many tracklets conditions choose.

        Args:
            where: conditions, a `Where` or a mapping of its fields.
        """
        return sum(self.persons(where).values())

    def persons(self, where: Where | Mapping[str, Any] | None = None) -> dict[int, int]:
        """Return how many tracklets each person has.

        Args:
            where: conditions, a `Where` or a mapping of its fields.

        Returns:
            A dict of person to number, in the order of the persons.
        """
        conditions = Where.of(where)

        def counted() -> Counter[int]:
            persons: Counter[int] = Counter()
            for part in self._kept_parts(conditions, labels_only=True):
                persons.update(part.persons.tolist())
            return persons

        return dict(sorted(self._read(counted).items()))

    def delete(self, where: Where | Mapping[str, Any]) -> int:
        """Delete the tracklets that conditions choose. `compact` then removes their bytes from all files.

        Args:
            where: conditions, a `Where` or a mapping of its fields; at least one.

        Returns:
            The number of deleted tracklets.

        Raises:
            ValueError: if there is no condition.
        """
        conditions = Where.of(where)
        if not conditions:
            raise ValueError(
                "Give at least one condition; to delete everything, delete the gallery itself. Received: where={}"
            )
        with self._writing():
            self._log("delete", where=conditions.to_dict(), tracklets=self.count(conditions))
            return self._delete(conditions, None)

    def export_parquet(self, path: str | os.PathLike[str], where: Where | Mapping[str, Any] | None = None) -> int:
        """Write tracklets into a Parquet file, whole or not at all. Deleting from the gallery does not change it.

        Args:
            path: of the file; its folder exists.
            where: conditions, a `Where` or a mapping of its fields.

        Returns:
            The number of tracklets.
        """
        conditions = Where.of(where)
        self._log("export", where=conditions.to_dict(), file=os.fspath(path))
        return self._read(lambda: parquet.write(path, self.model, self._kept_parts(conditions)))

    def import_parquet(self, path: str | os.PathLike[str]) -> Added:
        """Add the tracklets of a file that `export_parquet` wrote; they keep the time at which they were added first.

        Args:
            path: of the file.

        Returns:
            An `Added`.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if the file is another one or damaged, and as `add` does.
        """
        _, record, added = parquet.read(path)
        return self._add(record, added)

    @abc.abstractmethod
    def verify(self, drop: bool = False) -> Verification:
        """Read everything and compare it with the digests that were made when it was added.

        Args:
            drop: delete the tracklets that are damaged or lost, so that the gallery is whole again.

        Returns:
            A `Verification`, of the state before anything was deleted.
        """

    @abc.abstractmethod
    def compact(self) -> None:
        """Delete tracklets past `keep_days`, and leave no byte of a deleted embedding."""

    @abc.abstractmethod
    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        """Yield the tracklets that conditions choose; `labels_only` may leave out embeddings."""

    @abc.abstractmethod
    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        """Add new tracklets, all or none."""

    @abc.abstractmethod
    def _delete(self, where: Where, added_until: float | None) -> int:
        """Delete the tracklets that conditions choose, those alone that were added by a time if it is given."""

    @abc.abstractmethod
    def _writing(self) -> contextlib.AbstractContextManager[None]:
        """Let no other writer in; may be nested."""

    @abc.abstractmethod
    def _log(self, action: str, **details: Any) -> None:
        """Log a request, before it is carried out."""

    def _find(
        self,
        queries: TrackletEmbeddings,
        count: int,
        limit: float | None,
        other_cameras: bool,
        by_person: bool,
        where: Where,
    ) -> list[list[Match]]:
        """Return the matches of each query, by reading all tracklets that conditions choose."""
        nearest = NearestTracklets(queries, count, limit, other_cameras, by_person)
        for part in self._kept_parts(where):
            nearest.add(part)
        return nearest.results()

    def _find_near(
        self,
        queries: TrackletEmbeddings,
        count: int,
        limit: float | None,
        other_cameras: bool,
        by_person: bool,
        where: Where,
    ) -> list[list[Match]]:
        """Return the matches of each query, by the gallery's index if it has one."""
        return self._find(queries, count, limit, other_cameras, by_person, where)

    def _read(self, read: Callable[[], Result]) -> Result:
        """Run a function that reads; a gallery that others change repeats it."""
        return read()

    def _expiry(self) -> float | None:
        return None if self._keep_days is None else time.time() - self._keep_days * _DAY

    def _kept_parts(self, where: Where, labels_only: bool = False) -> Iterator[Part]:
        return self._parts(where, self._expiry(), labels_only)

    def _delete_expired(self) -> None:
        expiry = self._expiry()
        if expiry is not None:
            expired = self._delete(Where(), expiry)
            if expired:
                self._log("expire", tracklets=expired, keep_days=self._keep_days)

    def _joined(self, records: Iterator[TrackletEmbeddings]) -> TrackletEmbeddings:
        return joined([self.model.no_tracklets(), *records])

    def _of_ids(self, ids: Sequence[str]) -> TrackletEmbeddings:
        return self._joined(
            part.take(_all(part))
            for start in range(0, len(ids), _IDS)
            for part in self._kept_parts(Where(ids=ids[start : start + _IDS]))
        )

    def _add(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> Added:
        self.model.check(embeddings)
        junk = embeddings.persons == JUNK
        if (embeddings.persons < JUNK).any():
            row = int(np.argmin(embeddings.persons))
            raise ValueError(
                f"A person is a number above 0, 0 for unknown, or -1 for junk. Received: "
                f"persons[{row}]={embeddings.persons[row]}"
            )
        _check_texts(embeddings)
        people, added = embeddings.take(~junk), added[~junk]
        with self._writing():
            self._delete_expired()
            had = self._read(lambda: self._of_ids(people.ids.tolist()))
            _check_unchanged(people, had)
            new = ~np.isin(people.ids, had.ids)
            sources = np.unique(people.sources)[:_LOGGED].tolist()
            self._log("add", tracklets=int(new.sum()), unchanged=len(had), sources=sources)
            if new.any():
                self._insert(people.take(new), added[new])
        return Added(int(new.sum()), len(had), int(junk.sum()))


def checked_keep_days(keep_days: float | None) -> float | None:
    """Return days to keep tracklets, checked."""
    if keep_days is None:
        return None
    if isinstance(keep_days, bool) or not isinstance(keep_days, (int, float)) or not 0 < keep_days < math.inf:
        raise ValueError(f"`keep_days` is a number above 0, or None. Received: keep_days={keep_days!r}")
    return keep_days


def _all(part: Part) -> np.ndarray:
    return np.arange(len(part.persons))


def _check_texts(embeddings: TrackletEmbeddings) -> None:
    if (embeddings.ids == "").any():
        raise ValueError("A tracklet's id is not empty. Received: ids with ''")
    texts = [*embeddings.ids.tolist(), *embeddings.sources.tolist()]
    texts += [text for own in embeddings.tags for pair in own.items() for text in pair]
    for text in texts:
        if printable(text) != text:
            raise ValueError(
                f"Ids, sources and tags are valid Unicode; this may be a file name in another encoding. Received: "
                f"{text!r}"
            )


def _check_unchanged(given: TrackletEmbeddings, had: TrackletEmbeddings) -> None:
    """Raise if tracklets of the gallery are given with other content."""
    rows = {name: row for row, name in enumerate(given.ids.tolist())}
    again = given.take([rows[name] for name in had.ids.tolist()])
    same = (again.embeddings == had.embeddings).all(axis=1)
    for name in ("persons", "cameras", "sources"):
        same &= getattr(again, name) == getattr(had, name)
    for name in ("starts", "ends"):
        one, other = getattr(again, name), getattr(had, name)
        same &= (one == other) | (np.isnan(one) & np.isnan(other))
    same &= np.array([one == other for one, other in zip(again.tags, had.tags, strict=True)], bool)
    if not same.all():
        changed = had.ids[~same].tolist()
        raise ValueError(
            f"The gallery has tracklets of these ids with other content: delete them first, or give the new ones other "
            f"ids. Received: {len(changed)} such ids, the first {changed[:5]}"
        )
