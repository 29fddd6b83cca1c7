"""The embedded gRPC server: TensorFlow Serving's protocol, from pip alone.

It loads an export as TensorFlow Serving does (a graph and a session, not Python
functions), so that an export that works here works there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from kreid.serving import wire
from kreid.serving.export import versions
from kreid.serving.warmup import read_warmup

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

DEFAULT_SIGNATURE = "serving_default"
MAX_ERROR_CHARACTERS = 1024
MAX_CALLS = 64  # running and waiting; further ones are refused, so that waiting messages cannot fill the memory
MAX_MESSAGE_BYTES = 2**31 - 1  # protobuf's limit

_LOG = logging.getLogger(__name__)

_PREDICT_METHOD = "tensorflow/serving/predict"
_LONGEST_RUN_S = 24 * 3600
_CPP_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class EmbeddingServer:
    """Serve one model's highest version over gRPC.

    Answers `PredictionService` (Predict, GetModelMetadata) and `ModelService`
    (GetModelStatus) with TensorFlow Serving's codes and messages. There is no
    authentication and no encryption, so the default address is loopback.

    Args:
        base_path: folder of version folders, as `export_model` writes it.
        name: model name that requests must give.
        host: address to listen on; any but loopback warns.
        port: 0 to 65535; 0 chooses a free one.
        max_message_bytes: largest request and answer.
        workers: calls that run at once.

    Raises:
        ValueError: if `base_path` holds no version, or an argument is out of its range.
        ImportError: without `grpcio` and `tensorflow-serving-api`.

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
            raise ValueError(f"A model needs a name. Received: name={name!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"A port is 0 (any free one) to 65535. Received: port={port}")
        if not 1 <= max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(
                "The largest message must be from 1 byte to 2 GiB less one byte (2047 MiB), the limit of protobuf. "
                f"Received: max_message_bytes={max_message_bytes}"
            )
        if workers < 1:
            raise ValueError(f"At least one worker must run requests. Received: workers={workers}")
        existing = versions(base_path)
        if not existing:
            raise ValueError(
                "The folder holds no version: give the base path whose sub-folders are named 1, 2, ... as "
                f"export_model writes them. Received: base_path={base_path}"
            )
        self.base_path = Path(base_path)
        self.name = name
        self.host = host
        self.port = port
        self.version = existing[-1]
        self.max_message_bytes = max_message_bytes
        self.workers = workers
        self._models: dict[int, _LoadedModel] = {}
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
        """Load the version, replay its warm-up requests, then listen.

        Returns:
            The server itself.

        Raises:
            ValueError: if the version cannot be loaded or a warm-up request fails.
            OSError: if the address cannot be used.
        """
        grpc, add_services = _import_services()
        _warn_beyond_loopback(self.host)
        model = _LoadedModel(self.base_path / str(self.version))
        try:
            self._models[self.version] = model
            size = self.max_message_bytes
            server = grpc.server(
                concurrent.futures.ThreadPoolExecutor(self.workers, thread_name_prefix="kreid-serving"),
                options=[
                    ("grpc.max_receive_message_length", size),
                    ("grpc.max_send_message_length", size),
                    ("grpc.so_reuseport", 0),  # otherwise two servers share a port silently
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
        """Refuse new calls, let running ones finish, and free the model.

        Args:
            grace: seconds until running calls are stopped.
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

    def _find(self, request: Any) -> tuple[int, _LoadedModel]:
        """Return the version and its model; check in TensorFlow Serving's order."""
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
            asked = f"Specific({spec.name}, {version})" if choice == "version" else f"Latest({spec.name})"
            raise RequestRefused("NOT_FOUND", f"Servable not found for request: {asked}")
        return version, models[version]


class RequestRefused(Exception):
    """A request that ends in a status other than OK.

    Args:
        code: name of a gRPC status code.
        message: text for the client, cut at 1024 characters as by TensorFlow Serving.
    """

    def __init__(self, code: str, message: str) -> None:
        if len(message) > MAX_ERROR_CHARACTERS:
            message = message[:MAX_ERROR_CHARACTERS] + "...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = message


class _LoadedModel:
    """One version in memory."""

    def __init__(self, export_dir: Path) -> None:
        import tensorflow as tf

        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(export_dir))
            self.signatures = dict(loaded.signature_def)
            for signature, inputs in read_warmup(export_dir):
                self.run(signature, {k: tf.make_tensor_proto(v) for k, v in inputs.items()}, [], None, None)
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self.close()
            reason = _graph_message(error) if isinstance(error, tf.errors.OpError) else str(error)
            reason = reason.strip().split("\n", 1)[0].rstrip(".")
            raise ValueError(
                f"This version cannot be loaded ({reason}); copy its folder again or export it again. "
                f"Received: export_dir={export_dir}"
            ) from error
        except RequestRefused as error:
            self.close()
            raise ValueError(
                f"A warm-up request of this version fails ({error.message}); export it again. "
                f"Received: export_dir={export_dir}"
            ) from error

    def close(self) -> None:
        self._session.close()

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str],
        seconds_left: float | None,
        max_tensor_bytes: int | None,
    ) -> dict[str, Any]:
        """Return the outputs of a signature as dict of alias to TensorProto."""
        import tensorflow as tf

        signature = self._signature(name)
        feeds = self._feeds(signature, inputs, max_tensor_bytes)
        aliases = _chosen_outputs(signature, output_filter)
        for position, alias in enumerate(sorted(signature.inputs)):
            _check_tensor(position, alias, signature.inputs[alias], feeds[signature.inputs[alias].name])
        options = None
        if seconds_left is not None:
            if seconds_left <= 0:
                raise RequestRefused("DEADLINE_EXCEEDED", "The deadline passed before the request could run.")
            milliseconds = max(1, int(1000 * min(seconds_left, _LONGEST_RUN_S)))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        try:
            values = self._session.run([signature.outputs[alias].name for alias in aliases], feeds, options)
        except tf.errors.OpError as error:
            raise RequestRefused(_code_name(error.error_code), _graph_message(error)) from error
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise RequestRefused("INTERNAL", f"{type(error).__name__}: {error}") from error
        return {alias: tf.make_tensor_proto(value) for alias, value in zip(aliases, values, strict=True)}

    def _signature(self, name: str) -> Any:
        if name not in self.signatures:
            raise RequestRefused("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        if signature.method_name != _PREDICT_METHOD:
            raise RequestRefused(
                "FAILED_PRECONDITION",
                f"Expected prediction signature method_name to be one of {{{_PREDICT_METHOD}}}. "
                f"Was: {signature.method_name}",
            )
        return signature

    def _feeds(self, signature: Any, inputs: Mapping[str, Any], max_tensor_bytes: int | None) -> dict[str, np.ndarray]:
        required, sent = set(signature.inputs), set(inputs)
        if len(required) != len(sent):
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!={len(required)} len({_names(sent)}) != "
                f"len({_names(required)}). Sent extra: {_names(sent - required)}. "
                f"Missing but required: {_names(required - sent)}.",
            )
        feeds = {}
        for alias in sorted(required):
            feed = signature.inputs[alias].name
            if alias not in sent:
                raise RequestRefused(
                    "INVALID_ARGUMENT",
                    f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value "
                    f"provided. Inputs expected to be in the set {_names(required)}.",
                )
            feeds[feed] = _read_tensor(alias, inputs[alias], max_tensor_bytes)
        return feeds


