"""Replies to requests, with the checks, codes and messages of TensorFlow Serving."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kreid.serving.batching import Batcher
from kreid.serving.loaded_model import LoadedModel
from kreid.serving.refusal import RequestRefused
from kreid.serving.telemetry import Call
from kreid.serving.tensors import check_fields
from kreid.serving.versions import ServedVersions, VersionPolicy

DEFAULT_SIGNATURE = "serving_default"
MAX_SMALL_REQUEST = 64 * 1024  # of the methods that take no tensors
_LOGGED_NAME = 200


class Replies:
    """Replies the methods of PredictionService and ModelService, as bytes for bytes.

    Every method raises `RequestRefused` with the status for the client.

    Args:
        served: the versions.
        batcher: merges requests, or `None` to run each by itself.
    """

    def __init__(self, served: ServedVersions, batcher: Batcher | None = None) -> None:
        self._served = served
        self._batcher = batcher

    def predict(self, body: bytes, call: Call, deadline: float | None = None) -> bytes:
        """Answer a PredictRequest.

        Args:
            body: the request.
            call: filled with what the request holds and which version answers.
            deadline: by `time.monotonic`, or `None`.

        Returns:
            A PredictResponse.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        check_fields(body)
        request = _parse(predict_pb2.PredictRequest, body)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        call.signature = name[:_LOGGED_NAME]
        call.note_shapes(request.inputs)
        with self._model(request, call) as model:
            call.known = name in model.signatures
            arrays = model.read(name, request.inputs)
            _count_frames(call, arrays)
            seconds_left = None if deadline is None else deadline - time.monotonic()
            run = model.run if self._batcher is None else functools.partial(self._batcher.run, model)
            outputs = run(name, arrays, list(request.output_filter), seconds_left)
        if "valid_frames" in outputs and "images" in arrays and "lengths" in arrays:
            valid = outputs["valid_frames"]  # -1 of a row that the graph refused
            call.unreadable = int((arrays["lengths"] - valid)[valid >= 0].sum())
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self._served.name
        response.model_spec.version.value = call.version
        response.model_spec.signature_name = name
        for alias, value in outputs.items():
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(value))
        return response.SerializeToString()

    def metadata(self, body: bytes, call: Call) -> bytes:
        """Answer a GetModelMetadataRequest with all signatures.

        Args:
            body: the request.
            call: filled with the version that answers.

        Returns:
            A GetModelMetadataResponse.
        """
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = _parse_small(get_model_metadata_pb2.GetModelMetadataRequest, body)
        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise RequestRefused("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestRefused("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._model(request, call) as model:
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.model_spec.name = self._served.name
        response.model_spec.version.value = call.version
        response.metadata["signature_def"].Pack(signatures)
        return response.SerializeToString()

    def status(self, body: bytes, call: Call) -> bytes:
        """Answer a GetModelStatusRequest, highest version first.

        Args:
            body: the request.
            call: of the request.

        Returns:
            A GetModelStatusResponse.
        """
        from tensorflow_serving.apis import get_model_status_pb2

        request = _parse_small(get_model_status_pb2.GetModelStatusRequest, body)
        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        spec = request.model_spec
        states = self._served.states() if spec.name == self._served.name else []
        choice = spec.WhichOneof("version_choice")
        if states and choice is not None:
            version = spec.version.value if choice == "version" else self._served.labels.get(spec.version_label)
            if version is None:
                raise RequestRefused("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
            states = [state for state in states if state.number == version]
            if not states:
                raise RequestRefused("NOT_FOUND", f"Could not find version {version} of model {spec.name}")
        elif choice == "version":
            raise RequestRefused("NOT_FOUND", f"Could not find version {spec.version.value} of model {spec.name}")
        if not states:
            raise RequestRefused("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in states:
            item = response.model_version_status.add(version=state.number, state=state.state)
            if state.error:
                item.status.error_code = 2  # UNKNOWN
                item.status.error_message = state.error
        return response.SerializeToString()

    def reload(self, body: bytes, call: Call) -> bytes:
        """Answer a ReloadConfigRequest: serve by the policy and labels that it gives.

        One model is served, so the request must hold exactly this model and folder.

        Args:
            body: the request.
            call: of the request.

        Returns:
            A ReloadConfigResponse.
        """
        from tensorflow_serving.apis import model_management_pb2

        request = _parse_small(model_management_pb2.ReloadConfigRequest, body)
        if request.config.WhichOneof("config") != "model_config_list":
            raise RequestRefused("INVALID_ARGUMENT", "ReloadConfigRequest must hold a model_config_list")
        models = request.config.model_config_list.config
        if [model.name for model in models] != [self._served.name]:
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"This server serves one model, {self._served.name}; the list must hold exactly it. "
                f"Received: names={[model.name[:_LOGGED_NAME] for model in models[:3]]}",
            )
        if models[0].base_path and models[0].base_path.rstrip("/") != str(self._served.base_path).rstrip("/"):
            raise RequestRefused(
                "INVALID_ARGUMENT", "This server serves one folder; give its base_path as at the start, or none."
            )
        try:
            self._served.reload(_policy(models[0]), dict(models[0].version_labels))
        except ValueError as error:
            raise RequestRefused("INVALID_ARGUMENT", str(error)) from error
        return model_management_pb2.ReloadConfigResponse().SerializeToString()

    @contextlib.contextmanager
    def _model(self, request: Any, call: Call) -> Iterator[LoadedModel]:
        """Hold the requested version; the checks have TensorFlow Serving's order."""
        if not request.HasField("model_spec"):
            raise RequestRefused("INVALID_ARGUMENT", "Missing ModelSpec")
        spec = request.model_spec
        if not spec.name:
            raise RequestRefused("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if spec.name != self._served.name:
            if choice == "version_label":
                raise RequestRefused("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
            requested = f"Specific({spec.name}, {spec.version.value})" if choice else f"Latest({spec.name})"
            raise RequestRefused("NOT_FOUND", f"Servable not found for request: {requested}")
        version = spec.version.value if choice == "version" else None
        with self._served.use(version, spec.version_label if choice == "version_label" else None) as (number, model):
            call.version, call.fingerprint = number, model.fingerprint
            yield model


def _parse(kind: Any, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(body)
    except (DecodeError, UnicodeDecodeError) as error:
        # The code of gRPC's own parsers.
        raise RequestRefused("INTERNAL", f"The request is no {kind.DESCRIPTOR.full_name}.") from error


def _parse_small(kind: Any, body: bytes) -> Any:
    if len(body) > MAX_SMALL_REQUEST:
        raise RequestRefused(
            "INVALID_ARGUMENT", f"This request may have at most {MAX_SMALL_REQUEST} bytes. Received: {len(body)} bytes"
        )
    return _parse(kind, body)


def _policy(config: Any) -> VersionPolicy:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy()
    if choice == "specific":
        if not policy.specific.versions or min(policy.specific.versions) < 0:
            raise ValueError("A specific version policy must list at least one version, none negative.")
        return VersionPolicy(specific=tuple(sorted(set(policy.specific.versions))))
    return VersionPolicy(latest=policy.latest.num_versions or 1)


def _count_frames(call: Call, arrays: Mapping[str, Any]) -> None:
    """Note tracklets and real frames; shapes that the graph will refuse count nothing."""
    frames = arrays.get("images", arrays.get("frames"))
    if frames is None or frames.ndim < 2:
        return
    call.rows, length = frames.shape[:2]
    lengths = arrays.get("lengths")
    if lengths is None:
        call.frames = call.rows * length
    elif lengths.shape == (call.rows,) and lengths.dtype.kind in "iu":
        call.frames = int(lengths.clip(0, length).sum())
