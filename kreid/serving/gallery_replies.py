"""Replies of the gallery service: requests read and checked, images embedded, the gallery asked."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Gallery, GalleryBusyError, GalleryDamagedError
from kreid.gallery.nearest import check_search
from kreid.gallery.where import Where
from kreid.serving import gallery_wire
from kreid.serving.gallery_wire import MAX_MATCHES, MAX_ROWS
from kreid.serving.images import check_images
from kreid.serving.refusal import RequestRefused
from kreid.serving.telemetry import Call

DEFAULT_COUNT = 10
# Characters of an id, a source, and the name or value of a tag. NumPy's arrays of str are as wide as the longest.
MAX_TEXT = 512
# Characters of all of them; an answer has those of each match.
MAX_LABELS = 4096
# Of a condition, each of which is a line in the gallery's log, and tags of a condition.
MAX_VALUES = 10_000
MAX_TAGS = 64

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Embedder(Protocol):
    """The model beside the gallery."""

    def serves(self, fingerprint: str) -> bool:
        """Return whether a version with this fingerprint can be asked for."""

    def embed(
        self, tracklets: Sequence[Sequence[bytes]], fingerprint: str, call: Call, deadline: float | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return embeddings `(tracklets, features)` and numbers of readable images; -1 of a refused tracklet."""


@dataclasses.dataclass
class TrackletsRequest:
    """A request with tracklets, read and checked.

    Args:
        message: a SearchRequest or AddRequest.
        tracklets: its tracklets, with embeddings that are NaN until images are embedded.
        images: of each tracklet, or `None` for a request with embeddings.
        valid_frames: embedded images of each tracklet, or `None`.
        where: conditions of a search.
    """

    message: Any
    tracklets: TrackletEmbeddings
    images: list[list[bytes]] | None = None
    valid_frames: NDArray[np.int32] | None = None
    where: Where = dataclasses.field(default_factory=Where)