def _read_tensor(alias: str, tensor: Any, max_bytes: int | None) -> np.ndarray:
    """Return the array of a TensorProto; refuse one that is inconsistent or unfolds to too many bytes."""
    import tensorflow as tf

    unreadable = RequestRefused("INVALID_ARGUMENT", f"tensor parsing error: {alias}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise unreadable
    try:
        dtype = tf.as_dtype(tensor.dtype)
        # A few bytes can stand for any number of equal elements. Python integers: NumPy's product wraps around.
        elements = 1
        for size in shape:
            elements *= size
        if max_bytes is not None and elements * dtype.size > max_bytes:
            raise unreadable
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise unreadable from error


def _check_tensor(position: int, alias: str, info: Any, array: np.ndarray) -> None:
    import tensorflow as tf

    expected = tf.as_dtype(info.dtype)
    received = tf.as_dtype(array.dtype)
    if expected != received:
        raise RequestRefused(
            "INVALID_ARGUMENT",
            f"Expects arg[{position}] to be {_cpp_name(expected)} but {_cpp_name(received)} is provided "
            f"(input {alias})",
        )
    shape = [dim.size for dim in info.tensor_shape.dim]
    fits = info.tensor_shape.unknown_rank or (
        len(shape) == array.ndim and all(size in (-1, sent) for size, sent in zip(shape, array.shape, strict=True))
    )
    if not fits:
        expected_shape = ",".join("?" if size == -1 else str(size) for size in shape)
        sent_shape = ",".join(map(str, array.shape))
        raise RequestRefused(
            "INVALID_ARGUMENT",
            f"Shape of input {alias} [{sent_shape}] is not compatible with expected shape [{expected_shape}].",
        )


def _chosen_outputs(signature: Any, output_filter: Sequence[str]) -> Sequence[str]:
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_names(signature.outputs)}.",
            )
        if alias in output_filter[:position]:
            raise RequestRefused("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
    return output_filter or sorted(signature.outputs)


def _names(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _cpp_name(dtype: tf.DType) -> str:
    return _CPP_NAMES.get(dtype.name, dtype.name)


def _code_name(number: int) -> str:
    import grpc

    # TensorFlow's error codes are gRPC's.
    return {code.value[0]: code.name for code in grpc.StatusCode}.get(number, "UNKNOWN")


def _graph_message(error: tf.errors.OpError) -> str:
    """Keep the kernel's message; drop Python's stack, which shows paths of the training machine."""
    message = error.message.removeprefix("Graph execution error:").strip()
    for end in ("\n\t [[", "\n\nOriginal stack trace", "\nDetected at node"):
        message = message.split(end, 1)[0]
    return message.strip() or type(error).__name__


def _warn_beyond_loopback(host: str) -> None:
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    if not loopback:
        warnings.warn(
            f"Listening beyond this machine without authentication or encryption: put a proxy with both in "
            f"front. Received: host={host}",
            stacklevel=3,
        )


def _import_services() -> tuple[ModuleType, Callable[[EmbeddingServer, Any], None]]:
    """Return grpc and a function that adds both services of an EmbeddingServer to a gRPC server."""
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
