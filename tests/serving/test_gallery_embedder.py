"""Galleries beside the model that embeds images for them."""

import dataclasses
import shutil
import threading

import numpy as np
import pytest
from serving_samples import encode, random_tracklet
from small_exports import copy_version

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from kreid.gallery import GalleryModel, MemoryGallery, TrackletEmbeddings
from kreid.serving import (
    EmbeddingClient,
    EmbeddingServer,
    GalleryClient,
    ServingError,
    read_card,
)

IMAGES = [[encode(frame, "PNG") for frame in random_tracklet(seed, 1 + seed)] for seed in range(3)]
LABELS = {"ids": ["a", "b", "c"], "persons": [7, 0, 9], "cameras": [1, 2, 2]}


@pytest.fixture
def client(server):
    """A client of the gallery beside the tests' model, which is empty again afterwards."""
    with GalleryClient(server.target) as client:
        yield client
        client.delete({"not_cameras": [-1]})


@pytest.fixture(scope="module")
def embedded(server):
    """The images, embedded by the same server."""
    with EmbeddingClient(server.target) as client:
        embeddings, _ = client.embed_images(IMAGES)
    return TrackletEmbeddings(np.asarray(embeddings), **LABELS, metric="cosine", model=embeddings.fingerprint)


def test_images_are_embedded_as_by_the_model(client, server, embedded):
    assert client.stats().takes_images
    tags = [{"coat": "red"}, {}, {}]
    assert client.add_images(IMAGES, *LABELS.values(), starts=[1.0, np.nan, 3.0], tags=tags).added == 3
    read = server.gallery.get(["a", "b", "c"])
    np.testing.assert_allclose(read.embeddings, embedded.embeddings, atol=1e-5)
    np.testing.assert_array_equal(read.starts, [1.0, np.nan, 3.0])
    assert list(read.tags) == tags
    # A query of images has no id: its own tracklet is found.
    found = client.search_images(IMAGES, threshold=None, count=1)
    assert [match.id for (match,) in found] == ["a", "b", "c"]
    assert max(match.distance for (match,) in found) < 1e-4
    by_embedding = client.search_many(dataclasses.replace(embedded, ids=["x", "y", "z"]), threshold=None)
    by_images = client.search_images(IMAGES, threshold=None)
    assert [[match.id for match in own] for own in by_images] == [[match.id for match in own] for own in by_embedding]
    others = client.search_images(IMAGES[:1], cameras=[2], other_cameras=True, threshold=None)
    assert [match.id for match in others[0]] == ["a"]


def test_damaged_images_are_left_out_and_a_tracklet_of_them_is_refused(client, server):
    damaged = [IMAGES[1] + [b"\xff\xd8 damaged"], IMAGES[2]]
    before = server.unreadable_images
    assert client.add_images(damaged, ["a", "b"], [1, 2], [1, 1]).added == 2
    assert server.unreadable_images == before + 1
    with pytest.raises(ServingError) as caught:
        client.add_images([IMAGES[0], [b"\xff\xd8 damaged"]], ["c", "d"], [1, 2], [1, 1])
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "leave out the 1 that are not. Received: tracklet 1 (id='d') of 1 images" in caught.value.message
    with pytest.raises(ServingError, match="The model takes at most 1024 images of a tracklet; thin it"):
        client.search_images([[b"\xff\xd8"] * 1025])
    assert client.stats().tracklets == 2


def test_a_gallery_of_another_model_is_refused_at_the_start(small_path):
    gallery = MemoryGallery(GalleryModel("ab" * 32, 4, "euclidean"))
    with pytest.raises(ValueError) as caught:
        EmbeddingServer(small_path, port=0, gallery=gallery).start()
    message = str(caught.value)
    assert "`kreid evaluate RUN` writes RUN/report/embeddings.npz" in message
    assert message.endswith("Received: a gallery of model='abababababab'; the export has version 3 '000000000000'")


def test_after_a_reload_of_another_model_embeddings_go_on_and_images_do_not(small_export, tmp_path):
    copy_version(small_export, tmp_path, 3)
    model = GalleryModel(f"{3:064x}", 4, "euclidean")
    record = TrackletEmbeddings(np.eye(4), list("abcd"), [1, 2, 3, 4], [1] * 4, model=model.fingerprint)
    with (
        EmbeddingServer(tmp_path, port=0, poll_seconds=0.05, gallery=MemoryGallery(model)) as server,
        GalleryClient(server.target) as client,
    ):
        assert client.stats().takes_images
        # The small export has no such signature: the model is asked.
        with pytest.raises(ServingError, match='FAILED_PRECONDITION: Serving signature key "embed_jpeg" not found'):
            client.search_images(IMAGES)
        copy_version(small_export, tmp_path, 4)
        while client.stats().takes_images:
            threading.Event().wait(0.02)
        for ask in (lambda: client.search_images(IMAGES), lambda: client.add_images(IMAGES, *LABELS.values())):
            with pytest.raises(ServingError, match="FAILED_PRECONDITION: The server now serves another model than the"):
                ask()
        assert client.add(record).added == 4
        assert client.search(record.take([0]), count=1)[0].id == "b"
        shutil.rmtree(tmp_path / "4")
        while not client.stats().takes_images:
            threading.Event().wait(0.02)


def test_the_search_of_an_export_is_that_of_the_gallery_in_it(server, fixed_gallery):
    stored = fixed_gallery.read()
    vectors = stored.embeddings * 1.5 + 0.2
    queries = dataclasses.replace(stored, ids=[f"q{row}" for row in range(12)], embeddings=vectors)
    expected = fixed_gallery.search_many(queries, 3, by_person=True)
    with EmbeddingClient(server.target) as client:
        assert client.card()["gallery"] == {"tracklets": 12, "persons": 4, "threshold": 0.9, "count": 3}
        found = client.predict("search", {"embedding": queries.embeddings}).outputs
    assert "probability" not in found  # without a calibration
    for row, matches in enumerate(expected):
        assert found["person"][row, : len(matches)].tolist() == [match.person for match in matches]
        assert found["tracklet"][row, : len(matches)].tolist() == [match.id.encode() for match in matches]
        distances = [match.distance for match in matches]
        np.testing.assert_allclose(found["distance"][row, : len(matches)], distances, atol=1e-6)
        assert (found["person"][row, len(matches) :] == -1).all()


def test_a_card_names_the_gallery_s_model(base_path):
    model = GalleryModel.from_card(read_card(base_path / "3"), "3")
    assert (model.dimension, model.system, model.threshold) == (128, "Baseline", None)
