"""The embedded gRPC server: TensorFlow Serving's protocol, from pip alone.

It loads an export as TensorFlow Serving does (a graph and a session, not Python
functions), so that an export that works here also works in TensorFlow Serving.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
import logging
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from kreid.serving import wire
from kreid.serving.export import versions
from kreid.serving.loaded_model import LoadedModel, RequestRefused

DEFAULT_SIGNATURE = "serving_default"
MAX_CALLS = 64  # running and waiting; further calls are refused, so that waiting messages cannot fill the memory
MAX_MESSAGE_BYTES = 2**31 - 1  # protobuf's limit

_LOG = logging.getLogger(__name__)


class EmbeddingServer:
    """A gRPC server of one model's highest version.

    It answers `PredictionService` (Predict, GetModelMetadata) and `ModelService`
    (GetModelStatus) with TensorFlow Serving's codes and messages. There is no
    authentication and no encryption, so the default address is loopback.

    Args:
        base_path: folder of version folders, as written by `export_model`.
        name: model name that requests must give.
        host: address to listen on; an address other than loopback warns.
        port: 0 to 65535; 0 chooses a free port.
        max_message_bytes: largest request and answer.
        workers: number of calls that run at once.

    Raises:
        ValueError: if `base_path` has no version, or an argument is out of range.
        ImportError: on `start`, without `grpcio` and `tensorflow-serving-api`.

    Usage:

        with EmbeddingServer("exports/sta", port=0) as server:
            print(server.target)
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        *,
        name: str = "kreid",
        host: str = "127.0.0.1",
        port: int = 8500,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        workers: int = 8,
    ) -> None:
        if not name:
            raise ValueError(f"`name` must not be empty. Received: name={name!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"`port` must be from 0 (any free port) to 65535. Received: port={port}")
        if not 1 <= max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(
                "`max_message_bytes` must be from 1 to 2 GiB less one byte (2047 MiB), the limit of protobuf. "
                f"Received: max_message_bytes={max_message_bytes}"
            )
        if workers < 1:
            raise ValueError(f"`workers` must be at least 1. Received: workers={workers}")
        existing = versions(base_path)
        if not existing:
            raise ValueError(
                "The folder has no version: give the base path with the subfolders 1, 2, ... that export_model writes. "
                f"Received: base_path={base_path}"
            )
        self.base_path = Path(base_path)
        self.name = name
        self.host = host
        self.port = port
        self.version = existing[-1]
        self.max_message_bytes = max_message_bytes
        self.workers = workers
        self._models: dict[int, LoadedModel] = {}
        self._server: Any = None
        self._unreadable = 0
        self._counting = threading.Lock()

    @property
    def target(self) -> str:
        """`host:port` for a client."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{host}:{self.port}"

    @property
    def unreadable_images(self) -> int:
        """Number of images since the start that `embed_jpeg` could not read."""
        return self._unreadable

    def start(self) -> EmbeddingServer:
        """Load the version, run its warm-up requests, then listen.

        Returns:
            The server itself.

        Raises:
            ImportError: without `grpcio` and `tensorflow-serving-api`.
            ValueError: if the version cannot be loaded or a warm-up request fails.
            OSError: if the address cannot be used.
        """
        grpc, add_services = _import_services()
        _warn_beyond_loopback(self.host)
        model = LoadedModel(self.base_path / str(self.version))
        try:
            self._models[self.version] = model
            size = self.max_message_bytes
            server = grpc.server(
                concurrent.futures.ThreadPoolExecutor(self.workers, thread_name_prefix="kreid-serving"),
                options=[
                    ("grpc.max_receive_message_length", size),
                    ("grpc.max_send_message_length", size),
                    ("grpc.so_reuseport", 0),  # otherwise two servers could share a port unnoticed
                ],
                maximum_concurrent_rpcs=MAX_CALLS,
            )
            add_services(self, server)
            try:
                port = server.add_insecure_port(self.target)
            except RuntimeError as error:
                raise OSError(
                    "Cannot listen on this address; another program may use the port, and port 0 chooses a free one. "
                    f"Received: target={self.target}"
                ) from error
        except BaseException:
            self.stop()
            raise
        self.port = port
        self._server = server
        server.start()
        return self

    def stop(self, grace: float = 5.0) -> None:
        """Refuse new calls, wait for running calls, and free the model.

        Args:
            grace: seconds until running calls are cancelled.
        """
        if self._server is not None:
            self._server.stop(grace).wait()
            self._server = None
        for model in self._models.values():
            model.close()
        self._models = {}

    def __enter__(self) -> EmbeddingServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def predict(self, request: Any, seconds_left: float | None = None) -> Any:
        """Answer one PredictRequest.

        Args:
            request: a PredictRequest.
            seconds_left: until the client's deadline, or `None`.

        Returns:
            A PredictResponse.

        Raises:
            RequestRefused: with the status for the client.
        """
        from tensorflow_serving.apis import predict_pb2

        version, model = self._find(request)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        outputs = model.run(name, request.inputs, list(request.output_filter), seconds_left, 4 * self.max_message_bytes)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = name
        for alias, tensor in outputs.items():
            response.outputs[alias].CopyFrom(tensor)
        if "valid_frames" in outputs:
            self._count_unreadable(request, outputs["valid_frames"])
        return response

    def _count_unreadable(self, request: Any, valid_frames: Any) -> None:
        import tensorflow as tf

        length = request.inputs["images"].tensor_shape.dim[1].size
        images = int(tf.make_ndarray(request.inputs["lengths"]).clip(0, length).sum())
        unreadable = images - int(tf.make_ndarray(valid_frames).sum())
        if unreadable:
            with self._counting:
                self._unreadable += unreadable
            _LOG.warning(
                "%d of a request's %d images could not be read; %d since the start",
                unreadable,
                images,
                self._unreadable,
            )

    def metadata(self, request: Any) -> Any:
        """Answer one GetModelMetadataRequest with all signatures.

        Args:
            request: a GetModelMetadataRequest.

        Returns:
            A GetModelMetadataResponse.

        Raises:
            RequestRefused: with the status for the client.
        """
        from tensorflow_serving.apis import get_model_metadata_pb2

        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise RequestRefused("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestRefused("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        version, model = self._find(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = version
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request: Any) -> Any:
        """Answer one GetModelStatusRequest, highest version first.

        Args:
            request: a GetModelStatusRequest.

        Returns:
            A GetModelStatusResponse.

        Raises:
            RequestRefused: with the status for the client.
        """
        from tensorflow_serving.apis import get_model_status_pb2

        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        spec = request.model_spec
        numbers = sorted(self._models, reverse=True) if spec.name == self.name else []
        if spec.HasField("version"):
            numbers = [version for version in numbers if version == spec.version.value]
            if not numbers:
                raise RequestRefused("NOT_FOUND", f"Could not find version {spec.version.value} of model {spec.name}")
        if not numbers:
            raise RequestRefused("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in numbers:
            response.model_version_status.add(version=version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return response

    def _find(self, request: Any) -> tuple[int, LoadedModel]:
        """Return the requested version and its model; the checks have TensorFlow Serving's order."""
        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        spec = request.model_spec
        if not spec.name:
            raise RequestRefused("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise RequestRefused("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
        models = self._models if spec.name == self.name else {}
        version = spec.version.value if choice == "version" else max(models, default=None)
        if version not in models:
            requested = f"Specific({spec.name}, {version})" if choice == "version" else f"Latest({spec.name})"
            raise RequestRefused("NOT_FOUND", f"Servable not found for request: {requested}")
        return version, models[version]


def _warn_beyond_loopback(host: str) -> None:
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    if not loopback:
        warnings.warn(
            "The server is reachable from other machines without authentication or encryption: use a proxy with both. "
            f"Received: host={host}",
            stacklevel=3,
        )


def _import_services() -> tuple[ModuleType, Callable[[EmbeddingServer, Any], None]]:
    """Return grpc, and a function that adds the services of an `EmbeddingServer` to a gRPC server."""
    try:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
    except ImportError as error:
        raise ImportError(
            f'The server needs grpcio and tensorflow-serving-api: pip install "kreid[serving]". Received: {error}'
        ) from error

    def answer(context: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RequestRefused as refused:
            return context.abort(grpc.StatusCode[refused.code], refused.message)

    def add_services(server: EmbeddingServer, grpc_server: Any) -> None:
        class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
            def Predict(self, request, context):
                return answer(context, server.predict, request, context.time_remaining())

            def GetModelMetadata(self, request, context):
                return answer(context, server.metadata, request)

        class Model(model_service_pb2_grpc.ModelServiceServicer):
            def GetModelStatus(self, request, context):
                return answer(context, server.status, request)

        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), grpc_server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Model(), grpc_server)

    return grpc, add_services
