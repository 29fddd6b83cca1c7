"""What all clients share: flows of calls, the settings of a connection, and the two ways to wait.

A method of a client is a generator in its core, a flow. It yields `Call`s and `Pause`s, and is sent the `Answer` to
each call, or its `ServingError` is raised where it waits. So the client that blocks and the one for asyncio cannot
disagree.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from kreid.serving.connection import MAX_MESSAGE_BYTES, Retry, Tls, Token, channel_options, check_target, is_local
from kreid.serving.errors import ClientFacts, ServingError, explain

_Result = TypeVar("_Result")


class Call(NamedTuple):
    """One request.

    Args:
        method: gRPC's name of the method.
        request: a protobuf message.
        response_type: protobuf class of the response.
        timeout: seconds, or `None` for no limit.
    """

    method: str
    request: Any
    response_type: Any
    timeout: float | None


class Pause(NamedTuple):
    """A wait.

    Args:
        seconds: of the wait.
    """

    seconds: float


class Answer(NamedTuple):
    """The answer of one `Call`.

    Args:
        response: a protobuf message.
        metadata: the answer's trailing metadata.
    """

    response: Any
    metadata: Mapping[str, Any]


Flow: TypeAlias = Generator[Call | Pause, Answer | None, _Result]


class ConnectionCore:
    """The settings of a connection; see `EmbeddingClient`.

    Args:
        target: `host:port`.
        timeout: seconds per request, or `None`.
        max_message_bytes: largest request and answer.
        tls: `True` or a `Tls`.
        token: bearer token.
        token_file: file with the token.
        retry: a `Retry`.
        keepalive: seconds.
        model: name of the model on the server; `None` for a gallery.

    Raises:
        ValueError: for an argument out of range, or a file that is no certificate, key or token.
        FileNotFoundError: if such a file is missing.
    """

    def __init__(
        self,
        target: str,
        timeout: float | None,
        max_message_bytes: int,
        tls: Tls | bool | None,
        token: str | None,
        token_file: str | os.PathLike[str] | None,
        retry: Retry | None,
        keepalive: float,
        model: str | None = None,
    ) -> None:
        check_target(target)
        if timeout is not None and not (isinstance(timeout, int | float | np.number) and timeout > 0):
            refuse("`timeout` must be seconds above 0, or None for no limit", timeout=timeout)
        if not 1 <= max_message_bytes <= MAX_MESSAGE_BYTES:
            refuse(f"`max_message_bytes` must be from 1 to {MAX_MESSAGE_BYTES}", max_message_bytes=max_message_bytes)
        if tls is not None and not isinstance(tls, bool | Tls):
            refuse("`tls` must be True, or Tls(ca=...) for an authority of your own", tls=tls)
        if retry is not None and not isinstance(retry, Retry):
            refuse("`retry` must be a Retry, such as Retry(attempts=3)", retry=retry)
        if not keepalive >= 1:
            refuse("`keepalive` must be at least 1 second", keepalive=keepalive)
        self.target = target
        self.timeout = timeout
        self.max_message_bytes = max_message_bytes
        self.tls = Tls() if tls is True else tls or None
        self.token = Token(token, token_file)
        if self.token and self.tls is None and not is_local(target):
            raise ValueError(
                "A token may leave this machine only encrypted: connect by TLS (tls=True, tls=Tls(ca=...); --tls, "
                f"--tls-ca). Received: target={target!r}, tls={tls!r}"
            )
        self.options = channel_options(max_message_bytes, retry or Retry(), keepalive, self.tls)
        self.facts = ClientFacts(
            target, model, self.tls is not None, bool(self.tls and self.tls.certificate), bool(self.token)
        )

    def channel_credentials(self, grpc: Any) -> Any:
        """Return gRPC's channel credentials, or `None` for a connection without encryption."""
        return None if self.tls is None else grpc.ssl_channel_credentials(*self.tls.contents())

    def _send(self, method: str, request: Any, response_type: Any) -> Flow[Answer]:
        answer = yield Call(method, request, response_type, self.timeout)
        assert answer is not None
        return answer


class BlockingClient:
    """A client that blocks while it waits; threads may share it.

    Args:
        core: of the client.
    """

    def __init__(self, core: ConnectionCore) -> None:
        self._grpc = import_grpc()
        self.target = core.target
        self._connection = core
        credentials = core.channel_credentials(self._grpc)
        if credentials is None:
            self._channel = self._grpc.insecure_channel(core.target, core.options)
        else:
            self._channel = self._grpc.secure_channel(core.target, credentials, core.options)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[_Result]) -> _Result:
        """Drive a flow."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    answer = self._call(step)
                except ServingError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value

    def _call(self, call: Call) -> Answer:
        send = self._channel.unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response_type.FromString,
        )
        core = self._connection
        try:
            response, ended = send.with_call(call.request, timeout=call.timeout, metadata=core.token.metadata())
        except self._grpc.RpcError as error:
            raise explain(error.code().name, error.details() or "", core.facts) from error
        return Answer(response, dict(ended.trailing_metadata() or ()))


class AsyncClient:
    """A client for asyncio. The connection opens at the first request and belongs to the event loop of that request.

    Args:
        core: of the client.
    """

    def __init__(self, core: ConnectionCore) -> None:
        self._grpc = import_grpc()
        self.target = core.target
        self._connection = core
        self._channel: Any = None

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> Any:
        core = self._connection
        credentials = core.channel_credentials(self._grpc)
        if credentials is None:
            return self._grpc.aio.insecure_channel(core.target, core.options)
        return self._grpc.aio.secure_channel(core.target, credentials, core.options)

    async def _run(self, flow: Flow[_Result]) -> _Result:
        """Drive a flow."""
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
        core = self._connection
        try:
            ended = send(call.request, timeout=call.timeout, metadata=core.token.metadata())
            response = await ended
            metadata = await ended.trailing_metadata()
        except self._grpc.RpcError as error:
            raise explain(error.code().name, error.details() or "", core.facts) from error
        return Answer(response, dict(metadata or ()))


def import_grpc() -> Any:
    """Import gRPC, which a client needs with protobuf.

    Raises:
        ImportError: if they are not installed, with the command that installs them.
    """
    try:
        import google.protobuf  # noqa: F401 - the messages are built on first use
        import grpc
        import grpc.aio
    except ImportError as error:
        raise ImportError(
            f"The client needs grpcio and protobuf: pip install grpcio protobuf. Received: {error}"
        ) from error
    return grpc


def refuse(sentence: str, **received: Any) -> None:
    """Raise `ValueError` for arguments."""
    values = ", ".join(f"{name}={value!r}" for name, value in received.items())
    raise ValueError(f"{sentence}. Received: {values}")
