"""A gallery in a Milvus server, for more embeddings or users than one machine serves."""

import contextlib
import json
import os
import pathlib
import re
import threading
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import kreid
from kreid.gallery import milvus_schema as schema
from kreid.gallery.audit import AuditLog
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Gallery, Verification, checked_keep_days
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.nearest import UNIT, Match, NearestTracklets
from kreid.gallery.parts import Part
from kreid.gallery.where import Where

if typing.TYPE_CHECKING:
    from pymilvus import MilvusClient

# The newest format that this version reads, and the one that it writes.
_FORMAT = 1
# Most tracklets of a search in Milvus.
_MOST_FOUND = 16384
_BATCH_ROWS = 1000


class MilvusGallery(Gallery):
    """A gallery in Milvus: a server or a cluster, or a file of Milvus Lite in this process.

    Searches are exact, as those of the other galleries: the collection has Milvus's exact index (`FLAT`), and the
    nearest tracklets that it finds in float32 are compared in float64, as many as the rounding of float32 asks for.

    Three names in the database belong to a gallery: `NAME_about`, a collection with its model and `keep_days`; `NAME`,
    an alias; and `NAME_1`, `NAME_2` and so on, the collection that the alias stands for. There is no log in the
    database: `log` names a file for this process's requests.

    Up to 32 MiB of embeddings are added by one request, which Milvus carries out whole or not at all. More take
    several: if one fails, those before it are taken back, but a killed process leaves them; adding again completes it.
    Milvus has no lock: threads of one process wait for each other, and processes that add at the same time keep an id
    once, with the content that came last. No other process may write during `compact`.

    **Deleting.** `delete` hides tracklets at once and leaves their bytes in Milvus's files. Milvus's own compaction
    does not remove them: in Milvus Lite it does nothing, and a server decides itself which files it writes anew. So
    `compact` copies the tracklets that are left into a new collection and drops the old one, which needs as much room
    again. In Milvus Lite no file has any part of a deleted embedding then. A server removes the files of a dropped
    collection later, by default after three hours (`dataCoord.gc.dropTolerance`), and its log of messages as that is
    configured; kreid cannot see it.

    Use `MilvusGallery.create` and `MilvusGallery.open`.

    Raises:
        ImportError: without the package `pymilvus`.

    Example:

    >>> import tempfile
    >>> uri = os.path.join(tempfile.mkdtemp(), "halls.db")  # Or "http://127.0.0.1:19530".
    >>> walks = kreid.gallery.TrackletEmbeddings([[0, 0], [0, 0.1], [0, 5]], ["a", "b", "c"], [7, 7, 9], [1, 2, 2])
    >>> gallery = MilvusGallery.create(uri, "hall", kreid.gallery.GalleryModel.of(walks))
    >>> gallery.add(walks)
    Added(added=3, unchanged=0, junk=0)
    >>> gallery = MilvusGallery.open(uri, "hall")
    >>> [match.person for match in gallery.search(walks.take([0]), by_person=True)]
    [7, 9]
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        *,
        token: str = "",
        timeout: float = 60.0,
        log: str | os.PathLike[str] | None = None,
        who: str | None = None,
    ) -> None:
        self._uri, self._name, self._timeout = uri, _checked_name(collection), timeout
        self._client = _connected(uri, token, timeout)
        about = self._read_about()
        super().__init__(GalleryModel(**about["model"]), about["keep_days"])
        self.log = None if log is None else AuditLog(pathlib.Path(log), who)
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls,
        uri: str,
        collection: str,
        model: GalleryModel,
        keep_days: float | None = None,
        *,
        token: str = "",
        timeout: float = 60.0,
        log: str | os.PathLike[str] | None = None,
        who: str | None = None,
    ) -> "MilvusGallery":
        """Make an empty gallery.

        Args:
            uri: see `open`.
            collection: name of the gallery in the database: letters, digits and underscores.
            model: a `GalleryModel`.
            keep_days: see `Gallery`.
            token: see `open`.
            timeout: see `open`.
            log: see `open`.
            who: see `open`.

        Returns:
            A `MilvusGallery`.

        Raises:
            FileExistsError: if there is such a gallery, or a part of it.
            OSError: if the server cannot be reached or refuses.
            ValueError: for another name, or a `keep_days` that is not a positive number.
        """
        from pymilvus import MilvusException

        name = _checked_name(collection)
        about = {
            "format": _FORMAT,
            "model": model.to_dict(),
            "keep_days": checked_keep_days(keep_days),
            "kreid": kreid.__version__,
        }
        client = _connected(uri, token, timeout)
        try:
            for taken in (f"{name}_about", name):
                if client.has_collection(taken, timeout=timeout):
                    raise FileExistsError(
                        f"Choose another name, or open this gallery. Received: uri={uri!r}, collection={name!r}, and "
                        f"there is a collection {taken!r}"
                    )
            # The description comes last: without it there is no gallery.
            schema.make(client, f"{name}_1", model, timeout)
            client.create_alias(f"{name}_1", name, timeout=timeout)
            schema.write_about(client, f"{name}_about", about, timeout)
        except MilvusException as error:
            raise _refused(error, uri, name) from error
        return cls(uri, name, token=token, timeout=timeout, log=log, who=who)

    @classmethod
    def open(
        cls,
        uri: str,
        collection: str,
        *,
        token: str = "",
        timeout: float = 60.0,
        log: str | os.PathLike[str] | None = None,
        who: str | None = None,
    ) -> "MilvusGallery":
        """Open a gallery.

        Args:
            uri: of the server, `http://HOST:PORT` or `https://HOST:PORT`; or the path of a file of Milvus Lite, which
                ends in `.db` and which one process at a time may open.
            collection: name of the gallery in the database.
            token: of the server, `USER:PASSWORD`.
            timeout: seconds for a request.
            log: file to which requests are appended, see `kreid.gallery.audit.AuditLog`; `None` for no log.
            who: who asks, for the log; by default the user and the machine.

        Returns:
            A `MilvusGallery`.

        Raises:
            FileNotFoundError: if there is no such gallery.
            OSError: if the server cannot be reached or refuses.
            ValueError: if a newer kreid made it, or its description is damaged.
        """
        return cls(uri, collection, token=token, timeout=timeout, log=log, who=who)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def verify(self, drop: bool = False) -> Verification:
        damaged: list[str] = []
        intact = 0
        for rows in self._rows(Where(), None, labels_only=False):
            part = schema.to_part(self.model, rows)
            for row, digest in zip(rows, schema.digests(part.record, part.added), strict=True):
                if row["digest"] == digest:
                    intact += 1
                else:
                    damaged.append(row["id"])
        if drop and damaged:
            with self._writing():
                self._log("drop_damaged", damaged=damaged)
                self._delete(Where(ids=damaged), None)
                self._rewrite()
        return Verification(intact, tuple(damaged))

    def compact(self) -> None:
        with self._writing():
            self._log("compact")
            self._delete_expired()
            self._rewrite()

    def _rewrite(self) -> None:
        """Copy all tracklets into a new collection, and drop the old one."""
        old = self._collection()
        pattern = re.compile(re.escape(self._name) + r"_(\d+)")
        for name in self._ask("list_collections"):
            if pattern.fullmatch(name) and name != old:  # A killed process left it.
                self._ask("drop_collection", name)
        new = f"{self._name}_{int(pattern.fullmatch(old)[1]) + 1}"  # type: ignore[index]
        schema.make(self._client, new, self.model, self._timeout)
        for rows in self._rows(Where(), None, labels_only=False):
            self._ask("upsert", new, rows)
        self._ask("flush", new)
        self._ask("alter_alias", new, self._name)
        self._ask("drop_collection", old)

    def _find(
        self,
        queries: TrackletEmbeddings,
        count: int,
        limit: float | None,
        other_cameras: bool,
        by_person: bool,
        where: Where,
    ) -> list[list[Match]]:
        found = []
        for row in range(len(queries)):
            query = queries.take([row])
            own = schema.expression(where, self._expiry(), not_camera=int(query.cameras[0]) if other_cameras else None)
            near = None if own is None else self._near(query, own, count, limit, by_person)
            if near is None:  # Nothing is chosen, or more is needed than a search gives.
                near = super()._find(query, count, limit, other_cameras, by_person, where)[0]
            found.append(near)
        return found

    def _near(
        self, query: TrackletEmbeddings, conditions: str, count: int, limit: float | None, by_person: bool
    ) -> list[Match] | None:
        """Return a query's nearest tracklets by searches of growing size, `None` if the largest is too small."""
        collection, most = self._collection(), min(_MOST_FOUND, max(1, schema.REQUEST_BYTES // self._row_bytes()))
        size = min(most, 2 * count + 16)
        while True:
            (hits,) = self._ask(
                "search",
                collection,
                data=[query.embeddings[0].tolist()],
                filter=conditions,
                limit=size,
                output_fields=list(schema.FIELDS),
                search_params={"metric_type": schema.METRICS[self.model.metric]},
                consistency_level="Strong",
            )
            nearest = NearestTracklets(query, count, limit, by_person=by_person)
            if len(hits):
                nearest.add(schema.to_part(self.model, [hit["entity"] for hit in hits]))
            (matches,) = nearest.results()
            if len(hits) < size or self._is_complete(query, matches, count, limit, hits[-1]["distance"]):
                return matches
            if size == most:
                return None
            size = min(most, 4 * size)

    def _is_complete(
        self, query: TrackletEmbeddings, matches: Sequence[Match], count: int, limit: float | None, last: float
    ) -> bool:
        """Whether no tracklet that Milvus left out is among the nearest, whatever the rounding of its distances.

        Args:
            query: one tracklet.
            matches: the nearest of those that Milvus gave.
            count: see `search`.
            limit: the threshold.
            last: Milvus's distance of the last one; for the cosine, the similarity.
        """
        needed = [] if limit is None else [limit]
        if len(matches) == count:
            needed.append(matches[-1].distance)
        if not needed:
            return False
        distance = min(needed)
        error = 2 * (self.model.dimension + 8) * UNIT
        if self.model.metric == "cosine":
            return 1 - last > distance + error
        length = float(np.linalg.norm(query.embeddings[0].astype(np.float64)))
        # A tracklet within the distance is no longer than the query and the distance together.
        return last > distance**2 + error * (length**2 + (length + distance) ** 2)

    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        for rows in self._rows(where, added_after, labels_only):
            yield schema.to_part(self.model, rows)

    def _rows(self, where: Where, added_after: float | None, labels_only: bool) -> Iterator[list[dict[str, Any]]]:
        """Yield the tracklets that conditions choose as Milvus gives them, some at a time."""
        fields = schema.LABELS if labels_only else schema.FIELDS
        yield from self._iterate(schema.expression(where, added_after), fields)

    def _iterate(self, conditions: str | None, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        if conditions is None:
            return
        iterator = self._ask(
            "query_iterator",
            self._collection(),
            batch_size=max(1, min(_BATCH_ROWS, schema.REQUEST_BYTES // self._row_bytes())),
            filter=conditions,
            output_fields=list(fields),
            consistency_level="Strong",
        )
        try:
            while True:
                with self._errors():
                    batch = iterator.next()
                if not batch:
                    return
                yield [{name: row[name] for name in fields} for row in batch]
        finally:
            iterator.close()

    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        schema.check_sizes(embeddings)
        collection, done = self._collection(), []
        try:
            for rows in schema.requests(embeddings, added):
                done += [row["id"] for row in rows]
                self._ask("upsert", collection, rows)
        except BaseException:
            with contextlib.suppress(OSError):
                self._delete_ids(done)
            raise

    def _delete(self, where: Where, added_until: float | None) -> int:
        conditions = schema.expression(where, added_until=added_until)
        ids = [row["id"] for rows in self._iterate(conditions, ["id"]) for row in rows]
        self._delete_ids(ids)
        return len(ids)

    def _delete_ids(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _BATCH_ROWS):
            self._ask("delete", self._collection(), ids=list(ids[start : start + _BATCH_ROWS]))

    def _writing(self) -> contextlib.AbstractContextManager[Any]:
        return self._lock

    def _log(self, action: str, **details: Any) -> None:
        if self.log is not None:
            self.log.append(action, **details)

    def _collection(self) -> str:
        """Return the collection that the gallery's alias stands for now."""
        return self._ask("describe_alias", self._name)["collection_name"]

    def _row_bytes(self) -> int:
        return 4 * self.model.dimension + 512

    def _ask(self, request: str, *args: Any, **kwargs: Any) -> Any:
        with self._errors():
            return getattr(self._client, request)(*args, timeout=self._timeout, **kwargs)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from pymilvus import MilvusException

        try:
            yield
        except MilvusException as error:
            raise _refused(error, self._uri, self._name) from error

    def _read_about(self) -> dict[str, Any]:
        place = f"uri={self._uri!r}, collection={self._name!r}"
        if not self._ask("has_collection", f"{self._name}_about"):
            raise FileNotFoundError(f"There is no gallery of this name; make one. Received: {place}")
        rows = self._ask(
            "query", f"{self._name}_about", ids=["about"], output_fields=["text"], consistency_level="Strong"
        )
        try:
            about = json.loads(rows[0]["text"])
            if about["format"] <= _FORMAT:
                GalleryModel(**about["model"])
                checked_keep_days(about["keep_days"])
                return about
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"The gallery's description is damaged: {error}. Received: {place}") from error
        raise ValueError(
            f"A newer kreid made this gallery: upgrade kreid. Received: {place} of format={about['format']}"
        )


def _checked_name(collection: str) -> str:
    if not isinstance(collection, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", collection):
        raise ValueError(
            "A name in Milvus has letters, digits and underscores, at most 200, and no digit first. Received: "
            f"collection={collection!r}"
        )
    return collection


def _connected(uri: str, token: str, timeout: float) -> "MilvusClient":
    try:
        from pymilvus import MilvusClient, MilvusException
    except ImportError as error:
        raise ImportError("Galleries in Milvus need pymilvus: pip install 'kreid[milvus]'") from error
    try:
        return MilvusClient(uri, token=token, timeout=timeout)
    except (MilvusException, ImportError) as error:
        raise OSError(
            "Milvus cannot be reached: start the server, or name a file in an existing folder, ending in `.db`, that "
            "no other process has open (it needs the package milvus-lite). Received: "
            f"uri={uri!r}: {_short(error)}"
        ) from error


def _refused(error: BaseException, uri: str, name: str) -> OSError:
    return OSError(
        f"Milvus did not carry out the request; see its log, and try again. Received: uri={uri!r}, "
        f"collection={name!r}: {_short(error)}"
    )


def _short(error: BaseException) -> str:
    return str(getattr(error, "message", error)).partition("\n")[0][:200]
