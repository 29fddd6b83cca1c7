"""Requests and answers over the wire.

`CASES` is data: with KREID_SERVING_TARGET=host:port the same rows run against TensorFlow Serving, started on an export
of `resnet_tiny` under the model name `kreid`, version 3.
"""

import os
import shutil
import sys
import time

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
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kreid.serving import EmbeddingServer  # noqa: E402
from kreid.serving.refusal import RequestRefused  # noqa: E402
from kreid.serving.replies import Replies  # noqa: E402
from kreid.serving.telemetry import Call  # noqa: E402
from kreid.serving.versions import ServedVersions, VersionPolicy  # noqa: E402

FRAMES = random_tracklet(0, 2)[None]
LENGTHS = np.array([2], np.int32)
IMAGES = np.array([[encode(frame) for frame in random_tracklet(0, 2)]], object)

SIZE_MESSAGE = (
    "input size does not match signature: 1!=2 len({lengths}) != len({frames,lengths}). Sent extra: {}. "
    "Missing but required: {frames}."
)

# name, model_spec fields, inputs, output_filter, code, part of the message. An input may be a ready TensorProto.
SPEC = {"name": "kreid"}
CASES = [
    ("no model_spec", None, {"frames": FRAMES}, [], "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("empty name", {"signature_name": "x"}, {}, [], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("unknown model", {"name": "m"}, {}, [], "NOT_FOUND", "Servable not found for request: Latest(m)"),
    (
        "unknown version",
        {"name": "kreid", "version": 7},
        {},
        [],
        "NOT_FOUND",
        "Servable not found for request: Specific(kreid, 7)",
    ),
    (
        "unknown label",
        {"name": "kreid", "version_label": "stable"},
        {},
        [],
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    (
        "unknown signature",
        {"name": "kreid", "signature_name": "s"},
        {"frames": FRAMES},
        [],
        "FAILED_PRECONDITION",
        'Serving signature key "s" not found.',
    ),
    (
        "too few inputs",
        {"name": "kreid", "signature_name": "embed_padded"},
        {"lengths": LENGTHS},
        [],
        "INVALID_ARGUMENT",
        SIZE_MESSAGE,
    ),
    (
        "too many inputs",
        SPEC,
        {"frames": FRAMES, "lengths": LENGTHS},
        [],
        "INVALID_ARGUMENT",
        "Sent extra: {lengths}. Missing but required: {}.",
    ),
    (
        "wrong alias",
        SPEC,
        {"clips": FRAMES},
        [],
        "INVALID_ARGUMENT",
        "Signature input alias: frames(feed name: serving_default_frames:0) not found in request and no default",
    ),
    (
        "tensor content too short",
        SPEC,
        {"frames": {"dtype": 4, "shape": [1, 2, 64, 32, 3], "content": b"abc"}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    (
        "tensor without a dtype",
        SPEC,
        {"frames": {"dtype": 0, "shape": [1], "content": b"a"}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    (
        "tensor that unfolds to terabytes",
        SPEC,
        {"frames": {"dtype": 4, "shape": [1 << 40, 1 << 40], "content": b""}},
        [],
        "INVALID_ARGUMENT",
        "tensor parsing error: frames",
    ),
    (
        "unknown output",
        SPEC,
        {"frames": FRAMES},
        ["x"],
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: x Outputs expected to be in the set {embedding,valid_frames}.",
    ),
    (
        "repeated output",
        SPEC,
        {"frames": FRAMES},
        ["embedding", "embedding"],
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: embedding",
    ),
    (
        "wrong dtype",
        SPEC,
        {"frames": FRAMES.astype(np.float32)},
        [],
        "INVALID_ARGUMENT",
        "Expects arg[0] to be uint8 but float is provided",
    ),
    (
        "wrong size of image",
        SPEC,
        {"frames": np.zeros((1, 2, 65, 32, 3), np.uint8)},
        [],
        "INVALID_ARGUMENT",
        "is not compatible with expected shape",
    ),
    ("no frame", SPEC, {"frames": FRAMES[:, :0]}, [], "INVALID_ARGUMENT", "at least one frame per tracklet"),
    ("no tracklet", SPEC, {"frames": FRAMES[:0]}, [], "INVALID_ARGUMENT", "at least one tracklet"),
    (
        "lengths of another batch",
        {"name": "kreid", "signature_name": "embed_padded"},
        {"frames": FRAMES, "lengths": np.array([1, 2], np.int32)},
        [],
        "INVALID_ARGUMENT",
        "lengths needs one entry per tracklet",
    ),
    (
        "more frames than the limit",
        {"name": "kreid", "signature_name": "embed_jpeg"},
        {"images": np.full((1, 1025), b"", object), "lengths": np.full(1, 1025, np.int32)},
        [],
        "INVALID_ARGUMENT",
        "each tracklet must have 0 to T frames and at most 1024 frames",
    ),
    (
        "a long message is cut",
        {"name": "kreid", "signature_name": "s" * 3000},
        {"frames": FRAMES},
        [],
        "FAILED_PRECONDITION",
        "s...TRUNCATED",
    ),
]


def make_spec(request, spec):
    if spec is not None:
        request.model_spec.SetInParent()
        for field, value in spec.items():
            if field == "version":
                request.model_spec.version.value = value
            else:
                setattr(request.model_spec, field, value)
    return request


def make_request(spec, inputs, output_filter=()):
    request = make_spec(predict_pb2.PredictRequest(output_filter=output_filter), spec)
    for alias, value in inputs.items():
        tensor = request.inputs[alias]
        if isinstance(value, dict):
            tensor.dtype, tensor.tensor_content = value["dtype"], value["content"]
            for size in value["shape"]:
                tensor.tensor_shape.dim.add(size=size)
        else:
            tensor.CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(scope="module")
def stubs(target):
    size = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    with grpc.insecure_channel(target, options=size) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def check_still_answers(stubs):
    response = stubs[0].Predict(make_request(SPEC, {"frames": FRAMES}))
    assert np.isfinite(tf.make_ndarray(response.outputs["embedding"])).all()


@pytest.mark.parametrize(
    ("name", "spec", "inputs", "output_filter", "code", "message"), CASES, ids=[c[0] for c in CASES]
)
def test_refused(stubs, name, spec, inputs, output_filter, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(make_request(spec, inputs, output_filter))
    assert caught.value.code().name == code
    assert message in caught.value.details()
    assert len(caught.value.details()) <= 1024 + len("...TRUNCATED")
    check_still_answers(stubs)


@pytest.mark.parametrize(
    ("image", "readable"),
    [(b"these bytes are no JPEG", 0), (b"", 0), (IMAGES[0, 0][:-400], 0), (IMAGES[0, 0][:100], 0), (IMAGES[0, 0], 1)],
    ids=["no JPEG", "empty", "cut in the picture", "cut in the header", "whole"],
)
def test_a_damaged_image_is_an_answer_not_an_error(stubs, image, readable):
    images = np.array([[image, IMAGES[0, 1]], [image, image]], object)
    request = make_request({"name": "kreid", "signature_name": "embed_jpeg"}, {"images": images, "lengths": [2, 2]})
    response = stubs[0].Predict(request)
    assert tf.make_ndarray(response.outputs["valid_frames"]).tolist() == [1 + readable, 2 * readable]
    assert np.isfinite(tf.make_ndarray(response.outputs["embedding"])).all(axis=1).tolist() == [True, bool(readable)]
    check_still_answers(stubs)


def test_answer_names_model_version_and_signature(stubs):
    response = stubs[0].Predict(make_request(SPEC, {"frames": FRAMES}))
    assert (response.model_spec.name, response.model_spec.version.value) == ("kreid", 3)
    assert response.model_spec.signature_name == "serving_default"
    assert set(response.outputs) == {"embedding", "valid_frames"}


def test_output_filter_is_honoured(stubs):
    spec = {"name": "kreid", "signature_name": "embed_jpeg", "version": 3}
    inputs = {"images": IMAGES, "lengths": LENGTHS}
    assert set(stubs[0].Predict(make_request(spec, inputs)).outputs) == {"embedding", "valid_frames"}
    filtered = stubs[0].Predict(make_request(spec, inputs, ["valid_frames"]))
    assert list(filtered.outputs) == ["valid_frames"]


def test_metadata_lists_every_signature(stubs):
    request = make_spec(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]), SPEC)
    response = stubs[0].GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "embed_padded", "embed_jpeg", "describe"} <= set(signatures.signature_def)
    assert set(signatures.signature_def["embed_jpeg"].outputs) == {"embedding", "valid_frames"}
    assert response.model_spec.version.value == 3


@pytest.mark.parametrize(
    ("spec", "fields", "code", "message"),
    [
        (None, ["signature_def"], "INVALID_ARGUMENT", "Missing ModelSpec"),
        (SPEC, [], "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (SPEC, ["graph"], "INVALID_ARGUMENT", "Metadata field graph is not supported"),
        ({"name": "m"}, ["signature_def"], "NOT_FOUND", "Servable not found for request: Latest(m)"),
    ],
)
def test_metadata_refused(stubs, spec, fields, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].GetModelMetadata(
            make_spec(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields), spec)
        )
    assert (caught.value.code().name, message in caught.value.details()) == (code, True)


def test_status(stubs):
    response = stubs[1].GetModelStatus(make_spec(get_model_status_pb2.GetModelStatusRequest(), SPEC))
    assert [(item.version, item.state) for item in response.model_version_status] == [(3, 30)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "kreid", "version": 7}, "Could not find version 7 of model kreid"),
        ({"name": "m"}, "Could not find any versions of model m"),
    ],
)
def test_status_of_unknown_models_and_versions(stubs, spec, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].GetModelStatus(make_spec(get_model_status_pb2.GetModelStatusRequest(), spec))
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", message)


def test_the_deadline_bounds_the_run(stubs):
    frames = np.zeros((1, 1000, 64, 32, 3), np.uint8)
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(make_request(SPEC, {"frames": frames}), timeout=0.01)
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
    check_still_answers(stubs)


def test_the_server_stops_a_run_at_its_deadline(base_path):
    served = ServedVersions(base_path, "kreid", VersionPolicy(latest=1), {})
    served.load()
    body = make_request(SPEC, {"frames": np.zeros((1, 1000, 64, 32, 3), np.uint8)}).SerializeToString()
    for seconds in (0.0, 0.001):
        with pytest.raises(RequestRefused) as caught:
            Replies(served).predict(body, Call("Predict"), time.monotonic() + seconds)
        assert caught.value.code == "DEADLINE_EXCEEDED"
    served.close()


def test_a_message_above_the_limit_is_refused(base_path):
    with (
        EmbeddingServer(base_path, port=0, max_message_bytes=20_000) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(make_request(SPEC, {"frames": random_tracklet(0, 9)[None]}))
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        stub.Predict(make_request(SPEC, {"frames": FRAMES}))


def test_many_clients_at_once_get_their_own_answers(stubs, model):
    tracklets = [random_tracklet(seed, 1 + seed % 3)[None] for seed in range(24)]
    calls = [stubs[0].Predict.future(make_request(SPEC, {"frames": frames})) for frames in tracklets]
    for frames, call in zip(tracklets, calls, strict=True):
        answer = tf.make_ndarray(call.result().outputs["embedding"])
        assert answer.shape == (1, model.embedding_dim)
        assert np.isfinite(answer).all()
        # Another server's export has other weights.
        if "KREID_SERVING_TARGET" not in os.environ:
            np.testing.assert_allclose(answer, model.embed(frames), rtol=1e-4, atol=1e-5)


def test_the_highest_version_is_served(base_path, tmp_path):
    for version in (2, 10):
        (tmp_path / str(version)).symlink_to(base_path / "3")
    assert EmbeddingServer(tmp_path).version == 10


def test_a_taken_port_is_an_error(server, base_path):
    with pytest.raises(OSError, match="Cannot listen on this address"):
        EmbeddingServer(base_path, port=server.port).start()


def test_listening_beyond_loopback_warns(base_path):
    with pytest.warns(UserWarning, match="without authentication"), EmbeddingServer(base_path, host="0.0.0.0", port=0):
        pass


def test_a_broken_version_says_so(base_path, tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(ValueError, match="cannot be loaded"):
        EmbeddingServer(tmp_path, port=0).start()


def test_a_damaged_warmup_record_says_so(base_path, tmp_path):
    shutil.copytree(base_path / "3", tmp_path / "1")
    with tf.io.TFRecordWriter(str(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(b"no such message")
    with pytest.raises(ValueError, match=r"cannot be loaded \(Warm-up record 1 cannot be read; export"):
        EmbeddingServer(tmp_path, port=0).start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"port": -1}, r"from 0 .* to 65535\. Received: port=-1"),
        ({"port": 65536}, "Received: port=65536"),
        ({"workers": 0}, "`workers` must be from 1 to 1024. Received: workers=0"),
        ({"max_message_bytes": 0}, "Received: max_message_bytes=0"),
        ({"max_message_bytes": 2**31}, "2047 MiB.* Received: max_message_bytes=2147483648"),
        ({"name": ""}, "`name` must not be empty"),
    ],
)
def test_arguments_out_of_range_are_refused(base_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingServer(base_path, **arguments)


def test_without_grpcio_the_pip_command_is_named(base_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)  # importing it now fails
    with pytest.raises(ImportError, match=r'pip install "kreid\[serving\]"'):
        EmbeddingServer(base_path, port=0).start()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "Read less bytes than requested"),
        (lambda content: content[:5000] + bytes([content[5000] ^ 255]) + content[5001:], "Checksum does not match"),
    ],
    ids=["cut", "changed"],
)
def test_damaged_weights_say_why(base_path, tmp_path, damage, reason):
    shutil.copytree(base_path / "3", tmp_path / "1")
    weights = tmp_path / "1" / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(damage(weights.read_bytes()))
    file = "variables/variables.data-00000-of-00001"
    with pytest.raises(ValueError, match=rf"cannot be loaded \(damaged weights, {file}: .*{reason}.*\); copy its"):
        EmbeddingServer(tmp_path, port=0).start()


def test_unreadable_images_are_counted_and_logged(base_path, caplog):
    request = make_request(
        {"name": "kreid", "signature_name": "embed_jpeg"},
        {
            "images": np.array([[IMAGES[0, 0], b"damaged"], [IMAGES[0, 1], b"beyond the length"]], object),
            "lengths": np.array([2, 1], np.int32),
        },
    )
    with EmbeddingServer(base_path, port=0) as server, grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for total in (1, 2):
            stub.Predict(request)
            assert server.unreadable_images == total
            assert caplog.messages[-1] == "Predict embed_jpeg ended with OK; 1 of its 3 images could not be read"