class GalleryReplies:
    """Replies the methods of the gallery service, as bytes for bytes; threads may use it at the same time.

    A request with tracklets takes steps, so that each waits for the threads that it needs: `read_search` or `read_add`,
    `embed` if there are images, and `search` or `add`. Every method raises `RequestRefused` with the status for the
    client.

    Args:
        gallery: that is served.
        read_only: refuse to add and delete.
        embedder: the model beside the gallery, or `None`.
    """

    def __init__(self, gallery: Gallery, read_only: bool = False, embedder: Embedder | None = None) -> None:
        self._gallery = gallery
        self._read_only = read_only
        self._embedder = embedder

    def read_search(self, body: bytes, call: Call) -> TrackletsRequest:
        """Read a SearchRequest.

        Args:
            body: the request.
            call: filled with what the request holds.
        """
        with self._refusing(call):
            request = gallery_wire.parse("SearchRequest", body)
            where = _where(request)
            count, threshold = _count(request), _threshold(request)
            check_search(count, threshold)
            read = self._read_tracklets(request, request.queries, "queries", call)
            if count * len(read.tracklets) > MAX_MATCHES:
                raise ValueError(
                    f"An answer has at most {MAX_MATCHES} matches: ask for fewer, or with fewer queries at once. "
                    f"Received: count={count}, {len(read.tracklets)} queries"
                )
            read.where = where
            return read

    def read_add(self, body: bytes, call: Call) -> TrackletsRequest:
        """Read an AddRequest.

        Args:
            body: the request.
            call: filled with what the request holds.
        """
        with self._refusing(call):
            self._check_may_write()
            request = gallery_wire.parse("AddRequest", body)
            return self._read_tracklets(request, request.tracklets, "tracklets", call)

    def embed(self, request: TrackletsRequest, call: Call, deadline: float | None) -> None:
        """Embed the images of a request, in place.

        Args:
            request: from `read_search` or `read_add`, with images.
            call: filled with the version that answers.
            deadline: by `time.monotonic`, or `None`.
        """
        assert request.images is not None and self._embedder is not None
        fingerprint = self._gallery.model.fingerprint
        vectors, valid = self._embedder.embed(request.images, fingerprint, call, deadline)
        numbers = np.array([len(images) for images in request.images])
        call.rows, call.frames = len(numbers), int(numbers.sum())
        call.unreadable = int((numbers - valid)[valid >= 0].sum())
        unread = np.flatnonzero(valid <= 0)
        if len(unread):
            row = int(unread[0])
            name = request.tracklets.ids[row]
            raise RequestRefused(
                "INVALID_ARGUMENT",
                "Of each tracklet, one image must be readable, and no more than the model's limit be sent: leave out "
                f"the {len(unread)} that are not. Received: tracklet {row} (id={str(name)!r}) of {numbers[row]} images",
            )
        request.tracklets = dataclasses.replace(request.tracklets, embeddings=vectors)
        request.valid_frames = valid

    def search(self, request: TrackletsRequest, call: Call, deadline: float | None) -> bytes:
        """Answer a search.

        Args:
            request: from `read_search`, with embeddings.
            call: of the request.
            deadline: by `time.monotonic`, or `None`.

        Returns:
            A SearchResponse.
        """
        _check_deadline(deadline)
        message, threshold = request.message, _threshold(request.message)
        with self._refusing(call), self._gallery.asked_by(call.client):
            kind = {
                "where": request.where,
                "other_cameras": message.other_cameras,
                "by_person": message.by_person,
                "exact": message.exact,
            }
            found = self._gallery.search_many(request.tracklets, _count(message), threshold=threshold, **kind)
            index = self._gallery.index_for(**kind)
        response = gallery_wire.messages()["SearchResponse"]()
        for row, matches in enumerate(found):
            ranking = response.rankings.add(id=message.queries[row].id)
            for match in matches:
                gallery_wire.fill_match(ranking.matches.add(), match)
            if request.valid_frames is not None:
                ranking.valid_frames = int(request.valid_frames[row])
        limit = self._gallery.model.threshold if threshold == "model" else threshold
        if limit is not None:
            response.threshold = limit
        if index is not None:
            response.recall = index.recall
        call.details["matches"] = sum(map(len, found))
        return response.SerializeToString()

    def add(self, request: TrackletsRequest, call: Call, deadline: float | None) -> bytes:
        """Add tracklets.

        Args:
            request: from `read_add`, with embeddings.
            call: of the request.
            deadline: by `time.monotonic`, or `None`; after it nothing is added.

        Returns:
            An AddResponse.
        """
        _check_deadline(deadline)
        with self._refusing(call), self._gallery.asked_by(call.client):
            added = self._gallery.add(request.tracklets)
        call.details["added"] = added.added
        response = gallery_wire.messages()["AddResponse"](**added._asdict())
        if request.valid_frames is not None:
            response.valid_frames.extend(request.valid_frames.tolist())
        return response.SerializeToString()

    def delete(self, body: bytes, call: Call, deadline: float | None) -> bytes:
        """Answer a DeleteRequest.

        Args:
            body: the request.
            call: of the request.
            deadline: by `time.monotonic`, or `None`; after it nothing is deleted.

        Returns:
            A DeleteResponse.
        """
        _check_deadline(deadline)
        with self._refusing(call), self._gallery.asked_by(call.client):
            self._check_may_write()
            request = gallery_wire.parse("DeleteRequest", body)
            deleted = self._gallery.delete(_where(request))
            call.details["deleted"] = deleted
            if request.compact:
                try:
                    self._gallery.compact()
                except OSError as error:
                    refused = _refused(error)
                    hint = "The tracklets are deleted, but their bytes are still in the files; repeat the request."
                    raise RequestRefused(refused.code, f"{hint} {refused.message}") from error
            if files := self._gallery.damaged_files:
                raise RequestRefused(
                    "DATA_LOSS",
                    f"{deleted} tracklets are deleted, but damaged files may still have others: `kreid gallery verify "
                    f"--drop` removes them. Received: files={list(files)}",
                )
        return gallery_wire.messages()["DeleteResponse"](deleted=deleted).SerializeToString()

    def stats(self, body: bytes, call: Call, deadline: float | None) -> bytes:
        """Answer a StatsRequest.

        Args:
            body: the request.
            call: of the request.
            deadline: by `time.monotonic`, or `None`.

        Returns:
            A StatsResponse.
        """
        _check_deadline(deadline)
        with self._refusing(call):
            request = gallery_wire.parse("StatsRequest", body)
            gallery, model = self._gallery, self._gallery.model
            verification = gallery.verify() if request.verify else None
            persons = gallery.persons()
            unknown = persons.pop(0, 0)
            index = gallery.index
            damaged = {*gallery.damaged_files, *(verification.files if verification else ())}
        response = gallery_wire.messages()["StatsResponse"](
            fingerprint=model.fingerprint,
            dimension=model.dimension,
            metric=model.metric,
            threshold=model.threshold,
            system=model.system,
            version=model.version,
            tracklets=sum(persons.values()) + unknown,
            unknown=unknown,
            persons=len(persons),
            keep_days=gallery.keep_days,
            read_only=self._read_only,
            takes_images=self._embedder is not None and self._embedder.serves(model.fingerprint),
            damaged_files=sorted(damaged),
            recall=None if index is None else index.recall,
        )
        if verification is not None:
            response.verification.intact = verification.intact
            response.verification.damaged, response.verification.lost = len(verification.damaged), verification.lost
        return response.SerializeToString()

    def _check_may_write(self) -> None:
        if self._read_only:
            raise RequestRefused("PERMISSION_DENIED", "This server only searches its gallery (--gallery-read-only).")

    def _read_tracklets(self, request: Any, rows: Sequence[Any], argument: str, call: Call) -> TrackletsRequest:
        """Return the tracklets of a request; without an id, a query gets one that no tracklet has."""
        model = self._gallery.model
        if not 1 <= len(rows) <= MAX_ROWS:
            raise ValueError(
                f"A request has 1 to {MAX_ROWS} tracklets; send them in parts. Received: {len(rows)} {argument}"
            )
        images = [[bytes(image) for image in row.images] for row in rows]
        has_images = bool(images[0])
        needs_camera = argument == "tracklets" or request.other_cameras
        for place, row in enumerate(rows):
            _check_row(f"{argument}[{place}]", row, has_images, model.dimension, needs_camera)
        if has_images:
            self._check_images(images)
            vectors = np.full((len(rows), model.dimension), np.nan, np.float32)
            call.signature, call.known = "embed_jpeg", True
            call.shapes["images"] = [len(images), max(map(len, images))]
        else:
            vectors = np.array([row.embedding for row in rows], np.float32)
            call.shapes["embeddings"] = list(vectors.shape)
        starts, ends = zip(*map(gallery_wire.read_times, rows), strict=True)
        unnamed = f"unnamed-{secrets.token_hex(8)}" if argument == "queries" else ""
        fields: dict[str, Any] = {
            "embeddings": vectors,
            "ids": [row.id or (unnamed and f"{unnamed}-{place}") for place, row in enumerate(rows)],
            "persons": [row.person for row in rows],
            "cameras": [row.camera for row in rows],
            "metric": request.metric or model.metric,
            # The model that is served beside the gallery is the gallery's.
            "model": request.fingerprint or (model.fingerprint if has_images else ""),
            "starts": starts,
            "ends": ends,
            "sources": [row.source for row in rows],
            "tags": [dict(row.tags) for row in rows],
        }
        tracklets = TrackletEmbeddings(**fields)
        if not has_images or request.fingerprint or request.metric:
            # NaN stands for embeddings that are still to be made.
            known = dataclasses.replace(tracklets, embeddings=np.ones_like(vectors)) if has_images else tracklets
            model.check(known, argument)
        return TrackletsRequest(request, tracklets, images if has_images else None)

    def _check_images(self, images: Sequence[Sequence[bytes]]) -> None:
        if self._embedder is None:
            raise RequestRefused(
                "FAILED_PRECONDITION",
                "This server has no model to embed images with: send embeddings, or start it with an export too.",
            )
        if not self._embedder.serves(self._gallery.model.fingerprint):
            raise other_model()
        for row, own in enumerate(images):
            check_images(row, own)

    @contextlib.contextmanager
    def _refusing(self, call: Call) -> Iterator[None]:
        """Give errors of the gallery a status."""
        call.fingerprint = self._gallery.model.fingerprint or None
        try:
            yield
        except (OSError, ValueError) as error:
            raise _refused(error) from error


