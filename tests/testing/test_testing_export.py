"""`check_export` passes the exports of kreid's systems and finds faults; merged requests are answered as alone."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving_session import Session

import kreid
from kreid.serving import export_model, read_card
from kreid.testing import check_export

LIMIT = 12


def model(system="baseline", **kwargs):
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8, last_stride=1)
    # Its granularities need maps that can be halved.
    small = {"num_granularities": 2} if system == "mg_rafa" else {}
    return kreid.models.SYSTEMS[system](backbone, 4, **small, **kwargs)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Function: name of a system -> its model, its export with limits that small requests reach, and a session."""
    made = {}

    def export(system):
        if system not in made:
            folder = tmp_path_factory.mktemp(system)
            new = model(system)
            path = export_model(new, folder, warmup=False, frame_limit=LIMIT, frames_at_once=4)
            made[system] = new, path, Session(path)
        return made[system]

    return export


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def jpegs(frames):
    images = np.empty(frames.shape[:2], object)
    for place in np.ndindex(images.shape):
        stream = io.BytesIO()
        Image.fromarray(frames[place]).save(stream, "JPEG")
        images[place] = stream.getvalue()
    return images


def check_merged(session, signature, requests, **options):
    """Check each row of a merged batch against its request alone; return whether it was refused, by request."""
    refused = []
    for request, rows in zip(requests, session.run_merged(signature, requests, **options), strict=True):
        valid = rows["valid_frames" if "valid_frames" in rows else "valid_vectors"]
        assert (np.isnan(rows["embedding"]).all(axis=1) == (valid <= 0)).all()
        refused.append((valid < 0).tolist())
        if (valid < 0).all():
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {LIMIT} frames"):
                session.run(signature, **request)
            continue
        alone = session.run(signature, **request)
        scale = np.nanmax(np.abs(alone["embedding"]), initial=1e-3)
        np.testing.assert_allclose(rows["embedding"], alone["embedding"], rtol=1e-5, atol=1e-5 * scale)
        for name in alone:
            if name != "embedding":
                np.testing.assert_array_equal(rows[name], alone[name])
    return refused


# One system of each kind is fast: vectors of frames, vectors of clips, and maps.
ONE_OF_EACH_KIND = [
    name if name in ("baseline", "tacan", "sta") else pytest.param(name, marks=pytest.mark.slow)
    for name in kreid.models.SYSTEMS
]


@pytest.mark.parametrize("system", ONE_OF_EACH_KIND)
def test_export(system, exports):
    made, folder, _ = exports(system)
    embeddings = check_export(made, folder)
    assert embeddings.shape == (2, made.embedding_dim)


@pytest.mark.parametrize("system", ONE_OF_EACH_KIND)
def test_merged_and_padded_requests_are_answered_as_alone(system, exports):
    made, folder, session = exports(system)
    frames = [noise(rows, length, 64, 32, 3, seed=length) for rows, length in ((1, 3), (2, LIMIT), (1, 1), (1, 40))]
    dark = np.zeros((1, 5, 64, 32, 3), np.uint8)
    dark[0, 1] = 9
    refused = [[False], [False, False], [False], [True], [False]]

    requests = [{"frames": one} for one in (*frames, dark)]
    assert check_merged(session, "serving_default", requests, allowed_batch_size=8) == refused
    # A frame of noise is no padding, whatever comes before it.
    late = np.concatenate([dark, noise(1, 1, 64, 32, 3)], axis=1)
    answer = session.run("serving_default", frames=late)
    assert answer["valid_frames"].tolist() == [6]
    np.testing.assert_allclose(answer["embedding"], made.embed(late), rtol=1e-4, atol=1e-5)

    requests = [{"frames": one, "lengths": np.full(len(one), one.shape[1], np.int32)} for one in (*frames, dark)]
    requests[1]["lengths"][1] = 0
    assert check_merged(session, "embed_padded", requests, allowed_batch_size=8) == refused

    requests = [{"images": jpegs(request["frames"]), "lengths": request["lengths"]} for request in requests]
    requests[0]["images"][0, 0] = b"no image, and the padding of its request"
    assert check_merged(session, "embed_jpeg", requests, allowed_batch_size=8) == refused

    if "aggregate" in read_card(folder)["signatures"]:
        requests = [{"frames": one, "lengths": np.full(len(one), one.shape[1], np.int32)} for one in frames]
        rows = session.run_merged("encode_frames", requests)
        alone = [session.run("encode_frames", **request) for request in requests[:3]]
        for row, one in zip(rows, alone, strict=False):
            size = one["vectors"].shape[1]
            np.testing.assert_allclose(row["vectors"][:, :size], one["vectors"], rtol=1e-5, atol=1e-5)
            assert (row["vectors"][:, size:] == 0).all()
            np.testing.assert_array_equal(row["lengths"], one["lengths"])
        assert rows[3]["lengths"].tolist() == [-1]
        assert check_merged(session, "aggregate", alone) == refused[:3]


def test_a_long_batch_is_computed_in_groups(exports):
    made, _, session = exports("tacan")
    frames = noise(40, LIMIT, 64, 32, 3)
    # 36 tracklets in the first group and 4 in the second.
    lengths = np.arange(40, dtype=np.int32) % 8
    answer = session.run("embed_padded", frames=frames, lengths=lengths)
    expected = made.embed(frames, lengths)
    expected[lengths == 0] = np.nan
    np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-4, atol=1e-5)
    # 16 tracklets of the limit in a batch, and no more.
    answer = session.run("embed_padded", frames=frames[:20], lengths=np.full(20, LIMIT, np.int32))
    assert answer["valid_frames"].tolist() == [LIMIT] * 16 + [-1] * 4


def test_a_selection_of_frames_is_exported(tmp_path):
    made = model("tacan", test_selection="evenly", test_frames=6)
    folder = export_model(made, tmp_path, warmup=False, frames_at_once=4)
    frames, lengths = noise(3, 9, 64, 32, 3), np.array([9, 2, 7], np.int32)
    answer = Session(folder).run("embed_padded", frames=frames, lengths=lengths)
    np.testing.assert_allclose(answer["embedding"], made.embed(frames, lengths), rtol=1e-4, atol=1e-5)
    card = read_card(folder)
    assert set(card["signatures"]) == {"serving_default", "embed_padded", "embed_jpeg", "describe"}
    assert "selected before they are encoded" in card["lacks"]["encode_frames"]


def test_the_export_of_another_model_is_found(exports):
    _, folder, _ = exports("baseline")
    with pytest.raises(AssertionError, match="serving_default gives the embeddings of embed"):
        check_export(model(), folder)
