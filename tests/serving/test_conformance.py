"""What a server of kreid's exports answers, whichever it is.

    pytest tests/serving -m conformance --address HOST:PORT
        [--model NAME] [--label LABEL] [--tls-ca FILE] [--token-file FILE]

asks a server at an address, with any export and any versions, as it is. Without --address it is the embedded server.
Codes and messages are TensorFlow Serving's.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import encode, random_tracklet  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from wire_requests import make_request, make_spec  # noqa: E402

from kreid.serving import EmbeddingClient, Tls  # noqa: E402

pytestmark = pytest.mark.conformance

AVAILABLE = 30
MESSAGE_BYTES = 64 << 20


class Served(NamedTuple):
    """A server under test, and what its model's card says."""

    prediction: Any
    status: Any
    channel: Any
    metadata: tuple[tuple[str, str], ...]
    model: str
    label: str | None
    version: int
    card: dict[str, Any]

    @property
    def spec(self):
        return {"name": self.model}

    @property
    def size(self):
        return tuple(self.card["image_size"])

    def signature(self, name):
        return {"name": self.model, "signature_name": name}

    def frames(self, *lengths, seed=0):
        """Tracklets of these lengths, padded with zeros."""
        batch = np.zeros((len(lengths), max(lengths), *self.size, 3), np.uint8)
        for row, length in enumerate(lengths):
            batch[row, :length] = random_tracklet(seed + row, length, self.size)
        return batch

    def images(self, frames):
        """PNG files, which decode to the same frames."""
        return np.array([[encode(frame, "PNG") for frame in tracklet] for tracklet in frames], object)

    def respond(self, spec, inputs, output_filter=(), **call):
        return self.prediction.Predict(make_request(spec, inputs, output_filter), metadata=self.metadata, **call)

    def ask(self, spec, inputs, output_filter=()):
        outputs = self.respond(spec, inputs, output_filter).outputs
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}

    def refuse(self, spec, inputs, output_filter=(), **call):
        with pytest.raises(grpc.RpcError) as caught:
            self.respond(spec, inputs, output_filter, **call)
        return caught.value.code().name, caught.value.details()

    def check_still_answers(self):
        assert np.isfinite(self.ask(self.spec, {"frames": self.frames(2)})["embedding"]).all()


@pytest.fixture(scope="module")
def served(request):
    address, label = request.config.getoption("--address"), request.config.getoption("--label")
    if address is None:
        address, label = request.getfixturevalue("server").target, "stable"
    ca, token_file = request.config.getoption("--tls-ca"), request.config.getoption("--token-file")
    model = request.config.getoption("--model")
    tls = None if ca is None else Tls(ca=ca)
    with EmbeddingClient(address, model, timeout=60, tls=tls, token_file=token_file) as client:
        version, card = client.model_version().version, client.card()
        metadata = client._core.token.metadata()
    sizes = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    credentials = None if tls is None else grpc.ssl_channel_credentials(*tls.contents())
    connect = grpc.insecure_channel if tls is None else grpc.secure_channel
    with connect(address, *([] if tls is None else [credentials]), options=sizes) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        status = model_service_pb2_grpc.ModelServiceStub(channel)
        yield Served(prediction, status, channel, metadata, model, label, version, card)


