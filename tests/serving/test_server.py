"""The embedded server: what is its own. Requests and answers are in test_conformance.py."""

import shutil
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import encode, random_tracklet  # noqa: E402
from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: E402
from wire_requests import make_request  # noqa: E402

from kreid.serving import EmbeddingServer  # noqa: E402
from kreid.serving.refusal import RequestRefused  # noqa: E402
from kreid.serving.replies import Replies  # noqa: E402
from kreid.serving.telemetry import Call  # noqa: E402
from kreid.serving.versions import ServedVersions, VersionPolicy  # noqa: E402

FRAMES = random_tracklet(0, 2)[None]
LENGTHS = np.array([2], np.int32)
IMAGES = np.array([[encode(frame) for frame in random_tracklet(0, 2)]], object)
SPEC = {"name": "kreid"}


def test_the_server_stops_a_run_at_its_deadline(small_path):
    served = ServedVersions(small_path, "kreid", VersionPolicy(latest=1), {})
    served.load()
    request = make_request({"name": "kreid", "signature_name": "work"}, {"rounds": np.array([2**31 - 1], np.int32)})
    for seconds in (0.0, 0.001):
        with pytest.raises(RequestRefused) as caught:
            Replies(served).predict(request.SerializeToString(), Call("Predict"), time.monotonic() + seconds)
        assert caught.value.code == "DEADLINE_EXCEEDED"
    served.close()


def test_a_message_above_the_limit_is_refused(small_path):
    with (
        EmbeddingServer(small_path, port=0, max_message_bytes=20_000) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(make_request(SPEC, {"frames": random_tracklet(0, 9)[None]}))
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        stub.Predict(make_request(SPEC, {"frames": FRAMES}))


def test_the_highest_version_is_served(base_path, tmp_path):
    for version in (2, 10):
        (tmp_path / str(version)).symlink_to(base_path / "3")
    assert EmbeddingServer(tmp_path).version == 10


def test_a_server_starts_once(server, small_path):
    with pytest.raises(RuntimeError, match="A server starts once; make another"):
        server.start()
    stopped = EmbeddingServer(small_path, port=0).start()
    stopped.stop()
    stopped.stop()
    with pytest.raises(RuntimeError, match="A server starts once; make another"):
        stopped.start()


def test_a_taken_port_is_an_error(server, base_path):
    with pytest.raises(OSError, match="Cannot listen on this address"):
        EmbeddingServer(base_path, port=server.port).start()


def test_listening_beyond_loopback_warns(small_path):
    with pytest.warns(UserWarning, match="without authentication"), EmbeddingServer(small_path, host="0.0.0.0", port=0):
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
        ({"batch": 0}, "`batch` must be from 1 to 256. Received: batch=0"),
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


def test_unreadable_images_are_counted_and_logged(server, caplog):
    request = make_request(
        {"name": "kreid", "signature_name": "embed_jpeg"},
        {
            "images": np.array([[IMAGES[0, 0], b"damaged"], [IMAGES[0, 1], b"beyond the length"]], object),
            "lengths": np.array([2, 1], np.int32),
        },
    )
    before = server.unreadable_images
    with grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for total in (1, 2):
            stub.Predict(request)
            assert server.unreadable_images == before + total
            assert caplog.messages[-1] == "Predict embed_jpeg ended with OK; 1 of its 3 images could not be read"
