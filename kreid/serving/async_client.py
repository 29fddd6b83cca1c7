"""The client for programs that use asyncio."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.serving import wire
from kreid.serving.answers import Embeddings, ModelVersion, Prediction, SamePerson
from kreid.serving.client_core import ClientCore, Signatures
from kreid.serving.client_flow import AsyncClient
from kreid.serving.connection import Retry, Tls


class AsyncEmbeddingClient(AsyncClient):
    """A client for asyncio, with the arguments and methods of `EmbeddingClient`.

    A call sends its requests one after the other; `asyncio.gather` runs several calls at once over one connection. The
    connection opens at the first request and belongs to the event loop of that request. A cancelled call cancels its
    request on the server.

    Args:
        target: see `EmbeddingClient`, as for all arguments.
        model: name of the model on the server.
        timeout: seconds per request, or `None`.
        version: number of a version, or `None` for the latest.
        max_message_bytes: largest request and answer.
        frames_at_once: largest number of frames in a request with several tracklets.
        label: name of a version.
        fingerprint: of the model that must answer.
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

        async with AsyncEmbeddingClient("127.0.0.1:8500") as client:
            one, other = await asyncio.gather(client.embed_frames([frames]), client.embed_frames([others]))
    """

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        model: str = "kreid",
        timeout: float | None = 30,
        version: int | None = None,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        frames_at_once: int = 128,
        *,
        label: str | None = None,
        fingerprint: str | None = None,
        tls: Tls | bool | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        keepalive: float = 300,
    ) -> None:
        self._core = ClientCore(
            target,
            model,
            timeout,
            version,
            max_message_bytes,
            frames_at_once,
            label,
            fingerprint,
            tls,
            token,
            token_file,
            retry,
            keepalive,
        )
        super().__init__(self._core)
        self.model = model

    async def embed_frames(self, tracklets: Iterable[ArrayLike]) -> Embeddings:
        """Embed tracklets of decoded frames; see `EmbeddingClient.embed_frames`."""
        return await self._run(self._core.embed_frames(tracklets))

    async def embed_images(self, tracklets: Iterable[Iterable[bytes]]) -> tuple[Embeddings, NDArray[np.int32]]:
        """Embed tracklets of encoded images of any size; see `EmbeddingClient.embed_images`."""
        return await self._run(self._core.embed_images(tracklets))

    async def encode_frames(self, tracklets: Iterable[ArrayLike]) -> list[Embeddings]:
        """Encode tracklets as vectors of frames or clips; see `EmbeddingClient.encode_frames`."""
        return await self._run(self._core.encode_frames(tracklets))

    async def aggregate(self, vectors: Iterable[ArrayLike]) -> Embeddings:
        """Embed tracklets of vectors; see `EmbeddingClient.aggregate`."""
        return await self._run(self._core.aggregate(vectors))

    async def predict(self, signature: str, inputs: Mapping[str, ArrayLike]) -> Prediction:
        """Send one request to any signature of the model; see `EmbeddingClient.predict`."""
        return await self._run(self._core.predict(signature, inputs))

    async def same_person(self, first: ArrayLike, second: ArrayLike) -> SamePerson:
        """Decide for pairs of embeddings; see `EmbeddingClient.same_person`."""
        return await self._run(self._core.same_person(first, second))

    async def card(self, refresh: bool = False) -> dict[str, Any]:
        """Return the model card; see `EmbeddingClient.card`."""
        return await self._run(self._core.card(refresh))

    async def model_version(self) -> ModelVersion:
        """Ask the server which model answers now; see `EmbeddingClient.model_version`."""
        return await self._run(self._core.model_version())

    async def wait_until_ready(self, timeout: float = 60) -> ModelVersion:
        """Wait until the server has loaded the model; see `EmbeddingClient.wait_until_ready`."""
        return await self._run(self._core.wait_until_ready(timeout))

    async def status(self) -> list[dict[str, Any]]:
        """Request the state of the model's versions; see `EmbeddingClient.status`."""
        return await self._run(self._core.status())

    async def metadata(self) -> Signatures:
        """Request the model's signatures; see `EmbeddingClient.metadata`."""
        return await self._run(self._core.metadata())
