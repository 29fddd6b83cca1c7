"""Load, fuzz, hanging clients, signals and swaps on the embedded server, in processes of their own.

KREID_SOAK_SCALE, 1 by default, multiplies the numbers of requests, clients, signals and swaps.
"""

import collections
import concurrent.futures
import contextlib
import io
import json
import os
import shutil
import socket
import struct
import threading
import time

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from server_process import ServerProcess  # noqa: E402
from serving_samples import encode, random_tracklet  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402

pytestmark = pytest.mark.soak

SCALE = float(os.environ.get("KREID_SOAK_SCALE", "1"))
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def scaled(number):
    return max(1, round(SCALE * number))


def request(signature, **inputs):
    """Return a serialised PredictRequest; an input may be a ready TensorProto."""
    import tensorflow as tf

    message = predict_pb2.PredictRequest()
    message.model_spec.name = "kreid"
    message.model_spec.signature_name = signature
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    return message.SerializeToString()


def code_of(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


class Load:
    """Clients that send right requests until they are stopped, and compare each answer with the one before the load."""

    def __init__(self, target, clients=4, accepted=()):
        self._target = target
        self._accepted = accepted
        self._body = request("embed_padded", frames=random_tracklet(3, 3)[None], lengths=np.array([3], np.int32))
        with grpc.insecure_channel(target) as channel:
            self._expected = self._embedding(channel.unary_unary(PREDICT)(self._body))
        self.answered = 0
        self.codes = collections.Counter()
        self.versions = collections.Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._run) for _ in range(clients)]

    def _embedding(self, answer):
        import tensorflow as tf

        response = predict_pb2.PredictResponse.FromString(answer)
        return response.model_spec.version.value, tf.make_ndarray(response.outputs["embedding"])

    def _run(self):
        with grpc.insecure_channel(self._target) as channel:
            call = channel.unary_unary(PREDICT)
            while not self._stopping.is_set():
                try:
                    version, embedding = self._embedding(call(self._body))
                except grpc.RpcError as error:
                    with self._lock:
                        self.codes[error.code().name] += 1
                    assert error.code().name in self._accepted, error.details()
                    return
                np.testing.assert_allclose(embedding, self._expected[1], rtol=1e-4, atol=1e-5)
                with self._lock:
                    self.answered += 1
                    self.versions[version] += 1

    def wait_for(self, answers):
        """Wait until so many more answers have come, or a client has failed."""
        until = self.answered + answers
        while self.answered < until and not any(client.done() for client in self._clients):
            time.sleep(0.01)

    def stop(self):
        """Stop the clients; raise the error of a client that failed."""
        self._stopping.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()


def compressed(dtype, shape, **values):
    """A TensorProto with few values for many elements."""
    from tensorflow.core.framework import tensor_pb2

    tensor = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def with_size(jpeg, height, width):
    """Return a JPEG whose header gives another size."""
    place = next(jpeg.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in jpeg)
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def malformed(rng):
    """Return the name, the body and the accepted codes of one wrong or hostile request."""
    from PIL import Image

    image = encode(random_tracklet(int(rng.integers(9)), 1)[0])
    buffer = io.BytesIO()
    Image.fromarray(random_tracklet(0, 1)[0]).save(buffer, "JPEG", progressive=True)
    progressive = buffer.getvalue()
    frames, two = random_tracklet(1, 2)[None], np.array([2], np.int32)
    one = np.array([1], np.int32)
    refused = {"INVALID_ARGUMENT"}
    kind = rng.integers(10)
    if kind == 0:
        damaged = bytearray(request("embed_jpeg", images=np.array([[image, image]], object), lengths=two))
        for place in rng.integers(0, len(damaged), rng.integers(1, 20)):
            damaged[place] = rng.integers(0, 256)
        cut = len(damaged) if rng.random() < 0.7 else int(rng.integers(1, len(damaged)))
        any_code = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"}
        return "fuzzed", bytes(damaged[:cut]), any_code
    if kind == 1:
        part = [image, progressive][rng.integers(2)]
        images = np.array([[part[: int(rng.integers(len(part)))]]], object)
        return "truncated image", request("embed_jpeg", images=images, lengths=one), {"OK"}
    if kind == 2:
        huge = with_size([image, progressive][rng.integers(2)], 65500, int(rng.integers(600, 65500)))
        return "huge dimensions", request("embed_jpeg", images=np.array([[huge]], object), lengths=one), {"OK"}
    if kind == 3:
        rows = compressed(3, [int(rng.integers(300_000, 1 << 40))], int_val=[1])
        return "compressed rows", request("describe", rows=rows), refused
    if kind == 4:
        pixels = compressed(4, [1, int(rng.integers(200, 1 << 20)), 64, 32, 3], int_val=[0])
        return "compressed frames", request("serving_default", frames=pixels), refused
    if kind == 5:
        strings = compressed(7, [1, int(rng.integers(40_000, 1 << 40))], string_val=[image])
        return "compressed strings", request("embed_jpeg", images=strings, lengths=one), refused
    if kind == 6:
        wrong = frames.astype([np.float32, np.int64, np.int8][rng.integers(3)])
        return "wrong dtype", request("serving_default", frames=wrong), refused
    if kind == 7:
        return "0 frames", request("serving_default", frames=frames[:, :0]), refused
    if kind == 8:
        images = np.full((1, 5000), b"", object)
        return "5000 frames", request("embed_jpeg", images=images, lengths=np.array([5000], np.int32)), refused
    negative = np.array([-int(rng.integers(1, 2**31))], np.int32)
    return "negative length", request("embed_padded", frames=frames, lengths=negative), {"OK", "INVALID_ARGUMENT"}


