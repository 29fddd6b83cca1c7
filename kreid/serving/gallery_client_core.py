"""What both clients of a gallery share: everything but the waiting, see `client_flow`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Added
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.nearest import Match, check_search
from kreid.gallery.where import Where
from kreid.serving import gallery_wire
from kreid.serving.client_flow import ConnectionCore, Flow
from kreid.serving.images import check_images

Conditions = Where | Mapping[str, Any] | None
Threshold = float | Literal["model"] | None

# Of a request beside its tracklets, and of a tracklet beside its content.
_OTHER_BYTES, _OTHER_FIELDS = 64 * 1024, 10_000
_OVERHEAD, _LABEL_FIELDS = 8, 10


class GalleryCheck(NamedTuple):
    """Numbers of tracklets, from a comparison of the whole gallery with the digests made when it was added.

    Args:
        intact: as they were added.
        damaged: can be read and are not.
        lost: cannot be read.
    """

    intact: int
    damaged: int
    lost: int


class GalleryStats(NamedTuple):
    """What a server says of its gallery.

    Args:
        model: the `kreid.gallery.GalleryModel` of all embeddings.
        tracklets: that can be read.
        unknown: tracklets of unknown persons among them.
        persons: known persons.
        keep_days: days to keep a tracklet, `None` for any time.
        read_only: whether `add` and `delete` are refused.
        takes_images: whether the gallery's model is served beside it now.
        damaged_files: names of files whose damage was noticed; their other tracklets are found.
        verification: a `GalleryCheck`, if it was asked for.
        recall: measured of the gallery's approximate index, by which searches without conditions answer; `None` without
            one.
    """

    model: GalleryModel
    tracklets: int
    unknown: int
    persons: int
    keep_days: float | None
    read_only: bool
    takes_images: bool
    damaged_files: tuple[str, ...]
    verification: GalleryCheck | None
    recall: float | None


class _Row(NamedTuple):
    """A tracklet of a request.

    Args:
        message: a `Tracklet`.
        fields: of the message, at most.
    """

    message: Any
    fields: int


class GalleryCore(ConnectionCore):
    """The methods of a gallery's client; see `GalleryClient`."""

    def search(
        self,
        query: TrackletEmbeddings,
        count: int,
        where: Conditions,
        other_cameras: bool,
        threshold: Threshold,
        by_person: bool,
        exact: bool,
    ) -> Flow[list[Match]]:
        """Find the nearest tracklets of one."""
        if len(query) != 1:
            raise ValueError(
                f"`search` takes one tracklet, `search_many` takes several. Received: {len(query)} tracklets"
            )
        return (yield from self.search_many(query, count, where, other_cameras, threshold, by_person, exact))[0]

    def search_many(
        self,
        queries: TrackletEmbeddings,
        count: int,
        where: Conditions,
        other_cameras: bool,
        threshold: Threshold,
        by_person: bool,
        exact: bool,
    ) -> Flow[list[list[Match]]]:
        """Find the nearest tracklets of several."""
        model = {"fingerprint": queries.model, "metric": queries.metric}
        rows = _embeddings(queries)
        return (yield from self._search(rows, model, count, where, other_cameras, threshold, by_person, exact))

    def search_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        count: int,
        cameras: ArrayLike | None,
        where: Conditions,
        other_cameras: bool,
        threshold: Threshold,
        by_person: bool,
        exact: bool,
    ) -> Flow[list[list[Match]]]:
        """Find the nearest tracklets of images."""
        images = [check_images(row, own) for row, own in enumerate(tracklets)]
        rows = list(_images(_labels(images, {} if cameras is None else {"cameras": cameras}), images))
        for row in rows:
            row.message.id = ""
            if cameras is None:
                row.message.ClearField("camera")
        return (yield from self._search(rows, {}, count, where, other_cameras, threshold, by_person, exact))

    def add(self, record: TrackletEmbeddings) -> Flow[Added]:
        """Add tracklets."""
        model = {"fingerprint": record.model, "metric": record.metric}
        return (yield from self._add(_embeddings(record), model))

    def add_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        ids: ArrayLike,
        persons: ArrayLike,
        cameras: ArrayLike,
        labels: Mapping[str, Any],
    ) -> Flow[Added]:
        """Add tracklets of images."""
        images = [check_images(row, own) for row, own in enumerate(tracklets)]
        record = _labels(images, {"ids": ids, "persons": persons, "cameras": cameras, **labels})
        return (yield from self._add(_images(record, images), {}))

    def delete(self, where: Conditions, compact: bool) -> Flow[int]:
        """Delete tracklets."""
        request = gallery_wire.messages()["DeleteRequest"](compact=compact)
        gallery_wire.fill_where(request.where, Where.of(where))
        return (yield from self._ask("Delete", request)).deleted

    def stats(self, verify: bool) -> Flow[GalleryStats]:
        """Describe the gallery."""
        stats = yield from self._ask("Stats", gallery_wire.messages()["StatsRequest"](verify=verify))
        threshold = stats.threshold if stats.HasField("threshold") else None
        check = stats.verification
        return GalleryStats(
            GalleryModel(stats.fingerprint, stats.dimension, stats.metric, threshold, stats.system, stats.version),
            stats.tracklets,
            stats.unknown,
            stats.persons,
            stats.keep_days if stats.HasField("keep_days") else None,
            stats.read_only,
            stats.takes_images,
            tuple(stats.damaged_files),
            GalleryCheck(check.intact, check.damaged, check.lost) if stats.HasField("verification") else None,
            stats.recall if stats.HasField("recall") else None,
        )

    def _search(
        self,
        rows: Iterable[_Row],
        model: Mapping[str, str],
        count: int,
        where: Conditions,
        other_cameras: bool,
        threshold: Threshold,
        by_person: bool,
        exact: bool,
    ) -> Flow[list[list[Match]]]:
        conditions = Where.of(where)
        check_search(count, threshold)
        settings = {**model, "count": count, "other_cameras": other_cameras, "by_person": by_person, "exact": exact}
        if threshold is None:
            settings["any_distance"] = True
        elif threshold != "model":
            settings["max_distance"] = threshold
        found: list[list[Match]] = []
        for group in self._groups(rows, gallery_wire.MAX_MATCHES // count):
            request = gallery_wire.messages()["SearchRequest"](queries=group, **settings)
            if conditions:
                gallery_wire.fill_where(request.where, conditions)
            answer = yield from self._ask("Search", request)
            found += [[gallery_wire.read_match(match) for match in one.matches] for one in answer.rankings]
        return found

    def _add(self, rows: Iterable[_Row], model: Mapping[str, str]) -> Flow[Added]:
        total = Added(0, 0, 0)
        for group in self._groups(rows):
            request = gallery_wire.messages()["AddRequest"](tracklets=group, **model)
            one = yield from self._ask("Add", request)
            total = Added(total.added + one.added, total.unchanged + one.unchanged, total.junk + one.junk)
        return total

    def _ask(self, name: str, request: Any) -> Flow[Any]:
        response_type = gallery_wire.messages()[f"{name}Response"]
        return (yield from self._send(gallery_wire.method(name), request, response_type)).response

    def _groups(self, rows: Iterable[_Row], most: int = gallery_wire.MAX_ROWS) -> Iterator[list[Any]]:
        """Yield the tracklets of each request."""
        most = max(1, min(most, gallery_wire.MAX_ROWS))
        group: list[Any] = []
        fields, size = 0, 0
        for row in rows:
            own_size = row.message.ByteSize() + _OVERHEAD
            full = (
                len(group) == most
                or fields + row.fields > gallery_wire.MAX_FIELDS - _OTHER_FIELDS
                or size + own_size > self.max_message_bytes - _OTHER_BYTES
            )
            if group and full:
                yield group
                group, fields, size = [], 0, 0
            group.append(row.message)
            fields, size = fields + row.fields, size + own_size
        if group:
            yield group


def _labels(images: Sequence[object], given: Mapping[str, Any]) -> TrackletEmbeddings:
    """Return a record with the labels of tracklets of images, and embeddings of no meaning."""
    count = len(images)
    fields: dict[str, Any] = {
        "ids": np.arange(count).astype(np.str_),
        "persons": np.zeros(count),
        "cameras": np.zeros(count),
    }
    return TrackletEmbeddings(np.zeros((count, 1)), **{**fields, **given})


def _embeddings(record: TrackletEmbeddings) -> Iterator[_Row]:
    """Yield a record's tracklets with their embeddings."""
    for row, vector in enumerate(record.embeddings):
        yield _row(record, row, embedding=vector)


def _images(record: TrackletEmbeddings, images: Sequence[Sequence[bytes]]) -> Iterator[_Row]:
    """Yield a record's tracklets with images."""
    for row, own in enumerate(images):
        yield _row(record, row, images=own)


def _row(record: TrackletEmbeddings, row: int, **content: Any) -> _Row:
    message = gallery_wire.messages()["Tracklet"](**content)
    gallery_wire.fill_labels(message, record, row)
    # An entry of tags is three fields; a list of floats is one.
    return _Row(message, _LABEL_FIELDS + 3 * len(message.tags) + len(message.images))