def _refused(error: OSError | ValueError) -> RequestRefused:
    if isinstance(error, GalleryBusyError):
        return RequestRefused("ABORTED", _without_path(error))
    if isinstance(error, GalleryDamagedError):
        return RequestRefused("DATA_LOSS", _without_path(error))
    if isinstance(error, ValueError):
        return RequestRefused("INVALID_ARGUMENT", str(error))
    cause = error.__cause__
    codes = {error.errno, cause.errno if isinstance(cause, OSError) else None}
    return RequestRefused("RESOURCE_EXHAUSTED" if codes & set(_FULL) else "INTERNAL", _without_path(error))


def other_model() -> RequestRefused:
    """Return the error of a request with images while another model is served."""
    return RequestRefused(
        "FAILED_PRECONDITION",
        "The server now serves another model than the gallery's: send embeddings of the gallery's model, or serve that "
        "model again.",
    )


def _where(request: Any) -> Where:
    where = gallery_wire.read_where(request.where)
    for name, values in where.to_dict().items():
        if name in ("since", "until"):
            continue
        most = MAX_TAGS if name == "tags" else MAX_VALUES
        if len(values) > most:
            raise ValueError(
                f"Of this condition, at most {most} values are allowed: send them in parts. Received: {name} of "
                f"{len(values)} values"
            )
        if name in ("ids", "sources"):
            _check_texts(f"where.{name}", values)
    return where


