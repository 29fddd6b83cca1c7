"""Clients of a gallery that a kreid server holds, without TensorFlow and without the gallery's packages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Added
from kreid.gallery.nearest import Match
from kreid.gallery.where import Where
from kreid.serving import wire
from kreid.serving.client_flow import AsyncClient, BlockingClient
from kreid.serving.connection import Retry, Tls
from kreid.serving.gallery_client_core import Conditions, GalleryCore, GalleryStats, Threshold


class GalleryClient(BlockingClient):
    """A client of the gallery of a kreid server, with methods as those of `kreid.gallery.Gallery`.

    It needs only `grpcio`, `protobuf` and NumPy; `AsyncGalleryClient` is the same for asyncio. Threads may share a
    client. Long records are sent in several requests of at most 1024 tracklets.

    Args:
        target: `host:port`.
        timeout: seconds per request, repetitions included; `None` waits without limit.
        max_message_bytes: largest request and answer; the server has its own limit.
        tls: see `EmbeddingClient`, as for all arguments after it.
        token: bearer token.
        token_file: file with the token.
        retry: a `Retry`. A repeated `add` finds its tracklets in the gallery already, and a repeated `delete` finds
            none: both may be repeated.
        keepalive: seconds.

    Raises:
        ImportError: without `grpcio`.
        ValueError: for an argument out of range, or a file that is no certificate, key or token.
        FileNotFoundError: if such a file is missing.

    Usage:

        with GalleryClient("127.0.0.1:8500") as client:
            client.add(embeddings)
            for match in client.search(embeddings.take([0]), other_cameras=True):
                print(match.person, match.distance)
    """

    _connection: GalleryCore

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        timeout: float | None = 30,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        *,
        tls: Tls | bool | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        keepalive: float = 300,
    ) -> None:
        super().__init__(GalleryCore(target, timeout, max_message_bytes, tls, token, token_file, retry, keepalive))

    def search(
        self,
        query: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[Match]:
        """Find the nearest tracklets of one; see `kreid.gallery.Gallery.search`.

        Args:
            query: a `TrackletEmbeddings` of one tracklet.
            count: tracklets to find.
            where: conditions, a `Where` or a mapping of its fields.
            other_cameras: leave out tracklets of the query's camera.
            threshold: only distances below it count; `"model"` is the gallery's, with `None` all count.
            by_person: find the nearest tracklet of each person.
            exact: compare all tracklets, also where the gallery has an approximate index.

        Returns:
            A list of `Match`, nearest first; empty if nobody is known who is near enough.

        Raises:
            ValueError: if the query is not one tracklet, or an argument is impossible.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._connection.search(query, count, where, other_cameras, threshold, by_person, exact))

    def search_many(
        self,
        queries: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the nearest tracklets of several.

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
            ValueError: if an argument is impossible.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(
            self._connection.search_many(queries, count, where, other_cameras, threshold, by_person, exact)
        )

    def search_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        count: int = 10,
        *,
        cameras: ArrayLike | None = None,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the nearest tracklets of images, on a server with the gallery's model.

        Args:
            tracklets: list of lists of bytes, each a JPEG or PNG file. Damaged ones are skipped.
            count: see `search`.
            cameras: of the tracklets, needed for `other_cameras`.
            where: see `search`.
            other_cameras: see `search`.
            threshold: see `search`.
            by_person: see `search`.
            exact: see `search`.

        Returns:
            A list of `Match` for each tracklet, see `search`.

        Raises:
            ValueError: if an argument is impossible.
            ServingError: if the server refuses the request, as without the model or a readable image, or cannot be
                reached.
        """
        return self._run(
            self._connection.search_images(tracklets, count, cameras, where, other_cameras, threshold, by_person, exact)
        )

    def add(self, embeddings: TrackletEmbeddings) -> Added:
        """Add tracklets; all or none of each request of at most 1024. What is answered is on the server's disk.

        Args:
            embeddings: a `TrackletEmbeddings`.

        Returns:
            A `kreid.gallery.Added`.

        Raises:
            ServingError: if the server refuses the request, as for embeddings of another model or an id that the
                gallery has with other content, or cannot be reached.
        """
        return self._run(self._connection.add(embeddings))

    def add_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        ids: ArrayLike,
        persons: ArrayLike,
        cameras: ArrayLike,
        *,
        starts: ArrayLike = (),
        ends: ArrayLike = (),
        sources: ArrayLike = (),
        tags: Sequence[Mapping[str, str]] = (),
    ) -> Added:
        """Add tracklets of images, which the server embeds and does not keep, on a server with the gallery's model.

        Args:
            tracklets: list of lists of bytes, each a JPEG or PNG file. Damaged ones are skipped.
            ids: see `kreid.gallery.TrackletEmbeddings`, as for all labels.
            persons: 0 where unknown.
            cameras: of the tracklets.
            starts: seconds.
            ends: seconds.
            sources: such as the name of the video.
            tags: a mapping for each tracklet.

        Returns:
            A `kreid.gallery.Added`.

        Raises:
            ValueError: if labels do not fit.
            ServingError: see `add`.
        """
        labels = {"starts": starts, "ends": ends, "sources": sources, "tags": tags}
        return self._run(self._connection.add_images(tracklets, ids, persons, cameras, labels))

    def delete(self, where: Where | Mapping[str, Any], compact: bool = False) -> int:
        """Delete the tracklets that conditions choose.

        Args:
            where: conditions, a `Where` or a mapping of its fields; at least one.
            compact: also remove the bytes of all deleted tracklets from the gallery's files.

        Returns:
            The number of deleted tracklets.

        Raises:
            ValueError: if a condition is unknown or impossible.
            ServingError: if the server refuses the request or cannot be reached; with `DATA_LOSS` if it has deleted
                what can be read, and damaged files may have more.
        """
        return self._run(self._connection.delete(where, compact))

    def stats(self, verify: bool = False) -> GalleryStats:
        """Ask what the gallery holds.

        Args:
            verify: let the server read everything and compare it with its digests, which takes a while.

        Returns:
            A `GalleryStats`.

        Raises:
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._connection.stats(verify))