def test_malformed_requests_get_the_right_code_and_disturb_nobody(base_path):
    def attack(seed, number):
        rng = np.random.default_rng(seed)
        codes = collections.Counter()
        with grpc.insecure_channel(server.target) as channel:
            for _ in range(number):
                name, body, accepted = malformed(rng)
                code = code_of(channel.unary_unary(PREDICT), body)
                assert code in accepted, (name, code)
                codes[name, code] += 1
        return codes

    with ServerProcess(base_path, "--log-level", "error") as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        load = Load(server.target)
        # Memory grows with the first requests of every kind, to what they need at once.
        list(pool.map(attack, range(4), [scaled(500)] * 4))
        before = server.resident_mib()
        codes = sum(pool.map(attack, range(4, 8), [scaled(2000)] * 4), collections.Counter())
        after = server.resident_mib()
        load.stop()
        print(
            f"{sum(codes.values())} requests, {load.answered} right answers, {before:.0f} -> {after:.0f} MiB, {codes}"
        )
        assert load.answered
        assert after < 1.1 * before
        assert server.stop() == 0
        internal = [line for line in server.log if line.get("status") == "INTERNAL"]
        assert all(line["cause"] for line in internal)


class SlowRelay:
    """Passes bytes from a client to the server one by one, with a pause after each."""

    def __init__(self, target):
        host, port = target.split(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._stopping = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._pass, args=(client, server, 1, 0.02), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, 65536, 0.0), daemon=True).start()

    def _pass(self, source, sink, size, pause):
        with contextlib.suppress(OSError):
            while not self._stopping.is_set() and (data := source.recv(size)):
                sink.sendall(data)
                time.sleep(pause)

    def close(self):
        self._stopping.set()
        self._listener.close()


def test_hanging_vanishing_and_slow_clients_stop_nobody(base_path):
    number = scaled(200)
    done = threading.Event()

    def no_body():
        done.wait()
        yield b""

    with ServerProcess(base_path, "--log-level", "error", "--http-port", "0") as server:
        load = Load(server.target)
        load.wait_for(50)
        before = load.answered
        relay = SlowRelay(server.target)
        hanging, slow = [], []
        eight_frames = request("serving_default", frames=random_tracklet(1, 8)[None])
        channels = []
        for place in range(number):
            channel = grpc.insecure_channel([server.target, relay.target][place % 2])
            channels.append(channel)
            if place % 2:
                slow.append(channel.unary_unary(PREDICT).future(eight_frames))
            else:
                hanging.append(channel.stream_unary(PREDICT).future(no_body()))
        vanished, fifty_frames = 0, request("serving_default", frames=random_tracklet(1, 50)[None])
        for _ in range(number):
            with grpc.insecure_channel(server.target) as channel:
                call = channel.unary_unary(PREDICT).future(fifty_frames)
                if vanished % 2:
                    time.sleep(0.02)
                call.cancel()
                vanished += 1
        load.wait_for(200)
        assert not any(call.done() for call in hanging)
        load.stop()
        print(f"{len(hanging)} hanging, {len(slow)} slow, {vanished} vanished; {load.answered - before} right answers")
        assert load.answered - before >= 200
        # The ones that hang are told at once when the server stops.
        assert server.stop() == 0
        assert {call.code().name for call in hanging} == {"UNAVAILABLE"}
        done.set()
        relay.close()
        for channel in channels:
            channel.close()


def test_signals_under_load_end_every_call_and_the_process(base_path):
    outcomes = collections.Counter()
    for round_number in range(scaled(50)):
        with ServerProcess(base_path, "--log-level", "error", "--grace", "5") as server:
            load = Load(server.target, clients=8, accepted=("UNAVAILABLE",))
            load.wait_for(1 + 7 * (round_number % 5))
            assert server.stop() == 0
            load.stop()
            outcomes.update(load.codes, OK=load.answered)
            assert not server.errors, server.errors
    print(f"{scaled(50)} signals under load, every exit 0: {dict(outcomes)}")
    assert set(outcomes) <= {"OK", "UNAVAILABLE"}


def test_swaps_under_load_fail_no_request(base_path, tmp_path):
    swaps = scaled(20)

    def publish(number):
        """Copy the version under another number, with another fingerprint in its card."""
        shutil.copytree(base_path / "3", tmp_path / "writing")
        card = tmp_path / "writing" / "assets.extra" / "kreid.json"
        card.write_text(json.dumps({**json.loads(card.read_text()), "fingerprint": f"{number:064x}"}))
        (tmp_path / "writing").rename(tmp_path / str(number))

    publish(1)
    with ServerProcess(tmp_path, "--log-level", "error", "--poll-seconds", "0.2") as server:
        load = Load(server.target)
        resident = []
        for number in range(2, 2 + swaps):
            publish(number)
            while load.versions[number] < 5 and not any(client.done() for client in load._clients):
                time.sleep(0.02)
            shutil.rmtree(tmp_path / str(number - 1))
            resident.append(server.resident_mib())
        load.stop()
        print(f"{swaps} swaps, {load.answered} answers, none failed; {resident[0]:.0f} -> {resident[-1]:.0f} MiB")
        assert load.codes == {}
        assert set(load.versions) == set(range(1, 2 + swaps))
        middle = len(resident) // 2
        assert np.median(resident[middle:]) < 1.1 * np.median(resident[: middle + 1])
        assert server.stop() == 0
