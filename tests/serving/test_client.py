import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc")

from serving_samples import encode, random_tracklet

from kreid.serving import EmbeddingClient, EmbeddingServer, Retry, ServingError, export_model, read_card

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(server):
    with EmbeddingClient(server.target, timeout=None) as client:
        yield client


def test_frames_of_different_lengths(client, model):
    tracklets = [random_tracklet(seed, 1 + seed) for seed in range(4)]
    embeddings = client.embed_frames(tracklets)
    assert embeddings.dtype == np.float32
    for row, frames in enumerate(tracklets):
        np.testing.assert_allclose(embeddings[row], model.embed(frames[None])[0], rtol=1e-4, atol=1e-5)


def test_images_of_different_sizes_and_some_damaged(client, model):
    tracklets = [
        [encode(frame, "PNG") for frame in random_tracklet(0, 3)],
        [b"x", encode(random_tracklet(1, 1)[0], "PNG")],
        [],
        [encode(random_tracklet(2, 1, size=(200, 90))[0])],
    ]
    embeddings, valid = client.embed_images(tracklets)
    assert valid.tolist() == [3, 1, 0, 1]
    assert np.isfinite(embeddings).all(axis=1).tolist() == [True, True, False, True]
    assert np.isnan(embeddings[2]).all()
    # PNGs of the model's image size are decoded without loss.
    np.testing.assert_allclose(embeddings[0], model.embed(random_tracklet(0, 3)[None])[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embeddings[1], model.embed(random_tracklet(1, 1)[None])[0], rtol=1e-4, atol=1e-5)


def test_empty_lists(client, model):
    assert client.embed_frames([]).shape == (0, model.embedding_dim)
    embeddings, valid = client.embed_images([])
    assert (embeddings.shape, valid.shape) == ((0, model.embedding_dim), (0,))


def test_long_lists_are_split_by_the_frame_limit(client, model):
    tracklets = [[encode(random_tracklet(seed % 5, 1)[0])] * (300 if seed == 3 else 2) for seed in range(12)]
    embeddings, valid = client.embed_images(tracklets)
    assert valid.tolist() == [len(images) for images in tracklets]
    np.testing.assert_allclose(embeddings[0], embeddings[5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embeddings[3], embeddings[8], rtol=1e-3, atol=1e-4)


def test_long_lists_are_split_by_message_size(server, model):
    size = 128 * 1024
    tracklets = [random_tracklet(seed, 4) for seed in range(9)]
    with EmbeddingClient(server.target, max_message_bytes=size, timeout=None) as client:
        embeddings = client.embed_frames(tracklets)
    np.testing.assert_allclose(embeddings, model.embed(np.stack(tracklets)), rtol=1e-4, atol=1e-5)


def test_vectors_of_frames_are_aggregated_to_the_same_embeddings(server, model):
    tracklets = [random_tracklet(seed, 1 + seed) for seed in range(4)]
    with EmbeddingClient(server.target, frames_at_once=6, timeout=None) as client:
        vectors = client.encode_frames(tracklets)
        embeddings = client.aggregate(vectors)
        np.testing.assert_allclose(embeddings, client.embed_frames(tracklets), rtol=1e-4, atol=1e-5)
        assert [len(rows) for rows in vectors] == [1, 2, 3, 4]
        assert {rows.model for rows in vectors} == {embeddings.model}
        assert client.aggregate([]).shape == (0, model.embedding_dim)
        for wrong in ([vectors[0], vectors[1][:, :-1]], [vectors[0][0]], [vectors[0][:0]]):
            with pytest.raises(ValueError, match=rf"Tracklet {len(wrong) - 1} must be vectors \(parts, values\)"):
                client.aggregate(wrong)
        vectors[1].model = vectors[1].model._replace(fingerprint="0" * 64)
        with pytest.raises(ValueError, match="tracklet 1 was made by another model than the one that answers"):
            client.aggregate(vectors)


def test_card_status_and_metadata(client, model):
    assert client.card()["metric"] == model.metric
    assert client.card()["image_size"] == [64, 32]
    assert client.status() == [{"version": 3, "state": "AVAILABLE", "error": ""}]
    assert client.metadata()["embed_padded"] == {
        "inputs": {"frames": ("uint8", (-1, -1, 64, 32, 3)), "lengths": ("int32", (-1,))},
        "outputs": {"embedding": ("float32", (-1, model.embedding_dim)), "valid_frames": ("int32", (-1,))},
    }


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 64, 32, 3)), np.zeros((64, 32, 3), np.uint8), np.zeros((0, 64, 32, 3), np.uint8)],
    ids=["floats", "one image", "no frame"],
)
def test_other_arrays_are_refused_before_sending(client, frames):
    with pytest.raises(ValueError, match="Tracklet 1 must be uint8"):
        client.embed_frames([random_tracklet(0, 1), frames])


