"""What both clients of a model share: everything but the waiting, see `client_flow`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.serving import wire
from kreid.serving.answers import Embeddings, ModelVersion, Prediction, SamePerson
from kreid.serving.client_flow import Call, ConnectionCore, Flow, Pause, refuse
from kreid.serving.connection import Retry, Tls
from kreid.serving.errors import ServingError
from kreid.serving.images import check_images

_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_DTYPE_NAMES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool"}
_FINGERPRINT_HEADER = "kreid-fingerprint"
_SHORTEST_FINGERPRINT = 8
_POLL_S = 0.1
# Statuses of a request that was right for another model than the one that answers now.
_MAYBE_OTHER_MODEL = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND")
# Statuses of a server that is starting or loading the model.
_NOT_YET = ("UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED")

Signatures: TypeAlias = dict[str, dict[str, dict[str, tuple[str, tuple[int, ...]]]]]

_Tracklet = TypeVar("_Tracklet", bound=Sized)
_Result = TypeVar("_Result")


class _OtherModel(Exception):
    """The error of an answer from another model than the one that the request was made for."""


class _Known(NamedTuple):
    """A model and its card."""

    model: ModelVersion
    card: dict[str, Any]


class ClientCore(ConnectionCore):
    """The settings and methods of a client; see `EmbeddingClient`."""

    def __init__(
        self,
        target: str,
        model: str,
        timeout: float | None,
        version: int | None,
        max_message_bytes: int,
        frames_at_once: int,
        label: str | None,
        fingerprint: str | None,
        tls: Tls | bool | None,
        token: str | None,
        token_file: str | os.PathLike[str] | None,
        retry: Retry | None,
        keepalive: float,
    ) -> None:
        _check_arguments(model, version, frames_at_once, label, fingerprint)
        super().__init__(target, timeout, max_message_bytes, tls, token, token_file, retry, keepalive, model)
        self.model = model
        self.version = None if version is None else int(version)
        self.label = label
        self.fingerprint = None if fingerprint is None else fingerprint.lower()
        self.frames_at_once = frames_at_once
        self._known: _Known | None = None
        self._pinned: int | None = None  # the version that has the fingerprint asked for

    def embed_frames(self, tracklets: Iterable[ArrayLike]) -> Flow[Embeddings]:
        """Embed tracklets of decoded frames."""
        arrays = [np.asarray(frames) for frames in tracklets]

        def embed(known: _Known) -> Flow[Embeddings]:
            _check_frames(arrays, tuple(known.card["image_size"]))
            outputs = yield from self._in_groups(known, "embed_padded", arrays, _padded_bytes, _padded("frames"))
            return Embeddings(_joined(outputs, "embedding", known), known.model)

        return (yield from self._with_one_model(embed))

    def embed_images(self, tracklets: Iterable[Iterable[bytes]]) -> Flow[tuple[Embeddings, NDArray[np.int32]]]:
        """Embed tracklets of encoded images of any size."""
        if isinstance(tracklets, bytes | str):
            tracklets = [tracklets]  # `check_images` raises
        contents = [check_images(row, images) for row, images in enumerate(tracklets)]

        def num_bytes(group: list[list[bytes]]) -> int:
            return sum(len(image) + 8 for images in group for image in images)

        def inputs(group: list[list[bytes]]) -> dict[str, NDArray[Any]]:
            lengths = np.array([len(images) for images in group], np.int32)
            batch = np.full((len(group), max(1, lengths.max())), b"", object)
            for row, images in enumerate(group):
                batch[row, : len(images)] = images
            return {"images": batch, "lengths": lengths}

        def embed(known: _Known) -> Flow[tuple[Embeddings, NDArray[np.int32]]]:
            outputs = yield from self._in_groups(known, "embed_jpeg", contents, num_bytes, inputs)
            valid = np.concatenate([np.zeros(0, np.int32), *(output["valid_frames"] for output in outputs)])
            # Without a readable image a row depends on no image; NaN prevents its use.
            embeddings = np.where(valid[:, None] > 0, _joined(outputs, "embedding", known), np.float32(np.nan))
            return Embeddings(embeddings, known.model), valid

        return (yield from self._with_one_model(embed))

    def encode_frames(self, tracklets: Iterable[ArrayLike]) -> Flow[list[Embeddings]]:
        """Encode tracklets of decoded frames as vectors of frames or clips."""
        arrays = [np.asarray(frames) for frames in tracklets]

        def encode(known: _Known) -> Flow[list[Embeddings]]:
            _check_offered(known, "encode_frames")
            _check_frames(arrays, tuple(known.card["image_size"]))
            outputs = yield from self._in_groups(
                known, "encode_frames", arrays, _padded_bytes, _padded("frames"), counted="lengths"
            )
            return [
                Embeddings(vectors[:count], known.model)
                for output in outputs
                for vectors, count in zip(output["vectors"], output["lengths"], strict=True)
            ]

        return (yield from self._with_one_model(encode))

    def aggregate(self, vectors: Iterable[ArrayLike]) -> Flow[Embeddings]:
        """Embed tracklets of vectors."""
        given = list(vectors)
        arrays = [np.asarray(rows, np.float32) for rows in given]
        for row, array in enumerate(arrays):
            if array.ndim != 2 or not len(array) or array.shape[1] != arrays[0].shape[1]:
                raise ValueError(
                    f"Tracklet {row} must be vectors (parts, values) as encode_frames returns them, each of as many "
                    f"values as those of the first tracklet. Received: {array.shape}"
                )

        def aggregate(known: _Known) -> Flow[Embeddings]:
            _check_offered(known, "aggregate")
            for row, one in enumerate(given):
                _check_maker(f"tracklet {row}", one, known.model)
            outputs = yield from self._in_groups(
                known, "aggregate", arrays, _padded_bytes, _padded("vectors"), counted="valid_vectors", things="vectors"
            )
            return Embeddings(_joined(outputs, "embedding", known), known.model)

        return (yield from self._with_one_model(aggregate))

    def _in_groups(
        self,
        known: _Known,
        signature: str,
        tracklets: Sequence[_Tracklet],
        num_bytes: Callable[[list[_Tracklet]], int],
        inputs: Callable[[list[_Tracklet]], dict[str, NDArray[Any]]],
        counted: str = "valid_frames",
        things: str = "frames",
    ) -> Flow[list[dict[str, NDArray[Any]]]]:
        """Send tracklets in several requests; return the outputs of each. `counted` is -1 for a row that is refused."""
        answers: list[dict[str, NDArray[Any]]] = []
        before = 0
        for group in self.groups(known.card, tracklets, num_bytes):
            outputs = yield from self._predict_with(known, signature, inputs(group))
            # `embed_padded` of older exports refuses no row, and counts none.
            counts = outputs.setdefault(counted, np.array([len(tracklet) for tracklet in group], np.int32))
            for row in np.flatnonzero(counts < 0):
                tracklet = group[row]
                alone: dict[str, NDArray[Any]] = {}
                if len(tracklet) <= known.card["frame_limit"]:
                    # A server that merges requests had too many frames at once.
                    alone = yield from self._predict_with(known, signature, inputs([tracklet]))
                if not alone or alone[counted][0] < 0:
                    raise self._row_refused(before + int(row), len(tracklet), things, known.card["frame_limit"])
                for name, values in alone.items():
                    if values.ndim == 1:
                        outputs[name][row] = values[0]
                    else:
                        outputs[name][row, : values.shape[1]] = values[0]
            answers.append(outputs)
            before += len(group)
        return answers

    def _row_refused(self, row: int, count: int, things: str, limit: int) -> ServingError:
        received = f"Received: target={self.target}, model={self.model}"
        if count > limit:
            return ServingError(
                "INVALID_ARGUMENT",
                f"tracklet {row} has {count} {things}, and the model takes at most {limit}",
                f"thin the tracklet to the frame_limit in card(), or export with a larger frame_limit. {received}",
            )
        return ServingError(
            "RESOURCE_EXHAUSTED",
            f"the server's batch had no room for tracklet {row} of {count} {things} beside those of other requests",
            f"the server is busy: try again later, or let it merge fewer requests. {received}",
        )

    def predict(self, signature: str, inputs: Mapping[str, ArrayLike]) -> Flow[Prediction]:
        """Send one request to any signature."""

        def predict(known: _Known) -> Flow[Prediction]:
            return Prediction((yield from self._predict_with(known, signature, inputs)), known.model)

        return (yield from self._with_one_model(predict))

    def same_person(self, first: ArrayLike, second: ArrayLike) -> Flow[SamePerson]:
        """Compare embeddings, row by row."""
        rows = [np.asarray(value, np.float32) for value in (first, second)]
        for name, value in zip(("first", "second"), rows, strict=True):
            if value.ndim != 2 or value.shape != rows[0].shape:
                raise ValueError(
                    "`first` and `second` must be embeddings (tracklets, features) of equal shape; for one against "
                    f"many repeat the one: np.repeat(one[None], len(many), 0). Received: {name} of shape {value.shape}"
                )

        def compare(known: _Known) -> Flow[SamePerson]:
            _check_maker("`first`", first, known.model)
            _check_maker("`second`", second, known.model)
            _check_offered(known, "same_person")
            outputs = yield from self._predict_with(known, "same_person", {"first": rows[0], "second": rows[1]})
            return SamePerson(outputs["distance"], outputs["probability"], outputs["same_person"], known.model)

        return (yield from self._with_one_model(compare))

    def card(self, refresh: bool = False) -> Flow[dict[str, Any]]:
        """Return the model card."""
        return (yield from self._model(refresh)).card

    def model_version(self) -> Flow[ModelVersion]:
        """Ask which model answers now."""
        return (yield from self._model(refresh=True)).model

    def wait_until_ready(self, timeout: float) -> Flow[ModelVersion]:
        """Wait until the model answers."""
        if not timeout > 0:
            raise ValueError(f"`timeout` must be seconds above 0. Received: timeout={timeout!r}")
        end = time.monotonic() + timeout
        while True:
            try:
                return (yield from _until(end, self._model(refresh=True))).model
            except ServingError as error:
                if error.code not in _NOT_YET or time.monotonic() + _POLL_S > end:
                    raise
            yield Pause(_POLL_S)

    def status(self) -> Flow[list[dict[str, Any]]]:
        """Request the state of the model's versions."""
        types = wire.messages()
        # TensorFlow Serving knows no labels in this request.
        request = self._request(types["StatusRequest"], "", ModelChoice(self.version, None))
        response = (yield from self._send(wire.GET_MODEL_STATUS, request, types["StatusResponse"])).response
        return [
            {
                "version": item.version,
                "state": _STATES.get(item.state, str(item.state)),
                "error": item.status.error_message,
            }
            for item in response.model_version_status
        ]

    def metadata(self) -> Flow[Signatures]:
        """Request the model's signatures."""
        types = wire.messages()
        request = self._request(types["MetadataRequest"], "", self._choice())
        request.metadata_field.append("signature_def")
        response = (yield from self._send(wire.GET_MODEL_METADATA, request, types["MetadataResponse"])).response
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

    def groups(
        self, card: Mapping[str, Any], tracklets: Iterable[_Tracklet], size_of: Callable[[list[_Tracklet]], int]
    ) -> Iterator[list[_Tracklet]]:
        """Yield the tracklets of each request; a tracklet above the limits is sent alone."""
        frame_limit = min(card["frame_limit"], self.frames_at_once)
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

    def _with_one_model(self, work: Callable[[_Known], Flow[_Result]]) -> Flow[_Result]:
        """Run work whose answers must all come from one model; once more, with the new card, if the model changes."""
        fresh = self._known is None
        known = yield from self._model()
        changes = 0
        while True:
            refused: Exception | None = None
            try:
                return (yield from work(known))
            except _OtherModel:
                pass
            except (ValueError, ServingError) as error:
                # The card may be that of an older model.
                if fresh or (isinstance(error, ServingError) and error.code not in _MAYBE_OTHER_MODEL):
                    raise
                refused = error
            newest = yield from self._model(refresh=True)
            if refused is not None and newest.model == known.model:
                raise refused
            changes += 1
            if changes > 1:
                raise ServingError(
                    "ABORTED",
                    f"the model changed twice during one call, from {known.model} to {newest.model}",
                    "embeddings of two models are not comparable, so none is returned: try again when the new version "
                    "has been rolled out, or pin one (version, label or fingerprint). "
                    f"Received: target={self.target}, model={self.model}",
                )
            known, fresh = newest, True

    def _model(self, refresh: bool = False) -> Flow[_Known]:
        """Return the model that answers and its card, from memory unless there is none or a refresh is asked for."""
        known = self._known
        if known is None or refresh:
            known = yield from self._describe(self._choice())
            if not self._is_wanted(known.model):
                known = yield from self._find_fingerprint(known.model)
            self._known = known
        return known

    def _describe(self, choice: ModelChoice) -> Flow[_Known]:
        try:
            outputs, model = yield from self._predict(choice, "describe", {"rows": np.zeros(1, np.int32)})
        except ServingError as error:
            if self._pinned is None or choice.version != self._pinned or error.code != "NOT_FOUND":
                raise
            # The version with the fingerprint is gone; another may have it.
            self._pinned = None
            return (yield from self._describe(self._choice()))
        card = json.loads(outputs["card"][0])
        if model.fingerprint is None:
            model = model._replace(fingerprint=card.get("fingerprint"))
        return _Known(model, card)

    def _find_fingerprint(self, latest: ModelVersion) -> Flow[_Known]:
        """Look for the fingerprint asked for among the other versions, and pin the version that has it."""
        seen = [latest]
        if self.version is None and self.label is None:
            for item in (yield from self.status()):
                if item["state"] != "AVAILABLE" or item["version"] == latest.version:
                    continue
                known = yield from self._describe(ModelChoice(item["version"], None))
                if self._is_wanted(known.model):
                    self._pinned = known.model.version
                    return known
                seen.append(known.model)
        raise ServingError(
            "NOT_FOUND",
            f"no version that the server offers has fingerprint {self.fingerprint}; it has {', '.join(map(str, seen))}",
            "serve that version again, or embed the gallery with the new model and pin that one. "
            f"Received: target={self.target}, model={self.model}",
        )

    def _is_wanted(self, model: ModelVersion) -> bool:
        return self.fingerprint is None or (model.fingerprint or "").startswith(self.fingerprint)

    def _predict_with(
        self, known: _Known, signature: str, inputs: Mapping[str, ArrayLike]
    ) -> Flow[dict[str, NDArray[Any]]]:
        """Send a request and check that the expected model answers."""
        outputs, model = yield from self._predict(self._choice(), signature, inputs)
        # A server that names no fingerprint, as TensorFlow Serving, is known by its version alone.
        if model.version != known.model.version or model.fingerprint not in (None, known.model.fingerprint):
            raise _OtherModel
        return outputs

    def _predict(
        self, choice: ModelChoice, signature: str, inputs: Mapping[str, ArrayLike]
    ) -> Flow[tuple[dict[str, NDArray[Any]], ModelVersion]]:
        types = wire.messages()
        request = self._request(types["PredictRequest"], signature, choice)
        for name, value in inputs.items():
            wire.fill_tensor(request.inputs[name], value)
        response, metadata = yield from self._send(wire.PREDICT, request, types["PredictResponse"])
        model = ModelVersion(self.model, response.model_spec.version.value, metadata.get(_FINGERPRINT_HEADER) or None)
        return {name: wire.read_tensor(tensor) for name, tensor in response.outputs.items()}, model

    def _choice(self) -> ModelChoice:
        return ModelChoice(self.version if self._pinned is None else self._pinned, self.label)

    def _request(self, kind: Callable[[], Any], signature: str, choice: ModelChoice) -> Any:
        request = kind()
        request.model_spec.name = self.model
        if signature:
            request.model_spec.signature_name = signature
        if choice.version is not None:
            request.model_spec.version.value = choice.version
        elif choice.label is not None:
            request.model_spec.version_label = choice.label
        return request


