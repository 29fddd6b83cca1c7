"""The client for programs that use asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.serving import wire
from kreid.serving.answers import Embeddings, ModelVersion, Prediction, SamePerson
from kreid.serving.client_core import Answer, Call, ClientCore, Flow, Pause, Signatures
from kreid.serving.connection import Retry, Tls
from kreid.serving.errors import ServingError, explain

_Result = TypeVar("_Result")


class AsyncEmbeddingClient:
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
        try:
            import google.protobuf  # noqa: F401 - the messages are built on first use
            import grpc
        except ImportError as error:
            raise ImportError(
                f"The client needs grpcio and protobuf: pip install grpcio protobuf. Received: {error}"
            ) from error
        self._grpc = grpc
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
        self.target = target
        self.model = model
        self._channel: Any = None

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

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncEmbeddingClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> Any:
        credentials = self._core.channel_credentials(self._grpc)
        if credentials is None:
            return self._grpc.aio.insecure_channel(self.target, self._core.options)
        return self._grpc.aio.secure_channel(self.target, credentials, self._core.options)

    async def _run(self, flow: Flow[_Result]) -> _Result:
        """Drive a flow of `ClientCore`."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    answer = await self._call(step)
                except ServingError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value

    async def _call(self, call: Call) -> Answer:
        if self._channel is None:
            self._channel = self._open()
        send = self._channel.unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response_type.FromString,
        )
        try:
            ended = send(call.request, timeout=call.timeout, metadata=self._core.token.metadata())
            response = await ended
            metadata = await ended.trailing_metadata()
        except self._grpc.RpcError as error:
            raise explain(error.code().name, error.details() or "", self._core.facts) from error
        return Answer(response, dict(metadata or ()))
