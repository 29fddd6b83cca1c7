"""Embeddings of single frames, and the mean of frame vectors, against frames embedded one by one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import kreid
from kreid.data.clips import evenly
from kreid.data.frames import read_frames
from kreid.data.readers import read_mars
from kreid.gallery import embed_frames, mean_frame_vector
from kreid.synthetic import render_mars

pytestmark = pytest.mark.usefixtures("eagerly")
BACKBONE = {"name": "resnet_tiny", "image_size": (64, 32), "width": 8}


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "mars"
    size = {"tracklets_per_camera": (1, 1), "frames_per_tracklet": (1, 6), "image_size": (64, 32)}
    return read_mars(render_mars(root, train_persons=2, test_persons=2, progress=False, **size)).train


def test_mean_frame_vector(tracklets):
    model = kreid.models.Baseline(kreid.backbones.build(**BACKBONE), 4)
    means = []
    for tracklet in tracklets:
        paths = [tracklet.frames[place] for place in evenly(len(tracklet), 4)]
        frames = read_frames(tf.constant(paths), (64, 32))[0].numpy()[:, None]
        single = model.part_encoder.predict_on_batch({"frames": frames, "lengths": np.ones(len(frames), "int32")})
        means.append(single[:, 0].astype("float64").mean(axis=0))
    found = mean_frame_vector(model, tracklets, batch_frames=8, progress=False)
    np.testing.assert_allclose(found, np.mean(means, axis=0), rtol=1e-3, atol=1e-4)


def test_embed_frames_leaves_unreadable_ones_out(tracklets, tmp_path):
    model = kreid.models.Baseline(kreid.backbones.build(**BACKBONE), 4)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no picture")
    first = dataclasses.replace(tracklets[0], frames=(tracklets[0].frames[0], str(damaged), tracklets[1].frames[0]))
    lost = dataclasses.replace(tracklets[1], frames=(str(damaged),))
    found = embed_frames(model, [first, lost, tracklets[2]], max_damaged=1.0, progress=False)
    assert [one.places.tolist() for one in found] == [[0, 2], [], list(range(len(tracklets[2])))]
    assert found[0].tracklet == dataclasses.replace(first, frames=(first.frames[0], first.frames[2]))
    assert found[1].vectors.shape == (0, model.embedding_dim)
    frames = read_frames(tf.constant(tracklets[2].frames), (64, 32))[0].numpy()
    for vector, frame in zip(found[2].vectors, frames, strict=True):
        np.testing.assert_allclose(vector, model.embed(frame[None, None])[0], rtol=1e-3, atol=1e-4)
    few = embed_frames(model, tracklets[:3], most=2, progress=False)
    assert [one.places.tolist() for one in few] == [evenly(len(one), 2).tolist() for one in tracklets[:3]]


def test_refusals(tracklets):
    sta = kreid.models.STA(kreid.backbones.build(**BACKBONE), 4, num_stripes=2)
    with pytest.raises(ValueError, match="STA with part_frames=None"):
        mean_frame_vector(sta, tracklets)
    with pytest.raises(ValueError, match=r"tracklets=\(\)"):
        mean_frame_vector(kreid.models.Baseline(kreid.backbones.build(**BACKBONE), 4), ())
