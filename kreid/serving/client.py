"""The client: tracklets in, embeddings out, without TensorFlow in the client's process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.serving import wire
from kreid.serving.images import check_images

_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_DTYPE_NAMES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool"}
_HINTS = {
    "UNAVAILABLE": "start the server (kreid serve EXPORT_DIR) or correct the target",
    "DEADLINE_EXCEEDED": "give the client a longer timeout or send fewer tracklets at once",
    "NOT_FOUND": "correct the model name or version; the server's first line shows both",
    "INVALID_ARGUMENT": "compare the request with metadata() and with the limits in card()",
    "FAILED_PRECONDITION": "this model has other signatures; metadata() lists them",
    "RESOURCE_EXHAUSTED": "send fewer tracklets at once, or raise max_message_bytes here and on the server",
    "UNIMPLEMENTED": "the target is neither TensorFlow Serving nor a kreid server; correct it",
}
# Part of a message -> a hint that is better than that of the code.
_HINTS_BY_MESSAGE = {
    "at most": "thin the tracklet to the frame_limit in card(), or export with a larger frame_limit",
    "Concurrent RPC limit exceeded": "the server is busy: try again later, or with fewer clients",
    "errors resolving": "correct the target's host name",
    "DNS resolution": "correct the target's host name",
}

_Tracklet = TypeVar("_Tracklet", bound=Sized)


class ServingError(RuntimeError):
    """The error of a request that the server refused, or that did not reach it.

    Args:
        code: name of the gRPC status code.
        message: the server's message.
        hint: how to fix it.
    """

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{code}: {message}; {hint}")
        self.code = code
        self.message = message
        self.hint = hint


class EmbeddingClient:
    """A client of a kreid server or TensorFlow Serving.

    Needs only `grpcio`, `protobuf` and NumPy. Long lists are sent in several
    requests, each within the frame limit of the model card and the message size.

    Args:
        target: `host:port`.
        model: name of the model on the server.
        timeout: seconds per request; `None` waits without limit.
        version: int, the model's version, or `None` for the server's latest.
        max_message_bytes: largest request and answer; the server has its own limit.
        frames_at_once: largest number of frames (padding included) in a request
            with several tracklets, so that a request stays within the timeout on a
            slow server. A longer tracklet is sent alone.

    Raises:
        ImportError: without `grpcio`.

    Usage:

        with EmbeddingClient("127.0.0.1:8500") as client:
            embeddings = client.embed_frames([frames])
    """

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        model: str = "kreid",
        timeout: float | None = 30,
        version: int | None = None,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        frames_at_once: int = 128,
    ) -> None:
        try:
            import google.protobuf  # noqa: F401 - the messages are built on first use
            import grpc
        except ImportError as error:
            raise ImportError(
                f"The client needs grpcio and protobuf: pip install grpcio protobuf. Received: {error}"
            ) from error
        self._grpc = grpc
        self.target = target
        self.model = model
        self.timeout = timeout
        self.version = version
        self.max_message_bytes = max_message_bytes
        self.frames_at_once = frames_at_once
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
            ],
        )
        self._card: dict[str, Any] | None = None

    def embed_frames(self, tracklets: Iterable[ArrayLike]) -> NDArray[np.float32]:
        """Embed tracklets of decoded frames.

        Args:
            tracklets: list of uint8 arrays `(frames, height, width, 3)` of the
                model's image size; numbers of frames may differ.

        Returns:
            float32 `(tracklets, features)`.

        Raises:
            ValueError: for an array that is not a tracklet of that size.
            ServingError: if the server refuses the request or cannot be reached.
        """
        arrays = [np.asarray(frames) for frames in tracklets]
        size = tuple(self.card()["image_size"])
        for row, frames in enumerate(arrays):
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (*size, 3) or not len(frames):
                raise ValueError(
                    f"Tracklet {row} must be uint8 (frames, {size[0]}, {size[1]}, 3) with at least one frame; resize "
                    f"it, or send JPEGs of any size with embed_images. Received: {frames.dtype} {frames.shape}"
                )
        parts = [np.zeros((0, self.card()["embedding_dim"]), np.float32)]
        frame_bytes = size[0] * size[1] * 3
        for group in self._groups(arrays, lambda group: len(group) * max(map(len, group)) * frame_bytes):
            lengths = np.array([len(frames) for frames in group], np.int32)
            batch = np.zeros((len(group), lengths.max(), *size, 3), np.uint8)
            for row, frames in enumerate(group):
                batch[row, : len(frames)] = frames
            parts.append(self._predict("embed_padded", {"frames": batch, "lengths": lengths})["embedding"])
        return np.concatenate(parts)

    def embed_images(self, tracklets: Iterable[Iterable[bytes]]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Embed tracklets of encoded images of any size.

        Args:
            tracklets: list of lists of bytes, each a JPEG or PNG file. The server
                skips damaged files.

        Returns:
            A tuple of float32 `(tracklets, features)` and int32 `(tracklets,)`, the
            number of readable frames; if it is 0 the embedding is NaN.

        Raises:
            ValueError: if a tracklet is not a list of files' bytes, is Base64, or has
                no JPEG or PNG file but a file of another known format.
            ServingError: if the server refuses the request or cannot be reached.
        """
        if isinstance(tracklets, bytes | str):
            tracklets = [tracklets]  # `check_images` raises
        contents = [check_images(row, images) for row, images in enumerate(tracklets)]
        embeddings = [np.zeros((0, self.card()["embedding_dim"]), np.float32)]
        valid = [np.zeros(0, np.int32)]
        for group in self._groups(contents, lambda group: sum(len(image) + 8 for images in group for image in images)):
            lengths = np.array([len(images) for images in group], np.int32)
            batch = np.full((len(group), max(1, lengths.max())), b"", object)
            for row, images in enumerate(group):
                batch[row, : len(images)] = images
            outputs = self._predict("embed_jpeg", {"images": batch, "lengths": lengths})
            valid.append(outputs["valid_frames"])
            # The graph's row is finite but depends on no image; NaN prevents its use.
            embeddings.append(np.where(valid[-1][:, None] > 0, outputs["embedding"], np.float32(np.nan)))
        return np.concatenate(embeddings), np.concatenate(valid)

    def card(self) -> dict[str, Any]:
        """Return the model card; the first call requests it from the server.

        Returns:
            A dict, see `kreid.serving.read_card`.
        """
        if self._card is None:
            outputs = self._predict("describe", {"rows": np.zeros(1, np.int32)})
            self._card = json.loads(outputs["card"][0])
        assert self._card is not None
        return self._card

    def status(self) -> list[dict[str, Any]]:
        """Request the state of the model's versions.

        Returns:
            A list of dicts with `version`, `state` and `error`, highest version first.
        """
        types = wire.messages()
        request = self._request(types["StatusRequest"])
        response = self._call(wire.GET_MODEL_STATUS, request, types["StatusResponse"])
        return [
            {
                "version": item.version,
                "state": _STATES.get(item.state, str(item.state)),
                "error": item.status.error_message,
            }
            for item in response.model_version_status
        ]

    def metadata(self) -> dict[str, dict[str, dict[str, tuple[str, tuple[int, ...]]]]]:
        """Request the model's signatures.

        Returns:
            A dict of signature name to `{"inputs": {name: (dtype, shape)}, "outputs": ...}`; -1 is any size.
        """
        types = wire.messages()
        request = self._request(types["MetadataRequest"])
        request.metadata_field.append("signature_def")
        response = self._call(wire.GET_MODEL_METADATA, request, types["MetadataResponse"])
        signatures = types["SignatureMap"].FromString(response.metadata["signature_def"].value).signature_def

        def describe(tensors: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
            return {
                name: (_DTYPE_NAMES.get(info.dtype, str(info.dtype)), tuple(d.size for d in info.tensor_shape.dim))
                for name, info in sorted(tensors.items())
            }

        return {
            name: {"inputs": describe(signature.inputs), "outputs": describe(signature.outputs)}
            for name, signature in sorted(signatures.items())
            if not name.startswith("__")
        }

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> EmbeddingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _groups(
        self, tracklets: Iterable[_Tracklet], size_of: Callable[[list[_Tracklet]], int]
    ) -> Iterator[list[_Tracklet]]:
        """Yield the tracklets of each request; a tracklet above the limits is sent alone."""
        frame_limit = min(self.card()["frame_limit"], self.frames_at_once)
        room = self.max_message_bytes - 64 * 1024
        group: list[_Tracklet] = []
        for tracklet in tracklets:
            longer = [*group, tracklet]
            if group and (len(longer) * max(map(len, longer)) > frame_limit or size_of(longer) > room):
                yield group
                longer = [tracklet]
            group = longer
        if group:
            yield group

    def _request(self, kind: Callable[[], Any], signature: str = "") -> Any:
        request = kind()
        request.model_spec.name = self.model
        if signature:
            request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        return request

    def _predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        types = wire.messages()
        request = self._request(types["PredictRequest"], signature)
        for name, value in inputs.items():
            wire.fill_tensor(request.inputs[name], value)
        response = self._call(wire.PREDICT, request, types["PredictResponse"])
        return {name: wire.read_tensor(tensor) for name, tensor in response.outputs.items()}

    def _call(self, method: str, request: Any, response_type: Any) -> Any:
        call = self._channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response_type.FromString
        )
        try:
            return call(request, timeout=self.timeout)
        except self._grpc.RpcError as error:
            code, message = error.code().name, error.details()
            hint = f"{_hint(code, message)}. Received: target={self.target}, model={self.model}"
            raise ServingError(code, message, hint) from error


def _hint(code: str, message: str) -> str:
    for part, hint in _HINTS_BY_MESSAGE.items():
        if part in message:
            return hint
    return _HINTS.get(code, "look at the server's log")
