"""The gallery service over gRPC: what it refuses, who may ask, what waits for whom, and what an operator sees."""

import dataclasses
import errno
import hashlib
import http.client
import io
import json
import threading

import numpy as np
import pytest
from served_galleries import FINGERPRINT, people

grpc = pytest.importorskip("grpc")
pytest.importorskip("lance", reason="galleries on the disk need pylance")

from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

from kreid.gallery import GalleryModel, LanceGallery, MemoryGallery  # noqa: E402
from kreid.serving import EmbeddingServer, GalleryClient, ServingError, Tls, gallery_wire  # noqa: E402
from kreid.serving.telemetry import json_log  # noqa: E402

STORED = people(30)
TYPES = gallery_wire.messages()
TOKEN = "a-token-of-32-visible-characters"


def tracklet(**fields):
    return {"id": "x", "embedding": [0.0] * 4, "camera": 1, **fields}


def search(**fields):
    return "Search", TYPES["SearchRequest"](**{"queries": [tracklet()], "fingerprint": FINGERPRINT, **fields})


def add(**fields):
    return "Add", TYPES["AddRequest"](**{"tracklets": [tracklet()], "fingerprint": FINGERPRINT, **fields})


def delete(**fields):
    return "Delete", TYPES["DeleteRequest"](where=fields)


def ask(channel, name, request, **options):
    body = request if isinstance(request, bytes) else request.SerializeToString()
    call = channel.unary_unary(gallery_wire.method(name), response_deserializer=TYPES[f"{name}Response"].FromString)
    return call(body, timeout=60, **options)


def refused(channel, name, request, **options):
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, name, request, **options)
    return caught.value.code().name, caught.value.details()


