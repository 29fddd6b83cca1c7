"""Load and fuzz against a served gallery."""

import collections
import concurrent.futures

import numpy as np
import pytest
from served_galleries import FINGERPRINT, people

grpc = pytest.importorskip("grpc")
pytest.importorskip("lance", reason="galleries on the disk need pylance")

from kreid.gallery import GalleryModel, LanceGallery, Where  # noqa: E402
from kreid.serving import EmbeddingServer, GalleryClient, gallery_wire  # noqa: E402

pytestmark = pytest.mark.soak

TYPES = gallery_wire.messages()
STORED = people(30)


@pytest.fixture
def server(tmp_path):
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(STORED))
    gallery.add(STORED)
    with EmbeddingServer(gallery=tmp_path / "hall", port=0) as server:
        yield server


def test_damaged_requests_are_answered_or_refused(server):
    random = np.random.default_rng(0)
    tracklets = [
        TYPES["Tracklet"](id=f"n{row}", embedding=[1.0] * 4, person=3, camera=1, start=1.0, source="s", tags={"a": "b"})
        for row in range(2)
    ]
    where = TYPES["Where"]()
    gallery_wire.fill_where(where, Where(["t1"], [1], [2], [3], 1.0, 2.0, ["s"], {"a": "b"}))
    bodies = {
        "Search": TYPES["SearchRequest"](
            queries=tracklets, fingerprint=FINGERPRINT, count=3, where=where, max_distance=1.0
        ),
        "Add": TYPES["AddRequest"](tracklets=tracklets, fingerprint=FINGERPRINT),
        "Delete": TYPES["DeleteRequest"](where=where, compact=True),
        "Stats": TYPES["StatsRequest"](verify=True),
    }
    codes = collections.Counter()
    with grpc.insecure_channel(server.target) as channel:
        for _ in range(4000):
            name = random.choice(list(bodies))
            body = bytearray(bodies[name].SerializeToString())
            for place in random.integers(0, len(body), random.integers(0, 4)):
                body[place] = random.integers(256)
            end = random.integers(1, len(body)) if random.random() < 0.2 else len(body)
            try:
                channel.unary_unary(gallery_wire.method(name))(bytes(body[:end]))
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
    assert set(codes) == {"OK", "INVALID_ARGUMENT"}
    assert min(codes.values()) > 500


def test_searches_see_whole_requests_while_others_add_and_delete(server):
    """Each request adds seven tracklets of one person, and a search finds seven or none."""

    def change(number):
        with GalleryClient(server.target) as client:
            for turn in range(15):
                person = 1000 + 100 * number + turn
                assert client.add(people(7, prefix=f"p{person}-", persons=[person] * 7)).added == 7
                if turn % 2:
                    assert client.delete({"persons": [person - 1]}, compact=turn % 5 == 0) == 7

    def search(number):
        found = collections.Counter()
        with GalleryClient(server.target) as client:
            while not all(future.done() for future in changing):
                persons = collections.Counter(
                    match.person
                    for match in client.search(STORED.take([0]), 1000, threshold=None, where={"not_cameras": [9]})
                )
                found.update({person: count for person, count in persons.items() if person >= 1000 and count != 7})
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        changing = [threads.submit(change, number) for number in range(4)]
        searching = [threads.submit(search, number) for number in range(4)]
        for future in changing:
            future.result()
        assert not sum((future.result() for future in searching), collections.Counter())
    with GalleryClient(server.target) as client:
        # Of 15 persons, those of the odd turns and the last stay.
        assert client.stats(verify=True)[1:4] == (30 + 4 * 8 * 7, 6, 4 + 4 * 8)
