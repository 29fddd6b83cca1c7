"""The log, the metrics, readiness over HTTP, health and reflection."""

import http.client
import io
import json
import logging
import queue
import socket
import threading

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from kreid.serving import EmbeddingServer, wire  # noqa: E402
from kreid.serving.telemetry import LOG, _DroppingQueueHandler, json_log  # noqa: E402

FRAMES = np.zeros((2, 3, 64, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def server(small_path):
    with EmbeddingServer(small_path, port=0, http_port=0, poll_seconds=0) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def body(signature, **inputs):
    request = wire.messages()["PredictRequest"]()
    request.model_spec.name, request.model_spec.signature_name = "kreid", signature
    for alias, value in inputs.items():
        wire.fill_tensor(request.inputs[alias], value)
    return request.SerializeToString()


def code_of(channel, request, **options):
    try:
        channel.unary_unary(wire.PREDICT)(request, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def get(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def samples(server):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(get(server, "/metrics")[1])
        for sample in family.samples
    }


@pytest.fixture
def logged():
    """The lines of the log, as dicts; reading waits for the first."""
    stream = io.StringIO()
    with json_log(stream, "info") as flush:

        def lines():
            flush()
            return [json.loads(line) for line in stream.getvalue().splitlines()]

        yield lines


def test_a_call_is_one_line_without_image_data(channel, logged):
    assert code_of(channel, body("serving_default", frames=FRAMES + 200)) == "OK"
    (line,) = logged()
    assert line.pop("time").endswith("+00:00")
    assert line.pop("peer").startswith("ipv4:127.0.0.1:")
    assert line.pop("milliseconds") > 0
    assert line == {
        "level": "INFO",
        "method": "Predict",
        "signature": "serving_default",
        "version": 3,
        "shapes": {"frames": [2, 3, 64, 32, 3]},
        "status": "OK",
    }


def test_a_refused_call_says_why(channel, logged):
    assert code_of(channel, body("no\nsuch" + "x" * 3000, frames=FRAMES)) == "FAILED_PRECONDITION"
    (line,) = logged()
    assert (line["level"], line["status"], len(line["signature"])) == ("INFO", "FAILED_PRECONDITION", 64)
    assert line["error"].startswith('Serving signature key "no\nsuchx')


@pytest.mark.parametrize(
    ("request_", "code", "cause"),
    [
        (body("fail", contents=np.array([b"no zlib"], object)), "DATA_LOSS", "tensorflow.python.framework.errors_impl"),
        (b"\xff\xff", "INTERNAL", "google.protobuf.message.DecodeError"),
    ],
)
def test_a_fault_is_an_error_with_its_cause(channel, logged, request_, code, cause):
    assert code_of(channel, request_) == code
    (line,) = logged()
    assert (line["level"], line["status"]) == ("ERROR", code)
    assert cause in line["cause"]
    assert "Traceback" in line["cause"]


def test_a_fault_of_the_server_itself_is_internal_and_logged(server, channel, logged, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(server._served, "use", broken)
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(wire.PREDICT)(body("serving_default", frames=FRAMES))
    assert (caught.value.code().name, caught.value.details()) == ("INTERNAL", "The server failed; its log says why.")
    (line,) = logged()
    assert line["cause"].rstrip().endswith("ZeroDivisionError: a bug")


def test_a_reader_who_does_not_read_the_log_stops_nobody():
    handler = _DroppingQueueHandler(queue.Queue(2))
    for _ in range(5):
        handler.emit(logging.makeLogRecord({"name": LOG.name, "msg": "line"}))
    assert (handler.queue.qsize(), handler.dropped) == (2, 3)


def test_metrics_count_calls_frames_and_versions(server, channel):
    before = samples(server)
    for _ in range(3):
        code_of(channel, body("serving_default", frames=FRAMES))
    code_of(channel, body("fail", contents=np.array([b"no zlib"], object)))
    for name in ("made-up-1", "made-up-2"):
        code_of(channel, body(name, frames=FRAMES))
    after = samples(server)

    def more(*key):
        return after[key] - before.get(key, 0)

    predict, averaged = ("method", "Predict"), ("signature", "serving_default")
    assert more("kreid_requests_total", ("code", "OK"), predict, averaged) == 3
    assert more("kreid_requests_total", ("code", "DATA_LOSS"), predict, ("signature", "fail")) == 1
    # One row for all names that clients make up.
    assert more("kreid_requests_total", ("code", "FAILED_PRECONDITION"), predict, ("signature", "")) == 2
    assert more("kreid_request_seconds_count", predict, averaged) == 3
    assert more("kreid_request_seconds_sum", predict, averaged) > 0
    assert more("kreid_request_tracklets_sum", averaged) == 6
    assert (
        more(
            "kreid_frames_total",
        )
        == 18
    )
    assert after["kreid_version_available", ("version", "3")] == 1
    assert after["kreid_waiting_requests",] == after["kreid_running_requests",] == 0
    assert after["process_resident_memory_bytes",] > 1e8
    assert not any("made-up" in str(key) for key in after)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/readyz?verbose", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 405),
    ],
)
def test_http_paths(server, method, path, status):
    assert get(server, path, method)[0] == status


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"GET /livez\r\n\r\n", b"\xff\xfe\0 \x80 b\r\n\r\n"])
def test_what_is_no_http_gets_an_error(server, request_):
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.sendall(request_)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_http_clients_that_hang_stop_nobody(server, channel):
    hanging = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(20)]
    with socket.create_connection(("127.0.0.1", server.http_port)) as endless:
        # More header than any request has; the connection is closed.
        try:
            for _ in range(100):
                endless.sendall(b"x: " + b"y" * 10_000 + b"\r\n")
        except OSError:
            pass
        assert get(server, "/readyz")[0] == 200
        assert code_of(channel, body("serving_default", frames=FRAMES)) == "OK"
    for connection in hanging:
        connection.close()