def new_gallery(folder, **options):
    gallery = LanceGallery.create(folder / "hall", GalleryModel.of(STORED), who="operator", **options)
    gallery.add(STORED)
    return gallery


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    gallery = new_gallery(tmp_path_factory.mktemp("galleries"))
    with EmbeddingServer(gallery=gallery, port=0, http_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.target) as channel:
        yield channel


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (search(queries=[]), "A request has 1 to 1024 tracklets; send them in parts. Received: 0 queries"),
        (search(queries=[tracklet()] * 1025), "Received: 1025 queries"),
        (
            search(queries=[tracklet(embedding=[1.0] * 3)]),
            "has 4 values: embed the tracklet with that",
        ),
        (search(queries=[tracklet(embedding=[])]), "Received: queries[0] of 0 values and 0 images"),
        (search(queries=[tracklet(images=[b"x"])]), "Received: queries[0] of 4 values and 1 images"),
        (search(queries=[tracklet(), {"images": [b"x"]}]), "Received: queries[1] of 0 values and 1 images"),
        (search(queries=[tracklet(embedding=[0, 1, np.nan, 2])]), "Embeddings are finite"),
        (search(queries=[tracklet(embedding=[0, 1, np.inf, 2])]), "Embeddings are finite"),
        (
            search(queries=[tracklet(), tracklet()]),
            "Each tracklet needs its own id; rename one. ",
        ),
        (search(fingerprint=""), "Embeddings of two models are not comparable."),
        (search(fingerprint="ab" * 32), "Received: queries of model='abababababab'"),
        (search(metric="cosine"), "dimension=4, metric='cosine'; the gallery has"),
        (search(metric="L2"), "The metric is 'euclidean' or 'cosine'. Received: metric='L2'"),
        (search(count=0), "Search for at least one tracklet. Received: count=0"),
        (search(count=-3), "Received: count=-3"),
        (search(count=2**31 - 1), "An answer has at most 100000 matches"),
        (search(max_distance=0.0), "Received: threshold=0.0"),
        (search(max_distance=np.nan), "Received: threshold=nan"),
        (search(queries=[{"embedding": [0.0] * 4}], other_cameras=True), "Give the tracklet's camera."),
        (search(where={"since": np.nan}), "A time is a number of seconds. Received: since=nan"),
        (search(where={"since": 3.0, "until": 2.0}), "`until` is after `since`."),
        (
            search(where={"ids": {"values": ["y" * 600]}}),
            "characters, and no NUL. Received: where.ids",
        ),
        (add(tracklets=[]), "Received: 0 tracklets"),
        (add(tracklets=[{"id": "x", "embedding": [0.0] * 4}]), "Received: tracklets[0] without camera"),
        (add(tracklets=[tracklet(id="")]), "A tracklet's id is not empty."),
        (add(tracklets=[tracklet(id="x\0")]), "and no NUL. Received: tracklets[0] with 'x\\x00' of 2 characters"),
        (add(tracklets=[tracklet(source="s" * 10**6)]), "of 1000000 characters"),
        (
            add(tracklets=[tracklet(tags={str(n): "v" * 500 for n in range(9)})]),
            "have at most 4096 characters. Received: ",
        ),
        (add(tracklets=[tracklet(tags={"a=b": "c"})]), "names have no '='. Received: tags[0]={'a=b': 'c'}"),
        (add(tracklets=[tracklet(person=-2)]), "Received: persons[0]=-2"),
        (add(tracklets=[tracklet(start=2.0, end=1.0)]), "A tracklet ends after it begins."),
        (add(tracklets=[tracklet(id="t3")]), "The gallery has tracklets of these ids with other content"),
        (add(tracklets=[tracklet(id="new"), tracklet(id="t3")]), "Received: 1 such ids, the first ['t3']"),
        (delete(ids={"values": map(str, range(10_001))}), "at most 10000 values are allowed: send them in parts. "),
        (delete(tags={str(n): "" for n in range(65)}), "Received: tags of 65 values"),
        (delete(), "Give at least one condition"),
        (delete(not_cameras={}), "Give at least one condition"),
        # A field that is passed over would delete more.
        (("Delete", bytes([0x0A, 4, 0x48, 1, 0x12, 0])), "knows no field 9 in kreid.gallery.v1.Where: leave it out"),
        (("Delete", bytes([0x0A, 2, 0x10, 7])), "knows no field 2 of this type in kreid.gallery.v1.Where"),
        (("Search", b"\xff\xff\xff"), "The request is no kreid.gallery.v1.SearchRequest."),
        (("Search", b"\x0a\x05\x0a\x03\xff\xff\xff"), "The request is no kreid.gallery.v1.SearchRequest."),
        (("Search", b"\x0a\x00" * 200_000), "A request may have at most 100000 fields and values"),
        (delete(persons={"values": range(128, 60_000)}), "A request may have at most 100000 fields and values"),
    ],
)
def test_wrong_requests_are_refused_with_the_fix(server, channel, request_, message):
    code, details = refused(channel, *request_)
    assert (code, message in details) == ("INVALID_ARGUMENT", True), details
    assert server.gallery.count() == 30