def _count(request: Any) -> int:
    return request.count if request.HasField("count") else DEFAULT_COUNT


def _threshold(request: Any) -> float | Literal["model"] | None:
    choice = request.WhichOneof("threshold")
    if choice == "any_distance":
        return None
    return request.max_distance if choice == "max_distance" else "model"


def _check_row(name: str, row: Any, has_images: bool, dimension: int, needs_camera: bool) -> None:
    """Check a Tracklet message; what all ways to a gallery check is left out."""
    if bool(row.images) == bool(row.embedding) or bool(row.images) != has_images:
        raise ValueError(
            "Give each tracklet an embedding, or each its images. Received: "
            f"{name} of {len(row.embedding)} values and {len(row.images)} images"
        )
    if not has_images and len(row.embedding) != dimension:
        raise ValueError(
            f"An embedding of the gallery's model has {dimension} values: embed the tracklet with that model. "
            f"Received: {name} of {len(row.embedding)} values"
        )
    if needs_camera and not row.HasField("camera"):
        raise ValueError(f"Give the tracklet's camera. Received: {name} without camera")
    texts = (row.id, row.source, *row.tags.keys(), *row.tags.values())
    _check_texts(name, texts)
    if sum(map(len, texts)) > MAX_LABELS:
        raise ValueError(
            f"The id, source and tags of a tracklet have at most {MAX_LABELS} characters. Received: {name} of "
            f"{sum(map(len, texts))} characters"
        )


def _check_texts(name: str, texts: Sequence[str]) -> None:
    for text in texts:
        # NumPy leaves out NUL at the end.
        if len(text) > MAX_TEXT or "\0" in text:
            raise ValueError(
                f"Ids, sources and tags have at most {MAX_TEXT} characters, and no NUL. Received: {name} with "
                f"{text[:20]!r} of {len(text)} characters"
            )


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise RequestRefused("DEADLINE_EXCEEDED", "The deadline passed while the request waited.")


def _without_path(error: OSError) -> str:
    """Return the message without the server's path, which is in its log."""
    return (error.strerror or str(error)).partition(" Received: ")[0]