class ModelChoice(NamedTuple):
    """The version that a request asks for; the latest if both are `None`.

    Args:
        version: number, or `None`.
        label: name that the server's configuration gives to a version, or `None`.
    """

    version: int | None
    label: str | None


def _until(end: float, flow: Flow[_Result]) -> Flow[_Result]:
    """Run a flow whose calls may not last beyond a time."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Call):
                left = max(end - time.monotonic(), _POLL_S)
                step = step._replace(timeout=left if step.timeout is None else min(step.timeout, left))
            try:
                answer = yield step
            except ServingError as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value


def _padded(name: str) -> Callable[[list[NDArray[Any]]], dict[str, NDArray[Any]]]:
    """Return a function from arrays of different lengths to the inputs `name`, padded with zeros, and `lengths`."""

    def inputs(group: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        lengths = np.array([len(array) for array in group], np.int32)
        batch = np.zeros((len(group), lengths.max(), *group[0].shape[1:]), group[0].dtype)
        for row, array in enumerate(group):
            batch[row, : len(array)] = array
        return {name: batch, "lengths": lengths}

    return inputs


def _padded_bytes(group: list[NDArray[Any]]) -> int:
    return len(group) * max(map(len, group)) * group[0][0].nbytes


def _joined(outputs: Sequence[Mapping[str, NDArray[Any]]], name: str, known: _Known) -> NDArray[np.float32]:
    none = np.zeros((0, known.card["embedding_dim"]), np.float32)
    return np.concatenate([none, *(output[name] for output in outputs)])


def _check_offered(known: _Known, signature: str) -> None:
    if signature not in known.card.get("signatures", ()):
        reason = known.card.get("lacks", {}).get(signature, "Export it again with this version of kreid.")
        raise ValueError(f"This model has no signature {signature}. {reason} Received: model {known.model}")


def _check_maker(name: str, value: object, model: ModelVersion) -> None:
    if isinstance(value, Embeddings) and value.fingerprint != model.fingerprint:
        raise ValueError(
            f"{name} was made by another model than the one that answers, {model}: make it again, or pin its model "
            f"(fingerprint). Received: {name} of {value.model}"
        )


def _check_frames(arrays: Sequence[NDArray[Any]], size: tuple[int, ...]) -> None:
    for row, frames in enumerate(arrays):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (*size, 3) or not len(frames):
            raise ValueError(
                f"Tracklet {row} must be uint8 (frames, {size[0]}, {size[1]}, 3) with at least one frame; resize "
                f"it, or send JPEGs of any size with embed_images. Received: {frames.dtype} {frames.shape}"
            )


def _check_arguments(
    model: str, version: int | None, frames_at_once: int, label: str | None, fingerprint: str | None
) -> None:
    if not model:
        refuse("`model` must be the model's name on the server", model=model)
    if version is not None and not (
        isinstance(version, int | np.integer) and type(version) is not bool and version >= 0
    ):
        refuse("`version` must be the number of a version, or None for the latest", version=version)
    if version is not None and label is not None:
        refuse("Give `version` or `label`, not both", version=version, label=label)
    if label is not None and not label:
        refuse("`label` must not be empty; leave it out for the latest version", label=label)
    if fingerprint is not None and (
        len(fingerprint) < _SHORTEST_FINGERPRINT or set(fingerprint.lower()) - set("0123456789abcdef")
    ):
        refuse(
            f"`fingerprint` must be that of the card, or its first {_SHORTEST_FINGERPRINT} or more hexadecimal digits",
            fingerprint=fingerprint,
        )
    if frames_at_once < 1:
        refuse("`frames_at_once` must be at least 1", frames_at_once=frames_at_once)