class AsyncGalleryClient(AsyncClient):
    """A client for asyncio, with the arguments and methods of `GalleryClient`.

    Args:
        target: see `GalleryClient`, as for all arguments.
        timeout: seconds per request, or `None`.
        max_message_bytes: largest request and answer.
        tls: `True` or a `Tls`.
        token: bearer token.
        token_file: file with the token.
        retry: a `Retry`.
        keepalive: seconds.

    Raises:
        ImportError: without `grpcio`.
        ValueError: for an argument out of range, or a file that is no certificate, key or token.
        FileNotFoundError: if such a file is missing.

    Usage:

        async with AsyncGalleryClient("127.0.0.1:8500") as client:
            one, other = await asyncio.gather(client.search(ann), client.search(bob))
    """

    _connection: GalleryCore

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        timeout: float | None = 30,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        *,
        tls: Tls | bool | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        keepalive: float = 300,
    ) -> None:
        super().__init__(GalleryCore(target, timeout, max_message_bytes, tls, token, token_file, retry, keepalive))

    async def search(
        self,
        query: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[Match]:
        """Find the nearest tracklets of one; see `GalleryClient.search`."""
        return await self._run(self._connection.search(query, count, where, other_cameras, threshold, by_person, exact))

    async def search_many(
        self,
        queries: TrackletEmbeddings,
        count: int = 10,
        *,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the nearest tracklets of several; see `GalleryClient.search_many`."""
        return await self._run(
            self._connection.search_many(queries, count, where, other_cameras, threshold, by_person, exact)
        )

    async def search_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        count: int = 10,
        *,
        cameras: ArrayLike | None = None,
        where: Conditions = None,
        other_cameras: bool = False,
        threshold: Threshold = "model",
        by_person: bool = False,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the nearest tracklets of images; see `GalleryClient.search_images`."""
        return await self._run(
            self._connection.search_images(tracklets, count, cameras, where, other_cameras, threshold, by_person, exact)
        )

    async def add(self, embeddings: TrackletEmbeddings) -> Added:
        """Add tracklets; see `GalleryClient.add`."""
        return await self._run(self._connection.add(embeddings))

    async def add_images(
        self,
        tracklets: Iterable[Iterable[bytes]],
        ids: ArrayLike,
        persons: ArrayLike,
        cameras: ArrayLike,
        *,
        starts: ArrayLike = (),
        ends: ArrayLike = (),
        sources: ArrayLike = (),
        tags: Sequence[Mapping[str, str]] = (),
    ) -> Added:
        """Add tracklets of images; see `GalleryClient.add_images`."""
        labels = {"starts": starts, "ends": ends, "sources": sources, "tags": tags}
        return await self._run(self._connection.add_images(tracklets, ids, persons, cameras, labels))

    async def delete(self, where: Where | Mapping[str, Any], compact: bool = False) -> int:
        """Delete the tracklets that conditions choose; see `GalleryClient.delete`."""
        return await self._run(self._connection.delete(where, compact))

    async def stats(self, verify: bool = False) -> GalleryStats:
        """Ask what the gallery holds; see `GalleryClient.stats`."""
        return await self._run(self._connection.stats(verify))