def test_a_tracklet_of_damaged_images_has_no_embedding(client):
    embeddings, valid = client.embed_images([[b"damaged", encode(random_tracklet(0, 1)[0])[:300]]])
    assert valid.tolist() == [0]
    assert np.isnan(embeddings).all()


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        ({"model": "other"}, "NOT_FOUND", "correct the model name"),
        ({"version": 8}, "NOT_FOUND", "correct the model name or version"),
        ({"target": "127.0.0.1:1"}, "UNAVAILABLE", "start the server"),
        ({"target": "no-such-host.invalid:8500"}, "UNAVAILABLE", "correct the target's host name"),
        ({"timeout": 1e-6}, "DEADLINE_EXCEEDED", "longer timeout"),
    ],
)
def test_errors_give_a_hint(server, options, code, hint):
    settings = {"target": server.target, "retry": Retry(attempts=1), **options}
    with EmbeddingClient(**settings) as client, pytest.raises(ServingError) as caught:
        client.embed_images([[b"x"]])
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert code in str(caught.value)


def test_a_tracklet_above_the_limit_is_the_servers_error(client):
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT: .*at most 1024 frames.*; thin the tracklet"):
        client.embed_images([[b"x"] * 1025])
    assert client.status()


def test_the_client_needs_neither_tensorflow_nor_keras(server):
    code = (
        "import sys, numpy as np\n"
        "from kreid.serving import EmbeddingClient\n"
        f"with EmbeddingClient({server.target!r}) as client:\n"
        "    client.embed_frames([np.zeros((1, 64, 32, 3), np.uint8)]); client.metadata(); client.status()\n"
        "print([name for name in ('tensorflow', 'keras', 'tensorflow_serving') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_a_model_exchanged_on_the_server_is_followed(base_path, model, client, tmp_path):
    """The server loads a new version by itself; one client follows, another stays with the weights that it pinned."""
    from kreid import backbones, models

    shutil.copytree(base_path / "3", tmp_path / "3", ignore=shutil.ignore_patterns("tf_serving_warmup_requests"))
    frames = [random_tracklet(0, 2)]
    old = client.embed_frames(frames).model
    with (
        EmbeddingServer(tmp_path, port=0, versions="latest:2", labels={"stable": 3}, poll_seconds=0.1) as server,
        EmbeddingClient(server.target, timeout=None) as follower,
        EmbeddingClient(server.target, timeout=None, fingerprint=old.fingerprint) as faithful,
        EmbeddingClient(server.target, timeout=None, label="stable") as labelled,
    ):
        assert follower.embed_frames(frames).model == faithful.embed_frames(frames).model == old
        new = models.Baseline(backbones.build("resnet_tiny", image_size=model.image_size), num_identities=5)
        export_model(new, tmp_path, version=4, warmup=False)
        while (embeddings := follower.embed_frames(frames)).version == 3:
            time.sleep(0.05)
        assert (embeddings.version, embeddings.fingerprint) == (4, read_card(tmp_path / "4")["fingerprint"])
        assert not np.allclose(embeddings, model.embed(np.stack(frames)), rtol=1e-2)
        for keeping in (faithful, labelled):
            kept = keeping.embed_frames(frames)
            assert kept.model == old
            np.testing.assert_allclose(kept, model.embed(np.stack(frames)), rtol=1e-4, atol=1e-5)
        assert [item["version"] for item in follower.status()] == [4, 3]
