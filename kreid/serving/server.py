"""The embedded gRPC server: TensorFlow Serving's protocol, from pip alone.

It loads an export as TensorFlow Serving does (a graph and a session, not Python
functions), so that an export that works here also works in TensorFlow Serving.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import math
import os
import socket
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar

from kreid.gallery.gallery import Gallery
from kreid.gallery.lance_gallery import LanceGallery
from kreid.serving import gallery_wire, wire
from kreid.serving.batching import MAX_BATCH, Batcher
from kreid.serving.gallery_embedder import ServedEmbedder
from kreid.serving.gallery_replies import GalleryReplies
from kreid.serving.gallery_wire import GALLERY_SERVICE
from kreid.serving.probes import HttpProbes
from kreid.serving.replies import Replies
from kreid.serving.security import TlsFiles, TokenFile, warn_beyond_loopback
from kreid.serving.services import (
    HEALTH_SERVICE,
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    Services,
    token_interceptor,
)
from kreid.serving.telemetry import LOG, Metrics
from kreid.serving.versions import AVAILABLE, END, ServedVersions, VersionPolicy, VersionState

MAX_MESSAGE_BYTES = 2**31 - 1  # protobuf's limit
MAX_WORKERS = 1024

_MINUTE_MS = 60_000
_FLUSH_S = 0.05
_GALLERY_WAIT_S = 10.0  # for a writer in another process
_Result = TypeVar("_Result")


class EmbeddingServer:
    """A gRPC server of one model, of one gallery, or of both, in an event loop of its own thread.

    It answers `PredictionService` (Predict, GetModelMetadata) and `ModelService`
    (GetModelStatus, HandleReloadConfigRequest) with TensorFlow Serving's codes and
    messages, for a gallery `kreid.gallery.v1.GalleryService` (`protos/gallery.proto`, see
    `GalleryClient`), and gRPC's health and reflection services. Every answer's trailing
    metadata names the version (`kreid-version`) and the fingerprint of its weights
    (`kreid-fingerprint`). The folder is polled: a new version is loaded, then the old
    one is unloaded when its last request has ended.

    Args:
        base_path: folder of version folders, as written by `export_model`; `None` for a
            gallery alone, which needs no TensorFlow.
        name: model name that requests must give.
        host: address to listen on, for gRPC and HTTP; an address other than loopback
            warns unless there is both encryption and authentication.
        port: 0 to 65535; 0 chooses a free port.
        max_message_bytes: largest request and answer.
        workers: number of requests to the model, and of searches, that run at once.
        max_calls: number of requests to the model, of searches and of changes of the
            gallery that run and wait; further ones are refused with `RESOURCE_EXHAUSTED`.
        versions: `"latest:N"`, `"all"`, or version numbers such as `"3,5"`.
        labels: version number by label, such as `{"stable": 3}`.
        batch: number of waiting requests that may run as one batch; 1 runs each by itself.
            It pays where the model is faster with more tracklets at once, as on a GPU.
        poll_seconds: between two looks at the folder; 0 looks at it at the start alone.
        http_port: of `/livez`, `/readyz` and `/metrics`, 0 for a free one, or `None`
            for no HTTP.
        tls_cert: PEM file of the certificate and the chain above it, or `None`. This and the next two are read again
            when they change, for the connections that begin afterwards.
        tls_key: PEM file of its key.
        tls_client_ca: PEM file of authorities; then every client needs a certificate
            of one of them.
        token_file: file of bearer tokens, one per line; then every call but those of
            the health service needs one. It is read again when it changes.
        gallery: a `kreid.gallery.Gallery`, or the folder of one, to search and change. With
            a model beside it, requests may have images in place of embeddings.
        gallery_read_only: let clients search the gallery, and not change it.

    Raises:
        ValueError: if `base_path` has no version, the folder is no gallery, or an argument is out of range; on
            `start`, if the gallery is of another model than the served one.
        FileNotFoundError: if there is no such gallery.
        ImportError: on `start`, without the packages of `kreid[serving]`; for a gallery's folder, without those of
            `kreid[gallery]`.

    Usage:

        with EmbeddingServer("exports/sta", port=0, gallery="halls") as server:
            print(server.target)
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        *,
        name: str = "kreid",
        host: str = "127.0.0.1",
        port: int = 8500,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        workers: int = 8,
        max_calls: int = 64,
        batch: int = 1,
        versions: str = "latest",
        labels: Mapping[str, int] | None = None,
        poll_seconds: float = 1.0,
        http_port: int | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_client_ca: str | os.PathLike[str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        gallery: Gallery | str | os.PathLike[str] | None = None,
        gallery_read_only: bool = False,
    ) -> None:
        if not name:
            raise ValueError(f"`name` must not be empty. Received: name={name!r}")
        for option, number in (("port", port), ("http_port", http_port)):
            if number is not None and not 0 <= number <= 65535:
                raise ValueError(f"`{option}` must be from 0 (any free port) to 65535. Received: {option}={number}")
        if port and port == http_port:
            raise ValueError(f"gRPC and HTTP need a port each. Received: port={port}, http_port={http_port}")
        if not 1 <= max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(
                "`max_message_bytes` must be from 1 to 2 GiB less one byte (2047 MiB), the limit of protobuf. "
                f"Received: max_message_bytes={max_message_bytes}"
            )
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"`workers` must be from 1 to {MAX_WORKERS}. Received: workers={workers}")
        if max_calls < workers:
            raise ValueError(
                f"`max_calls` must be at least `workers`. Received: max_calls={max_calls}, workers={workers}"
            )
        if not 1 <= batch <= MAX_BATCH:
            raise ValueError(f"`batch` must be from 1 to {MAX_BATCH}. Received: batch={batch}")
        if not (poll_seconds >= 0 and math.isfinite(poll_seconds)):
            raise ValueError(f"`poll_seconds` must be 0 (never) or more. Received: poll_seconds={poll_seconds}")
        _check_content(base_path, gallery, gallery_read_only, versions, labels, batch)
        self.name = name
        self.host = host
        self.port = port
        self.http_port = http_port
        self.max_message_bytes = max_message_bytes
        self.workers = workers
        self.max_calls = max_calls
        self.batch = batch
        self.poll_seconds = poll_seconds
        self._served: ServedVersions | None = None
        if base_path is not None:
            policy = VersionPolicy.parse(versions)
            self._served = ServedVersions(base_path, name, policy, dict(labels or {}), self._version_changed)
        self.base_path = None if self._served is None else self._served.base_path
        if not (gallery is None or isinstance(gallery, Gallery)):
            gallery = LanceGallery.open(gallery, wait=_GALLERY_WAIT_S)
        self.gallery = gallery
        self.gallery_read_only = gallery_read_only
        self._tls = TlsFiles(tls_cert, tls_key, tls_client_ca)
        self._tokens = None if token_file is None else TokenFile(token_file)
        self._metrics: Metrics | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._grpc_server: Any = None
        self._health: Any = None
        self._services: Services | None = None
        self._probes: HttpProbes | None = None
        self._polling: asyncio.Task[None] | None = None
        # Loading holds no worker and not the event loop.
        self._loader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="kreid-loader")
        self._stopping = threading.Lock()

    @property
    def target(self) -> str:
        """`host:port` for a client."""
        return _address(self.host, self.port)

    @property
    def version(self) -> int:
        """The highest version that can be asked for; before the start, the one that will be loaded; 0 without any."""
        if self._served is None:
            return 0
        return max(self._served.available(), default=self._served.highest)

    @property
    def ready(self) -> bool:
        """Whether requests are answered: a version is loaded, and the server neither starts nor stops."""
        return self._running and (self._served is None or bool(self._served.available()))

    @property
    def _running(self) -> bool:
        return self._grpc_server is not None and self._services is not None and not self._services.stopping

    @property
    def unreadable_images(self) -> int:
        """Number of images since the start that `embed_jpeg` could not read."""
        return 0 if self._metrics is None else self._metrics.unreadable_images

    def start(self) -> EmbeddingServer:
        """Load the version and run its warm-up requests, then listen.

        Returns:
            The server itself.

        Raises:
            ImportError: without the packages of `kreid[serving]`.
            ValueError: if no version can be loaded, a warm-up request fails, or the gallery is of another model.
            OSError: if an address cannot be used.
            RuntimeError: if it was started before.
        """
        if self._thread is not None:
            raise RuntimeError(f"A server starts once; make another. Received: base_path={self.base_path}")
        _check_packages(with_model=self._served is not None)
        credentials = self._tls.credentials() if self._tls else None
        warn_beyond_loopback(
            self.host,
            encrypted=bool(self._tls),
            authenticated=self._tokens is not None or self._tls.client_ca is not None,
        )
        self._metrics = Metrics()
        loop = self._loop = asyncio.new_event_loop()
        loop.set_exception_handler(_report)
        self._thread = threading.Thread(target=loop.run_forever, name="kreid-serving", daemon=True)
        self._thread.start()
        try:
            self._await(self._start(credentials, self._metrics))
        except BaseException:
            self.stop(0)
            raise
        return self

    def drain(self, grace: float = 5.0) -> None:
        """Refuse new calls with `UNAVAILABLE` and wait for running calls; `stop` does this first.

        A process that ends after it leaves no call without an answer or `UNAVAILABLE`.

        Args:
            grace: seconds until running calls are ended with `UNAVAILABLE`.
        """
        if self._loop is not None:
            self._await(self._drain(grace))

    def stop(self, grace: float = 5.0) -> None:
        """Refuse new calls, wait for running calls, and free the model.

        Args:
            grace: seconds until running calls are ended with `UNAVAILABLE`.
        """
        with self._stopping:
            if self._loop is not None and self._thread is not None:
                self.drain(grace)
                self._await(self._stop())
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = None
            if self._served is not None:
                self._served.close()
            self._loader.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> EmbeddingServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, credentials: Any, metrics: Metrics) -> None:
        import grpc
        from grpc_health.v1 import health, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        loop = asyncio.get_running_loop()
        _check_address(self.host, self.port)
        if self.http_port is not None:
            # Before the model: a supervisor sees that the process lives but is not ready.
            self._probes = HttpProbes(metrics, lambda: self.ready)
            self.http_port = await self._probes.start(self.host, self.http_port)
        if self._served is not None:
            await loop.run_in_executor(self._loader, self._served.load)
        interceptors = [] if self._tokens is None else [token_interceptor(self._tokens)]
        server = grpc.aio.server(options=_options(self.max_message_bytes), interceptors=interceptors)
        batcher = None if self.batch == 1 else Batcher(self.batch, metrics.batches.observe)
        # With batches, threads only wait: one batch runs while another gathers.
        workers = self.workers if batcher is None else max(self.workers, 2 * self.batch)
        replies = None if self._served is None else Replies(self._served, batcher)
        gallery = self._gallery_replies(batcher)
        services = Services(replies, gallery, metrics, self._tokens, workers, self.workers, self.max_calls)
        server.add_generic_rpc_handlers(services.handlers())
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._model_services, *self._gallery_services, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            if credentials is None:
                self.port = server.add_insecure_port(self.target)
            else:
                self.port = server.add_secure_port(self.target, credentials)
        except RuntimeError as error:
            raise _cannot_listen(self.target) from error
        await server.start()
        self._services, self._grpc_server = services, server
        await self._show_health()
        if self.poll_seconds and self._served is not None:
            self._polling = asyncio.create_task(self._poll(self._served))

    def _gallery_replies(self, batcher: Batcher | None) -> GalleryReplies | None:
        if self.gallery is None:
            return None
        gallery_wire.show_to_reflection()
        embedder = None
        if self._served is not None:
            embedder = ServedEmbedder(self._served, batcher)
            embedder.check(self.gallery.model)
        return GalleryReplies(self.gallery, self.gallery_read_only, embedder)

    @property
    def _model_services(self) -> tuple[str, ...]:
        return () if self._served is None else (PREDICTION_SERVICE, MODEL_SERVICE)

    @property
    def _gallery_services(self) -> tuple[str, ...]:
        return () if self.gallery is None else (GALLERY_SERVICE,)

    async def _drain(self, grace: float) -> None:
        if self._polling is not None:
            self._polling.cancel()
        if self._services is not None:
            await self._health.enter_graceful_shutdown()
            await self._services.drain(grace)
            # For the last answers, which the handlers have handed to gRPC, to leave the process.
            await asyncio.sleep(_FLUSH_S)

    async def _stop(self) -> None:
        if self._grpc_server is not None:
            # Not before the calls are drained: gRPC ends calls that it has not handed over yet with CANCELLED.
            await self._grpc_server.stop(0)
            self._grpc_server = None
        if self._probes is not None:
            await self._probes.stop()

    async def _poll(self, served: ServedVersions) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.poll_seconds)
            try:
                await loop.run_in_executor(self._loader, served.poll)
            except Exception:  # such as a folder that cannot be read for a moment
                LOG.exception("The folder of versions could not be read; it is tried again.")
            await self._show_health()

    async def _show_health(self) -> None:
        from grpc_health.v1 import health_pb2

        response = health_pb2.HealthCheckResponse
        # Without a version, searches for embeddings go on.
        states = dict.fromkeys(("", *self._model_services), self.ready) | dict.fromkeys(
            self._gallery_services, self._running
        )
        for service, serves in states.items():
            await self._health.set(service, response.SERVING if serves else response.NOT_SERVING)

    def _version_changed(self, state: VersionState) -> None:
        assert self._metrics is not None
        available, failed = state.state == AVAILABLE, state.state == END and bool(state.error)
        self._metrics.version_changed(state.number, available, available, failed)
        fields = {"event": "version", "version": state.number, "state": _STATES[state.state]}
        if state.error:
            fields["error"] = state.error
        text = f"version {state.number} of {self.name}: {_STATES[state.state]}{f': {state.error}' if failed else ''}"
        LOG.log(40 if failed else 20, text, extra={"fields": fields})


_STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


def _check_content(
    base_path: object, gallery: object, read_only: bool, versions: str, labels: object, batch: int
) -> None:
    """Check that options fit what is served."""
    if base_path is None and gallery is None:
        raise ValueError(
            "Name the folder of an export, a gallery (--gallery), or both. Received: base_path=None, gallery=None"
        )
    if base_path is None and (versions != "latest" or labels or batch != 1):
        raise ValueError(
            "Versions, labels and batches are those of an export; name its folder. Received: base_path=None, "
            f"versions={versions!r}, labels={labels!r}, batch={batch}"
        )
    if gallery is None and read_only:
        raise ValueError("There is no gallery to read; give --gallery. Received: gallery_read_only=True")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _cannot_listen(target: str) -> OSError:
    return OSError(
        "Cannot listen on this address; another program may use the port, and port 0 chooses a free one. "
        f"Received: target={target}"
    )


def _check_address(host: str, port: int) -> None:
    """Check that an address can be used, before a model is loaded for it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _cannot_listen(_address(host, port)) from error


def _options(size: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", size),
        ("grpc.max_send_message_length", size),
        ("grpc.so_reuseport", 0),  # otherwise two servers could share a port unnoticed
        # A client that is gone without a goodbye is noticed; connections are renewed now and then, so that a load
        # balancer can move them, and a call on an old one may still end.
        ("grpc.keepalive_time_ms", _MINUTE_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", 15 * _MINUTE_MS),
        ("grpc.max_connection_age_ms", 60 * _MINUTE_MS),
        ("grpc.max_connection_age_grace_ms", 10 * _MINUTE_MS),
        # One that connects and says nothing, and one that opens any number of calls.
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_concurrent_streams", 256),
    ]


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # gRPC's poller wakes every event loop of a process for each event; the ones that find nothing raise this.
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


def _check_packages(with_model: bool) -> None:
    """Import the packages that a server needs besides kreid's; reflection finds imported services only."""
    apis = "tensorflow_serving.apis"
    services = (f"{apis}.prediction_service_pb2", f"{apis}.model_service_pb2") if with_model else ()
    for module in ("grpc", "grpc_health.v1", "grpc_reflection.v1alpha", "prometheus_client", *services):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(
                f'The server needs more packages: pip install "kreid[serving]". Received: {error}'
            ) from error
