"""The clients of a gallery: they answer as the gallery itself does."""

import asyncio
import threading

import numpy as np
import pytest
from served_galleries import FINGERPRINT, people

pytest.importorskip("grpc")
pytest.importorskip("lance", reason="galleries on the disk need pylance")

from kreid.gallery import Added, GalleryModel, LanceGallery, MemoryGallery, TrackletEmbeddings, Where
from kreid.serving import AsyncGalleryClient, EmbeddingServer, GalleryClient, ServingError, gallery_wire

STORED = people(60)
QUERIES = people(12, seed=1, prefix="q")
SEARCHES = [
    {},
    {"count": 3, "threshold": None},
    {"count": 100, "threshold": 1.5, "other_cameras": True},
    {"by_person": True, "threshold": None},
    {"where": {"cameras": [1, 2], "tags": {"coat": "red"}}},
    {"where": {"not_cameras": [1], "since": 100.0, "until": 400.5}},
    {"where": Where(sources=["Höfe.mp4"], persons=[0, 2])},
    {"where": {"ids": ["t3", "t8"]}, "threshold": None},
    {"where": {"persons": []}, "threshold": None},
]


@pytest.fixture(scope="module")
def exact():
    gallery = MemoryGallery(GalleryModel.of(STORED))
    gallery.add(STORED)
    return gallery


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("galleries") / "hall"
    LanceGallery.create(path, GalleryModel.of(STORED), keep_days=30).add(STORED)
    with EmbeddingServer(gallery=path, port=0) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with GalleryClient(server.target) as client:
        yield client


def plain(found):
    """Matches whose NaN equal each other, and whose tags have one order."""
    return [[repr(match._replace(tags=sorted(match.tags.items()))) for match in matches] for matches in found]


@pytest.mark.parametrize("options", SEARCHES)
def test_a_search_equals_that_of_the_gallery(client, exact, options):
    found = client.search_many(QUERIES, **options)
    assert plain(found) == plain(exact.search_many(QUERIES, **options))
    assert plain([client.search(QUERIES.take([0]), **options)]) == plain(found[:1])


def test_the_own_tracklet_is_left_out(client, exact):
    query = STORED.take([7])
    assert plain([client.search(query)]) == plain([exact.search(query)])
    assert "t7" not in [match.id for match in client.search(query, count=100, threshold=None)]


def test_long_records_are_sent_in_parts(client, exact, monkeypatch):
    monkeypatch.setattr("kreid.serving.gallery_wire.MAX_MATCHES", 100)
    # 20 matches of each query: five queries are a request.
    found = client.search_many(QUERIES, 20, threshold=None)
    assert plain(found) == plain(exact.search_many(QUERIES, 20, threshold=None))
    assert client.search_many(QUERIES.take([])) == []


def test_nobody_known_is_an_empty_answer(client):
    far = people(1, embeddings=np.full((1, 4), 100.0))
    assert client.search(far) == []


def test_tracklets_are_added_and_deleted(server):
    record = people(10, seed=2, prefix="new-")
    with GalleryClient(server.target) as client:
        before = client.stats()
        assert client.add(record) == Added(10, 0, 0)
        assert client.add(record) == Added(0, 10, 0)
        assert client.add(people(2, prefix="junk-", persons=[-1, -1])) == Added(0, 0, 2)
        assert client.stats().tracklets == before.tracklets + 10
        read = server.gallery.get(record.ids.tolist())
        for name in ("embeddings", "persons", "cameras", "starts", "ends", "sources"):
            np.testing.assert_array_equal(getattr(read, name), getattr(record, name), err_msg=name)
        assert list(read.tags) == list(record.tags)
        assert client.delete({"ids": ["new-0", "new-1"]}) == 2
        assert client.delete(Where(ids=record.ids.tolist()), compact=True) == 8
        assert client.stats() == before


