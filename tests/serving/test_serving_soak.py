"""Load and fuzz tests of the embedded server: invalid and valid requests at once, for a minute."""

import concurrent.futures
import time

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import encode, random_tracklet  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from kreid.serving import EmbeddingClient, EmbeddingServer  # noqa: E402

pytestmark = pytest.mark.soak
SECONDS = 60
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def valid_request():
    import tensorflow as tf

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kreid"
    request.model_spec.signature_name = "embed_jpeg"
    images = np.array([[encode(frame) for frame in random_tracklet(1, 2)]], object)
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    request.inputs["lengths"].CopyFrom(tf.make_tensor_proto(np.array([2], np.int32)))
    return request.SerializeToString()


def fuzz(target, seed, until):
    """Send damaged requests; count the status codes."""
    rng = np.random.default_rng(seed)
    whole = valid_request()
    codes = {}
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(PREDICT)
        while time.monotonic() < until:
            damaged = bytearray(whole)
            for place in rng.integers(0, len(damaged), rng.integers(1, 20)):
                damaged[place] = rng.integers(0, 256)
            damaged = bytes(damaged[: rng.integers(1, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
            try:
                call(damaged)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            codes[code] = codes.get(code, 0) + 1
    return codes


def load(target, seed, until, expected):
    """Send valid requests; count the answers and compare each with the answer without load."""
    tracklet = random_tracklet(seed, 3)
    answers = 0
    with EmbeddingClient(target) as client:
        while time.monotonic() < until:
            embeddings = client.embed_frames([tracklet])
            np.testing.assert_allclose(embeddings[0], expected, rtol=1e-4, atol=1e-5)
            answers += 1
    return answers


def test_wrong_requests_do_not_disturb_right_ones(base_path, model):
    with EmbeddingServer(base_path, port=0) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        expected = [model.embed(random_tracklet(seed, 3)[None])[0] for seed in range(4)]
        before = resident_mib()
        until = time.monotonic() + SECONDS
        fuzzing = [pool.submit(fuzz, server.target, seed, until) for seed in range(4)]
        loading = [pool.submit(load, server.target, seed, until, expected[seed]) for seed in range(4)]
        codes = [future.result() for future in fuzzing]
        assert all(future.result() > 20 for future in loading)
        refused = {code for counts in codes for code in counts} - {"OK"}
        assert refused, "some damage was refused"
        assert refused <= {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL", "RESOURCE_EXHAUSTED"}
        assert resident_mib() - before < 500, "memory does not grow with the requests"
        with EmbeddingClient(server.target) as client:
            np.testing.assert_allclose(
                client.embed_frames([random_tracklet(0, 3)])[0], expected[0], rtol=1e-4, atol=1e-5
            )
            with pytest.raises(ValueError, match="resize it"):
                client.embed_frames([np.zeros((2, 5, 5, 3), np.uint8)])