def test_health_follows_the_server_while_it_stops(small_path):
    with (
        EmbeddingServer(small_path, port=0, http_port=0, poll_seconds=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.drain(0)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert get(server, "/readyz")[0] == 503
        assert get(server, "/livez")[0] == 200
        assert code_of(channel, body("serving_default", frames=FRAMES)) == "UNAVAILABLE"


def test_reflection_lists_and_describes_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest
    listed, described = stub.ServerReflectionInfo(
        iter(
            [
                request(list_services=""),
                request(file_containing_symbol="tensorflow.serving.PredictionService"),
            ]
        )
    )
    assert {service.name for service in listed.list_services_response.service} == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


@pytest.fixture(scope="module")
def busy(small_path):
    """A server that runs one request at a time and lets two wait."""
    with (
        EmbeddingServer(small_path, port=0, workers=1, max_calls=3, http_port=0, poll_seconds=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        yield server, channel


WORK = body("work", rounds=np.array([1000], np.int32))


def test_calls_beyond_the_limit_are_refused_and_the_others_answered(busy):
    server, channel = busy
    call = channel.unary_unary(wire.PREDICT)
    admitted = [call.future(WORK) for _ in range(3)]
    while samples(server)["kreid_waiting_requests",] < 2:
        pass
    with pytest.raises(grpc.RpcError) as caught:
        call(WORK)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    assert caught.value.details().startswith("The server is busy: 3 requests run and wait")
    assert [len(future.result()) > 0 for future in admitted] == [True] * 3
    assert code_of(channel, WORK) == "OK"


def test_a_client_that_leaves_makes_room_for_others(busy):
    server, channel = busy
    call = channel.unary_unary(wire.PREDICT)
    endless = body("work", rounds=np.array([1_000_000], np.int32))
    running = call.future(endless, timeout=0.5)
    while samples(server)["kreid_running_requests",] < 1:
        pass
    for waiting in [call.future(WORK) for _ in range(2)]:
        waiting.cancel()
    # The run ends at its deadline, and the two do not run.
    assert running.exception().code().name == "DEADLINE_EXCEEDED"
    while samples(server)["kreid_running_requests",] or samples(server)["kreid_waiting_requests",]:
        pass
    assert code_of(channel, WORK) == "OK"


def test_calls_without_a_body_stop_nobody_and_end_by_themselves(busy, monkeypatch):
    server, channel = busy
    monkeypatch.setattr(server._services, "_body_seconds", 0.5)
    done = threading.Event()

    def no_body():
        done.wait()
        yield b""

    hanging = [channel.stream_unary(wire.PREDICT).future(no_body()) for _ in range(20)]
    assert code_of(channel, body("serving_default", frames=FRAMES)) == "OK"
    for call in hanging:
        assert call.exception().code().name == "DEADLINE_EXCEEDED"
        assert call.details() == "No request arrived within 0.5 s."
    done.set()


def test_a_call_that_ends_without_a_request_is_an_error(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(wire.PREDICT)(iter([]))
    assert (caught.value.code().name, caught.value.details()) == ("INTERNAL", "The call has no request.")


@pytest.mark.parametrize(("grace", "outcomes"), [(60, {"OK"}), (0, {"UNAVAILABLE"})])
def test_stopping_waits_for_running_calls_within_the_grace(small_path, grace, outcomes):
    with (
        EmbeddingServer(small_path, port=0, workers=2, http_port=0, poll_seconds=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        call = channel.unary_unary(wire.PREDICT)
        running = [call.future(body("work", rounds=np.array([5000], np.int32))) for _ in range(3)]
        # All three are there: the first waits for its worker before the others have come.
        there = 0
        while there < 3:
            state = samples(server)
            there = state["kreid_running_requests",] + state["kreid_waiting_requests",]
            there += sum(future.done() for future in running)
        server.stop(grace)
        assert {future.code().name for future in running} == outcomes
        server.stop()
