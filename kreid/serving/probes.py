"""Readiness, liveness and metrics over HTTP, in the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from kreid.serving.telemetry import Metrics

_MAX_CONNECTIONS = 32
_SECONDS = 5.0  # for one request and its answer
_MAX_HEADER_BYTES = 16 * 1024


class HttpProbes:
    """A small HTTP server: `/livez`, `/readyz` and `/metrics`.

    `/livez` answers 200 while the event loop runs, `/readyz` while a version can be asked for and the server does not
    stop, else 503. Every connection carries one request and lasts at most 5 s; at most 32 are open at once.

    Args:
        metrics: to show.
        ready: says whether the server is ready.
    """

    def __init__(self, metrics: Metrics, ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Args:
            host: address.
            port: 0 chooses a free one.

        Returns:
            The port.

        Raises:
            OSError: if the address cannot be used.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host.strip("[]"), port, limit=_MAX_HEADER_BYTES)
        except OSError as error:
            raise OSError(
                "Cannot listen on this address for HTTP; another program may use the port, and port 0 chooses a free "
                f"one. Received: host={host}, http_port={port}"
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) < _MAX_CONNECTIONS:
                self._connections.add(task)
                # A client that stops halfway is a timeout, one that leaves an OSError.
                with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    await asyncio.wait_for(self._exchange(reader, writer), _SECONDS)
        except asyncio.CancelledError:
            pass  # by `stop`
        finally:
            self._connections.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status, kind, body = self._answer(header)
        fields = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close")
        writer.write("\r\n".join((f"HTTP/1.1 {status}", *fields, "", "")).encode())
        if not header[0].startswith("HEAD "):
            writer.write(body)
        await writer.drain()

    def _answer(self, header: list[str]) -> tuple[str, str, bytes]:
        text = "text/plain; charset=utf-8"
        words = header[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "400 Bad Request", text, b"This is no HTTP/1.1 request.\n"
        if words[0] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", text, b"Only GET and HEAD are answered.\n"
        path = words[1].split("?", 1)[0]
        if path == "/livez":
            return "200 OK", text, b"ok\n"
        if path == "/readyz":
            if self._ready():
                return "200 OK", text, b"ok\n"
            return "503 Service Unavailable", text, b"No version can be asked for.\n"
        if path == "/metrics":
            fields = dict(line.lower().split(":", 1) for line in header[1:] if ":" in line)
            content, kind = self._metrics.exposition(fields.get("accept", ""))
            return "200 OK", kind, content
        return "404 Not Found", text, b"The paths are /livez, /readyz and /metrics.\n"