# Name, and a function from the server to model_spec, inputs, output_filter, code and a part of the message.
CASES = {
    "no model_spec": lambda s: (None, {"frames": s.frames(2)}, [], "INVALID_ARGUMENT", "Missing ModelSpec"),
    "empty name": lambda s: ({"signature_name": "x"}, {}, [], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": lambda s: (
        {"name": "no-such-model"},
        {},
        [],
        "NOT_FOUND",
        "Servable not found for request: Latest(no-such-model)",
    ),
    "unknown version": lambda s: (
        {"name": s.model, "version": s.version + 1000},
        {},
        [],
        "NOT_FOUND",
        f"Servable not found for request: Specific({s.model}, {s.version + 1000})",
    ),
    "unknown label": lambda s: (
        {"name": s.model, "version_label": "no-such-label"},
        {},
        [],
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: no-such-label",
    ),
    "unknown signature": lambda s: (
        s.signature("s"),
        {"frames": s.frames(2)},
        [],
        "FAILED_PRECONDITION",
        'Serving signature key "s" not found.',
    ),
    "too few inputs": lambda s: (
        s.signature("embed_padded"),
        {"lengths": np.array([2], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2 len({lengths}) != len({frames,lengths}). Sent extra: {}. "
        "Missing but required: {frames}.",
    ),
    "too many inputs": lambda s: (
        s.spec,
        {"frames": s.frames(2), "lengths": np.array([2], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "Sent extra: {lengths}. Missing but required: {}.",
    ),
    "wrong alias": lambda s: (
        s.spec,
        {"clips": s.frames(2)},
        [],
        "INVALID_ARGUMENT",
        "Signature input alias: frames(feed name: serving_default_frames:0) not found in request and no default",
    ),
    "tensor content too short": lambda s: (
        s.spec,
        {"frames": {"dtype": 4, "shape": [1, 2, *s.size, 3], "content": b"abc"}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    "tensor without a dtype": lambda s: (
        s.spec,
        {"frames": {"dtype": 0, "shape": [1], "content": b"a"}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    "tensor that unfolds to terabytes": lambda s: (
        s.spec,
        {"frames": {"dtype": 4, "shape": [1 << 40, 1 << 40], "content": b""}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    "few bytes that unfold to many rows": lambda s: (
        s.signature("describe"),
        {"rows": {"dtype": 3, "shape": [400_000], "content": b""}},
        [],
        "INVALID_ARGUMENT",
        "",
    ),
    "unknown output": lambda s: (
        s.spec,
        {"frames": s.frames(2)},
        ["x"],
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: x Outputs expected to be in the set {embedding,valid_frames}.",
    ),
    "repeated output": lambda s: (
        s.spec,
        {"frames": s.frames(2)},
        ["embedding", "embedding"],
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: embedding",
    ),
    "wrong dtype": lambda s: (
        s.spec,
        {"frames": s.frames(2).astype(np.float32)},
        [],
        "INVALID_ARGUMENT",
        "Expects arg[0] to be uint8 but float is provided",
    ),
    "wrong size of image": lambda s: (
        s.spec,
        {"frames": np.zeros((1, 2, s.size[0] + 1, s.size[1], 3), np.uint8)},
        [],
        "INVALID_ARGUMENT",
        "is not compatible with expected shape",
    ),
    "no frame": lambda s: (
        s.spec,
        {"frames": s.frames(1)[:, :0]},
        [],
        "INVALID_ARGUMENT",
        "at least one frame per tracklet",
    ),
    "no tracklet": lambda s: (s.spec, {"frames": s.frames(1)[:0]}, [], "INVALID_ARGUMENT", "at least one tracklet"),
    "lengths of another batch": lambda s: (
        s.signature("embed_padded"),
        {"frames": s.frames(2), "lengths": np.array([1, 2], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "lengths needs one entry per tracklet",
    ),
    "a length beyond the frames": lambda s: (
        s.signature("embed_padded"),
        {"frames": s.frames(2), "lengths": np.array([3], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "each tracklet must have 0 to T frames",
    ),
    "a negative length": lambda s: (
        s.signature("embed_padded"),
        {"frames": s.frames(2), "lengths": np.array([-1], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "each tracklet must have 0 to T frames",
    ),
    "more frames than the limit": lambda s: (
        s.signature("embed_jpeg"),
        {
            "images": np.full((1, s.card["frame_limit"] + 1), b"", object),
            "lengths": np.full(1, s.card["frame_limit"] + 1, np.int32),
        },
        [],
        "INVALID_ARGUMENT",
        f"at most {s.card['frame_limit']} frames",
    ),
    "more tracklets than the limit": lambda s: (
        s.signature("describe"),
        {"rows": np.zeros(s.card["limits"]["rows"] + 1, np.int32)},
        [],
        "INVALID_ARGUMENT",
        f"at most {s.card['limits']['rows']} tracklets",
    ),
    "a long message is cut": lambda s: (
        s.signature("s" * 3000),
        {"frames": s.frames(2)},
        [],
        "FAILED_PRECONDITION",
        "s...TRUNCATED",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_refused(served, case):
    spec, inputs, output_filter, code, message = case(served)
    received, details = served.refuse(spec, inputs, output_filter)
    assert received == code
    assert message in details
    assert len(details) <= 1024 + len("...TRUNCATED")
    served.check_still_answers()


def test_an_answer_names_model_version_and_signature(served):
    response = served.respond(served.spec, {"frames": served.frames(2)})
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (served.model, served.version, "serving_default")
    assert set(response.outputs) == {"embedding", "valid_frames"}
    embedding = tf.make_ndarray(response.outputs["embedding"])
    assert (embedding.shape, embedding.dtype) == ((1, served.card["embedding_dim"]), np.float32)
    assert np.isfinite(embedding).all()


def test_versions_and_labels(served):
    inputs = {"frames": served.frames(2)}
    expected = served.ask(served.spec, inputs)["embedding"]
    specs = [{"name": served.model, "version": served.version}]
    if served.label is not None:
        specs.append({"name": served.model, "version_label": served.label})
    for spec in specs:
        response = served.respond(spec, inputs)
        if "version" in spec or response.model_spec.version.value == served.version:
            np.testing.assert_array_equal(tf.make_ndarray(response.outputs["embedding"]), expected)


def test_an_output_filter_is_honoured(served):
    frames = served.frames(2)
    inputs = {"images": served.images(frames), "lengths": np.array([2], np.int32)}
    spec = {**served.signature("embed_jpeg"), "version": served.version}
    assert set(served.ask(spec, inputs)) == {"embedding", "valid_frames"}
    assert set(served.ask(spec, inputs, ["valid_frames"])) == {"valid_frames"}


def test_the_signatures_agree(served):
    """Frames, padded frames and files of the same tracklets have the same embeddings."""
    lengths = np.array([3, 1, 2], np.int32)
    frames = served.frames(*lengths)
    alone = [
        served.ask(served.spec, {"frames": tracklet[None, :length]})["embedding"][0]
        for tracklet, length in zip(frames, lengths, strict=True)
    ]
    padded = served.ask(served.signature("embed_padded"), {"frames": frames, "lengths": lengths})
    files = served.ask(served.signature("embed_jpeg"), {"images": served.images(frames), "lengths": lengths})
    for answer in (padded, files):
        assert answer["valid_frames"].tolist() == lengths.tolist()
        np.testing.assert_allclose(answer["embedding"], alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(alone[0], alone[1], rtol=1e-3)


def test_padding_of_any_content_changes_nothing(served):
    """Servers that merge requests repeat a tensor's first value; others leave what was in their memory."""
    lengths = np.array([2, 4], np.int32)
    frames = served.frames(*lengths)
    expected = served.ask(served.signature("embed_padded"), {"frames": frames, "lengths": lengths})["embedding"]
    noise, repeated = frames.copy(), frames.copy()
    noise[0, 2:] = random_tracklet(99, 2, served.size)
    repeated[0, 2:] = repeated[0, 0, 0, 0, 0]
    for padded in (noise, repeated):
        answer = served.ask(served.signature("embed_padded"), {"frames": padded, "lengths": lengths})
        np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-4, atol=1e-5)
    # Without lengths, frames at the end whose values are all equal count as padding.
    answer = served.ask(served.spec, {"frames": repeated})
    assert answer["valid_frames"].tolist() == lengths.tolist()
    np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-4, atol=1e-5)


WHOLE = encode(random_tracklet(0, 1)[0])


@pytest.mark.parametrize(
    ("image", "readable"),
    [(b"these bytes are no JPEG", 0), (b"", 0), (WHOLE[:-400], 0), (WHOLE[:100], 0), (WHOLE, 1)],
    ids=["no JPEG", "empty", "cut in the picture", "cut in the header", "whole"],
)
def test_a_damaged_image_is_an_answer_not_an_error(served, image, readable):
    good = encode(random_tracklet(1, 1)[0])
    images, lengths = np.array([[image, good], [image, image]], object), np.array([2, 2], np.int32)
    answer = served.ask(served.signature("embed_jpeg"), {"images": images, "lengths": lengths})
    assert answer["valid_frames"].tolist() == [1 + readable, 2 * readable]
    assert np.isfinite(answer["embedding"]).all(axis=1).tolist() == [True, bool(readable)]
    if not readable:
        alone = served.ask(served.signature("embed_jpeg"), {"images": [[good]], "lengths": np.ones(1, np.int32)})
        np.testing.assert_allclose(answer["embedding"][0], alone["embedding"][0], rtol=1e-4, atol=1e-5)
    served.check_still_answers()


def test_a_tracklet_above_the_limit_fails_no_neighbour(served):
    limit = served.card["frame_limit"]
    images = np.full((3, limit + 1), b"", object)
    images[:, 0] = encode(random_tracklet(1, 1)[0])
    lengths = np.array([1, limit + 1, 0], np.int32)
    answer = served.ask(served.signature("embed_jpeg"), {"images": images, "lengths": lengths})
    assert answer["valid_frames"].tolist() == [1, -1, 0]
    assert np.isnan(answer["embedding"]).all(axis=1).tolist() == [False, True, True]
    served.check_still_answers()


def test_vectors_of_frames_can_be_sent_instead(served):
    if "aggregate" in served.card["lacks"]:
        pytest.skip(served.card["lacks"]["aggregate"])
    lengths = np.array([5, 2], np.int32)
    inputs = {"frames": served.frames(*lengths), "lengths": lengths}
    encoded = served.ask(served.signature("encode_frames"), inputs)
    aggregated = served.ask(served.signature("aggregate"), encoded)
    assert aggregated["valid_vectors"].tolist() == encoded["lengths"].tolist()
    expected = served.ask(served.signature("embed_padded"), inputs)["embedding"]
    np.testing.assert_allclose(aggregated["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_pairs_are_decided_by_the_threshold(served):
    if "same_person" in served.card["lacks"]:
        pytest.skip(served.card["lacks"]["same_person"])
    frames = served.frames(2, 2)
    embedding = served.ask(served.spec, {"frames": frames})["embedding"]
    pairs = {"first": embedding, "second": np.stack([embedding[0], embedding[0]])}
    answer = served.ask(served.signature("same_person"), pairs)
    assert answer["distance"][0] == pytest.approx(0, abs=1e-3)
    assert answer["same_person"].tolist() == (answer["distance"] < served.card["verification"]["threshold"]).tolist()
    assert ((answer["probability"] >= 0) & (answer["probability"] <= 1)).all()
    assert (answer["distance"][0] < answer["distance"][1]) == (answer["probability"][0] > answer["probability"][1])


def test_a_gallery_in_the_export_says_who_or_nobody(served):
    if "search" not in served.card["signatures"]:
        pytest.skip("there is no gallery in this export")
    embedding = served.ask(served.spec, {"frames": served.frames(2, 2)})["embedding"]
    rows = np.concatenate([embedding, np.full_like(embedding[:1], np.nan)])
    answer = served.ask(served.signature("search"), {"embedding": rows})
    count, threshold = served.card["gallery"]["count"], served.card["gallery"]["threshold"]
    assert answer["person"].shape == answer["tracklet"].shape == answer["distance"].shape == (3, count)
    assert (np.diff(answer["distance"][:2]) >= 0).all()
    near = answer["distance"] < (np.inf if threshold is None else threshold)
    assert ((answer["person"] >= 0) == near).all()
    assert ((answer["tracklet"] != b"") == near).all()
    assert not near[2].any()
    if "probability" in served.card["signatures"]["search"]["outputs"]:
        calibration = served.card["verification"]["calibration"]
        odds = calibration["offset"] - calibration["scale"] * answer["distance"][:2]
        np.testing.assert_allclose(answer["probability"][:2], 1 / (1 + np.exp(-odds)), rtol=1e-4)
    alone = served.ask(served.signature("search"), {"embedding": rows[1:2]})
    assert alone["person"].tolist() == answer["person"][1:2].tolist()
    np.testing.assert_allclose(alone["distance"], answer["distance"][1:2], rtol=1e-5)
    code, _ = served.refuse(served.signature("search"), {"embedding": rows[:, :-1]})
    assert code == "INVALID_ARGUMENT"
    assert served.refuse(served.signature("search"), {"embedding": rows[:0]})[0] == "INVALID_ARGUMENT"
    served.check_still_answers()


def test_the_card_is_answered_once_per_row(served):
    cards = served.ask(served.signature("describe"), {"rows": np.zeros(3, np.int32)})["card"]
    assert cards.shape == (3,)
    assert len(set(cards)) == 1


def test_the_fingerprint_is_that_of_the_card(served):
    response, call = served.prediction.Predict.with_call(
        make_request(served.spec, {"frames": served.frames(1)}), metadata=served.metadata
    )
    sent = dict(call.trailing_metadata())
    if "kreid-fingerprint" not in sent:
        pytest.skip("this server names no fingerprint, so clients read it in the card")
    assert sent["kreid-fingerprint"] == served.card["fingerprint"]
    assert int(sent["kreid-version"]) == response.model_spec.version.value


def test_metadata_lists_every_signature(served):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    response = served.prediction.GetModelMetadata(make_spec(request, served.spec), metadata=served.metadata)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == served.version
    for name, described in served.card["signatures"].items():
        assert set(signatures.signature_def[name].inputs) == set(described["inputs"])
        assert set(signatures.signature_def[name].outputs) == set(described["outputs"])


@pytest.mark.parametrize(
    ("spec", "fields", "code", "message"),
    [
        (None, ["signature_def"], "INVALID_ARGUMENT", "Missing ModelSpec"),
        ({}, [], "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        ({}, ["graph"], "INVALID_ARGUMENT", "Metadata field graph is not supported"),
        ({"name": "no-such-model"}, ["signature_def"], "NOT_FOUND", "Servable not found for request: Latest("),
    ],
)
def test_metadata_refused(served, spec, fields, code, message):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    spec = spec if spec is None else {**served.spec, **spec}
    with pytest.raises(grpc.RpcError) as caught:
        served.prediction.GetModelMetadata(make_spec(request, spec), metadata=served.metadata)
    assert (caught.value.code().name, message in caught.value.details()) == (code, True)


def test_status_lists_the_versions(served):
    request = make_spec(get_model_status_pb2.GetModelStatusRequest(), served.spec)
    listed = served.status.GetModelStatus(request, metadata=served.metadata).model_version_status
    versions = [item.version for item in listed]
    assert versions == sorted(versions, reverse=True)
    assert [item.state for item in listed if item.version == served.version] == [AVAILABLE]
    spec = {"name": served.model, "version": served.version}
    request = make_spec(get_model_status_pb2.GetModelStatusRequest(), spec)
    (only,) = served.status.GetModelStatus(request, metadata=served.metadata).model_version_status
    assert (only.version, only.state) == (served.version, AVAILABLE)


@pytest.mark.parametrize("other", ["version", "model"])
def test_status_of_unknown_models_and_versions(served, other):
    number = served.version + 1000
    if other == "version":
        spec = {"name": served.model, "version": number}
        message = f"Could not find version {number} of model {served.model}"
    else:
        spec, message = {"name": "no-such-model"}, "Could not find any versions of model no-such-model"
    with pytest.raises(grpc.RpcError) as caught:
        request = make_spec(get_model_status_pb2.GetModelStatusRequest(), spec)
        served.status.GetModelStatus(request, metadata=served.metadata)
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", message)


def test_the_deadline_bounds_the_run(served):
    limit = served.card["frame_limit"]
    images = np.full((1, limit), WHOLE, object)
    inputs = {"images": images, "lengths": np.full(1, limit, np.int32)}
    code, _ = served.refuse(served.signature("embed_jpeg"), inputs, timeout=0.01)
    assert code == "DEADLINE_EXCEEDED"
    served.check_still_answers()


def test_many_clients_at_once_get_their_own_answers(served):
    tracklets = [served.frames(1 + seed % 3, seed=seed) for seed in range(24)]
    alone = [served.ask(served.spec, {"frames": frames})["embedding"] for frames in tracklets]
    calls = [
        served.prediction.Predict.future(make_request(served.spec, {"frames": frames}), metadata=served.metadata)
        for frames in tracklets
    ]
    for expected, call in zip(alone, calls, strict=True):
        answer = tf.make_ndarray(call.result().outputs["embedding"])
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_health_where_there_is_one(served):
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    from grpc_health.v1 import health_pb2_grpc

    try:
        answer = health_pb2_grpc.HealthStub(served.channel).Check(
            health_pb2.HealthCheckRequest(), metadata=served.metadata
        )
    except grpc.RpcError as error:
        assert error.code().name == "UNIMPLEMENTED"
        pytest.skip("this server has no health service")
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