def test_an_oversize_message_is_refused(tmp_path):
    gallery = new_gallery(tmp_path)
    with (
        EmbeddingServer(gallery=gallery, port=0, max_message_bytes=20_000) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        code, _ = refused(channel, *add(tracklets=[tracklet(source="s" * 30_000)]))
        assert code == "RESOURCE_EXHAUSTED"
        assert ask(channel, *search()).rankings


def test_queries_need_no_id_and_no_camera(channel):
    request = search(queries=[{"embedding": STORED.embeddings[row]} for row in (0, 1)], any_distance=True, count=1)
    rankings = ask(channel, *request).rankings
    assert [ranking.matches[0].id for ranking in rankings] == ["t0", "t1"]
    assert [(ranking.id, ranking.HasField("valid_frames")) for ranking in rankings] == [("", False)] * 2


def test_the_answer_names_its_threshold(channel):
    thresholds = []
    for options in ({}, {"max_distance": 0.25}, {"any_distance": True}):
        response = ask(channel, *search(**options))
        thresholds.append(response.threshold if response.HasField("threshold") else None)
    assert thresholds == [0.7, 0.25, None]


def test_a_read_only_server_changes_nothing(tmp_path):
    gallery = new_gallery(tmp_path)
    with (
        EmbeddingServer(gallery=gallery, port=0, gallery_read_only=True) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        for request in (add(), delete(persons={"values": [1]}), ("Add", b"\xff")):
            assert refused(channel, *request)[0] == "PERMISSION_DENIED"
        assert len(ask(channel, *search(any_distance=True)).rankings[0].matches) == 10
        stats = ask(channel, "Stats", TYPES["StatsRequest"]())
        assert (stats.read_only, stats.tracklets) == (True, 30)


def test_every_method_needs_the_token_and_health_has_none(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    gallery = new_gallery(tmp_path)
    with (
        EmbeddingServer(gallery=gallery, port=0, token_file=tokens) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        requests = [search(), add(), delete(persons={"values": [1]}), ("Stats", b"")]
        for metadata in ([], [("authorization", "Bearer of-another-token-of-this-size")]):
            codes = [refused(channel, *request, metadata=metadata)[0] for request in requests]
            assert codes == ["UNAUTHENTICATED"] * 4
        status = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=gallery_wire.GALLERY_SERVICE)
        )
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        with GalleryClient(server.target, token=TOKEN) as client:
            client.search(STORED.take([0]))
    asked = list(gallery.log)[-1]
    assert (asked["action"], asked["ids"]) == ("search", ["t0"])
    # The address, and the digest of the token.
    assert asked["who"].startswith("ipv4:127.0.0.1:")
    assert asked["who"].endswith(f", token {hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}")
    assert gallery.add(STORED).unchanged == 30
    assert list(gallery.log)[-1]["who"] == "operator"


def test_the_gallery_s_log_names_the_client_s_certificate(tmp_path, certificates):
    own, client = certificates["server"], certificates["client"]
    gallery = new_gallery(tmp_path)
    files = {"tls_cert": own.path, "tls_key": own.key_path, "tls_client_ca": certificates["authority"].path}
    tls = Tls(ca=certificates["authority"].path, certificate=client.path, key=client.key_path)
    with EmbeddingServer(gallery=gallery, port=0, **files) as server, GalleryClient(server.target, tls=tls) as asking:
        asking.search(STORED.take([0]))
    assert list(gallery.log)[-1]["who"].endswith(", certificate client")


def test_reflection_and_health_know_the_service(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest
    symbol = gallery_wire.GALLERY_SERVICE
    listed, described = stub.ServerReflectionInfo(
        iter([request(list_services=""), request(file_containing_symbol=symbol)])
    )
    assert {service.name for service in listed.list_services_response.service} == {
        symbol,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert b"SearchRequest" in described.file_descriptor_response.file_descriptor_proto[0]
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", symbol):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING


def test_without_a_model_there_is_no_other_service(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"")
    assert caught.value.code().name == "UNIMPLEMENTED"


def test_the_log_and_the_metrics_have_no_embedding_and_no_id(server, channel):
    stream = io.StringIO()
    with json_log(stream, "info") as flush:
        ask(channel, *search(queries=[tracklet(id="secret", embedding=[0.125] * 4)], any_distance=True))
        refused(channel, *search(count=0))
        flush()
    answered, wrong = map(json.loads, stream.getvalue().splitlines())
    assert answered.pop("peer").startswith("ipv4:127.0.0.1:")
    assert answered.pop("milliseconds") > 0
    assert answered.pop("time")
    assert answered == {
        "level": "INFO",
        "method": "Search",
        "signature": "",
        "version": None,
        "shapes": {"embeddings": [1, 4]},
        "matches": 10,
        "status": "OK",
    }
    assert (wrong["status"], wrong["error"]) == (
        "INVALID_ARGUMENT",
        "Search for at least one tracklet. Received: count=0",
    )
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    assert 'kreid_requests_total{code="OK",method="Search",signature=""}' in text
    assert 'kreid_requests_total{code="INVALID_ARGUMENT",method="Search",signature=""}' in text
    assert 'kreid_request_seconds_count{method="Search",signature=""}' in text
    assert 'kreid_gallery_running_requests{kind="search"} 0.0' in text
    assert "secret" not in text + stream.getvalue()
    assert "0.125" not in stream.getvalue()


class GatedGallery(MemoryGallery):
    """A gallery in which searches for other cameras than 1 wait for a gate."""

    def __init__(self, model):
        super().__init__(model)
        self.gate, self.waiting = threading.Event(), threading.Semaphore(0)

    def _parts(self, where, *arguments, **options):
        if where.not_cameras == (1,):
            self.waiting.release()
            assert self.gate.wait(60)
        return super()._parts(where, *arguments, **options)


def test_slow_searches_stop_neither_neighbours_nor_changes():
    gallery = GatedGallery(GalleryModel.of(STORED))
    gallery.add(STORED)
    slow = search(where={"not_cameras": {"values": [1]}})
    with (
        EmbeddingServer(gallery=gallery, port=0, workers=3, max_calls=3) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        call = channel.unary_unary(gallery_wire.method("Search"))
        futures = [call.future(slow[1].SerializeToString()) for _ in range(2)]
        for _ in futures:
            assert gallery.waiting.acquire(timeout=60)
        assert ask(channel, *search()).rankings
        assert ask(channel, *add(tracklets=[tracklet(id="new")])).added == 1
        futures.append(call.future(slow[1].SerializeToString()))
        assert gallery.waiting.acquire(timeout=60)
        # Three run: the limit. A change has a limit of its own.
        assert refused(channel, *search())[0] == "RESOURCE_EXHAUSTED"
        assert ask(channel, *delete(ids={"values": ["new"]})).deleted == 1
        gallery.gate.set()
        assert all(future.result() for future in futures)


def test_a_change_waits_for_another_writer_and_then_says_so(tmp_path):
    other = new_gallery(tmp_path)
    gallery = LanceGallery.open(tmp_path / "hall", wait=0.1)
    with EmbeddingServer(gallery=gallery, port=0) as server, grpc.insecure_channel(server.target) as channel:
        with other._writing():
            code, details = refused(channel, *add())
            assert (code, details) == (
                "ABORTED",
                "Another process has been writing to this gallery for 0.1 seconds; wait for it, and try again.",
            )
            assert ask(channel, *search()).rankings
        assert ask(channel, *add()).added == 1


def test_a_change_whose_client_has_given_up_is_not_made(tmp_path, monkeypatch):
    other = new_gallery(tmp_path)
    gallery = LanceGallery.open(tmp_path / "hall")
    begun, add_to_gallery = threading.Event(), gallery.add
    monkeypatch.setattr(gallery, "add", lambda tracklets: begun.set() or add_to_gallery(tracklets))
    with EmbeddingServer(gallery=gallery, port=0) as server, grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(gallery_wire.method("Add"))
        with other._writing():
            first = call.future(add(tracklets=[tracklet(id="first")])[1].SerializeToString())
            begun.wait()
            late = call.future(add(tracklets=[tracklet(id="late")])[1].SerializeToString(), timeout=0.2)
            assert late.exception().code().name == "DEADLINE_EXCEEDED"
        first.result()
        assert ask(channel, *delete(persons={"values": [99]})).deleted == 0  # after both
        assert set(server.gallery.read().ids.tolist()) == {*STORED.ids.tolist(), "first"}


def test_a_damaged_gallery_answers_what_it_can_and_says_so(tmp_path):
    gallery = new_gallery(tmp_path)
    gallery.add(people(20, seed=1, prefix="u"))
    damaged, _ = sorted(
        (tmp_path / "hall" / "tracklets.lance" / "data").iterdir(), key=lambda path: path.stat().st_mtime
    )
    damaged.write_bytes(damaged.read_bytes()[:100])
    with (
        pytest.warns(UserWarning, match="30 tracklets of the gallery are damaged and left out"),
        EmbeddingServer(gallery=tmp_path / "hall", port=0) as server,
        GalleryClient(server.target) as client,
    ):
        found = client.search(STORED.take([0]), count=100, threshold=None)
        assert {match.id for match in found} == {f"u{row}" for row in range(20)}
        stats = client.stats()
        assert (stats.tracklets, stats.damaged_files) == (20, (f"tracklets.lance/data/{damaged.name}",))
        verification = client.stats(verify=True).verification
        assert verification == (20, 0, 30)
        assert client.add(people(5, seed=2, prefix="v")).added == 5
        # The deletion is done, and not passed off as a complete one.
        with pytest.raises(ServingError, match=rf"DATA_LOSS.*1 tracklets are deleted.*--drop.*{damaged.name}"):
            client.delete({"ids": ["u0"]})
        assert client.stats().tracklets == 24
        LanceGallery.open(tmp_path / "hall").verify(drop=True)
        assert client.stats().damaged_files == ()
        assert client.delete({"ids": ["u1"]}) == 1


def test_a_destroyed_gallery_is_data_loss_without_the_server_s_path(tmp_path):
    gallery = new_gallery(tmp_path)
    with (
        EmbeddingServer(gallery=gallery, port=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        for file in (tmp_path / "hall" / "tracklets.lance" / "_versions").iterdir():
            file.write_bytes(b"damaged")
        code, details = refused(channel, *add())
        assert code == "DATA_LOSS"
        assert "list of files is damaged" in details
        assert str(tmp_path) not in details


def test_a_log_that_cannot_be_written_stops_the_request(tmp_path):
    gallery = new_gallery(tmp_path)
    with EmbeddingServer(gallery=gallery, port=0) as server, grpc.insecure_channel(server.target) as channel:
        (tmp_path / "hall" / "audit.jsonl").unlink()
        (tmp_path / "hall" / "audit.jsonl").mkdir()
        code, details = refused(channel, *search())
        assert (code, details) == (
            "INTERNAL",
            "Nothing was done, because the gallery's log cannot be written: Is a directory.",
        )


def test_what_is_deleted_with_compact_leaves_no_bytes(tmp_path):
    gallery = new_gallery(tmp_path)
    vector = STORED.embeddings[4].tobytes()

    def holds():
        files = [path for path in (tmp_path / "hall").rglob("*") if path.is_file()]
        return any(vector in path.read_bytes() for path in files)

    with EmbeddingServer(gallery=gallery, port=0) as server, GalleryClient(server.target) as client:
        assert client.delete({"ids": ["t4"]}) == 1
        assert holds()
        assert client.delete({"ids": ["t4"]}, compact=True) == 0
        assert not holds()


class FullGallery(MemoryGallery):
    """A gallery on a full disk."""

    def compact(self):
        raise OSError(errno.ENOSPC, "The disk is full; free some space. Received: path='/srv/hall'")


def test_a_compaction_that_fails_says_that_the_tracklets_are_deleted():
    gallery = FullGallery(GalleryModel.of(STORED))
    gallery.add(STORED)
    with EmbeddingServer(gallery=gallery, port=0) as server, GalleryClient(server.target) as client:
        with pytest.raises(ServingError) as caught:
            client.delete({"ids": ["t4"]}, compact=True)
        assert (caught.value.code, caught.value.message) == (
            "RESOURCE_EXHAUSTED",
            "The tracklets are deleted, but their bytes are still in the files; repeat the request. The disk is "
            "full; free some space.",
        )
        assert client.stats().tracklets == 29


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Name the folder of an export, a gallery"),
        ({"gallery": STORED, "versions": "all"}, "Versions, labels and batches are those of an export"),
        ({"gallery": STORED, "batch": 4}, "Received: base_path=None, versions='latest', labels=None, batch=4"),
        ({"base_path": "x", "gallery_read_only": True}, "There is no gallery to read"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingServer(**arguments)


def test_a_missing_gallery_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no gallery in this place"):
        EmbeddingServer(gallery=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="This folder is no gallery"):
        EmbeddingServer(gallery=tmp_path)


def test_a_client_says_what_the_server_refused(server):
    with GalleryClient(server.target) as client, pytest.raises(ServingError) as caught:
        client.add(dataclasses.replace(STORED, persons=STORED.persons + 1))
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "Received: 30 such ids, the first ['t0', 't1'" in caught.value.message