def test_a_server_says_that_it_searches_by_an_index(tmp_path):
    random = np.random.default_rng(0)
    points = random.normal(size=(60, 16)).repeat(16, axis=0)
    vectors = points + 0.3 * random.normal(size=points.shape)
    record = TrackletEmbeddings(vectors, [f"t{row}" for row in range(960)], 1 + np.arange(960) // 16, [1] * 960)
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(record))
    gallery.add(record)
    report = gallery.make_index()
    queries = record.take(np.arange(0, 960, 40))
    with EmbeddingServer(gallery=tmp_path / "hall", port=0) as server, GalleryClient(server.target) as client:
        assert client.stats().recall == report.recall >= 0.98
        answers = [client.search_many(queries, 55, threshold=None, exact=exact) for exact in (False, True)]
        for exact, found in zip((False, True), answers, strict=True):
            assert plain(found) == plain(gallery.search_many(queries, 55, threshold=None, exact=exact))
        assert plain(answers[0]) != plain(answers[1])
        request = gallery_wire.messages()["SearchRequest"](any_distance=True)
        request.queries.add(embedding=vectors[0])
        for exact, recall in ((False, report.recall), (True, 0)):
            request.exact = exact
            reply = client._run(client._connection._ask("Search", request))
            assert (reply.recall, reply.HasField("recall")) == (recall, not exact)
        gallery.remove_index()
        assert client.stats().recall is None
        assert plain(client.search_many(queries, 55, threshold=None)) == plain(answers[1])


def test_stats_describe_the_gallery(client, exact):
    stats = client.stats(verify=True)
    assert stats.model == exact.model
    assert (stats.tracklets, stats.unknown, stats.persons, stats.keep_days) == (60, 12, 4, 30.0)
    assert (stats.read_only, stats.takes_images, stats.damaged_files) == (False, False, ())
    assert stats.verification == (60, 0, 0)
    assert client.stats().verification is None


def test_two_clients_add_at_once(server):
    records = [people(40, seed=seed, prefix=f"client{seed}-") for seed in (3, 4)]
    added = []

    def add(record):
        with GalleryClient(server.target) as client:
            added.extend(client.add(record.take(rows)).added for rows in np.array_split(np.arange(40), 8))

    threads = [threading.Thread(target=add, args=[record]) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 80
    with GalleryClient(server.target) as client:
        ids = [name for record in records for name in record.ids.tolist()]
        assert sorted(server.gallery.get(ids).ids.tolist()) == sorted(ids)
        assert client.delete({"ids": ids}) == 80


def test_the_asynchronous_client_answers_alike(server, exact):
    async def ask():
        async with AsyncGalleryClient(server.target) as client:
            one, many = await asyncio.gather(
                client.search(QUERIES.take([0]), count=2), client.search_many(QUERIES, by_person=True)
            )
            record = people(2, seed=5, prefix="async-")
            added = await client.add(record)
            deleted = await client.delete({"ids": record.ids.tolist()})
            return one, many, added, deleted, await client.stats()

    one, many, added, deleted, stats = asyncio.run(ask())
    assert plain([one]) == plain([exact.search(QUERIES.take([0]), count=2)])
    assert plain(many) == plain(exact.search_many(QUERIES, by_person=True))
    assert (added.added, deleted, stats.tracklets) == (2, 2, 60)


def test_wrong_arguments_are_errors_of_the_client(client):
    for call, message in [
        (lambda: client.search(QUERIES), "`search_many` takes several. Received: 12 tracklets"),
        (lambda: client.search_many(QUERIES, 0), "Received: count=0"),
        (lambda: client.search_many(QUERIES, threshold=-1.0), "Received: threshold=-1.0"),
        (lambda: client.search_many(QUERIES, where={"persn": [1]}), "Did you mean 'persons'? Received: where has 'pe"),
        (lambda: client.delete({"camera": 1}), "Did you mean 'cameras'?"),
        (lambda: client.add_images([b"x"], ["a"], [0], [1]), "must be a list with the bytes of one file per frame"),
        (lambda: client.add_images([[b"x"]], ["a", "b"], [0], [1]), "Give one id, person and camera for each row"),
        (lambda: GalleryClient("nowhere"), "`target` must be host:port"),
        (lambda: GalleryClient("gpu7:8500", token="x" * 20), "A token may leave this machine only encrypted"),
    ]:
        with pytest.raises(ValueError) as caught:
            call()
        assert message in str(caught.value)


def test_refusals_have_hints_of_a_gallery(client):
    with pytest.raises(ServingError) as caught:
        client.add(people(2, model="ab" * 32))
    error = caught.value
    assert (error.code, error.hint) == ("INVALID_ARGUMENT", f"correct the request. Received: target={client.target}")
    assert "Embeddings of two models are not comparable." in error.message
    assert f"model={FINGERPRINT[:12]!r}" in error.message
    with pytest.raises(ServingError, match=r"FAILED_PRECONDITION: This server has no model .*; send embeddings of the"):
        client.search_images([[b"\xff\xd8"]])
