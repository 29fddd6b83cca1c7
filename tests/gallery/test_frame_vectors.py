"""The mean of frame vectors against single frames embedded one by one."""

import numpy as np
import pytest
import tensorflow as tf

import kreid
from kreid.data.clips import evenly
from kreid.data.frames import read_frames
from kreid.data.readers import read_mars
from kreid.gallery import mean_frame_vector
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


def test_refusals(tracklets):
    sta = kreid.models.STA(kreid.backbones.build(**BACKBONE), 4, num_stripes=2)
    with pytest.raises(ValueError, match="STA with part_frames=None"):
        mean_frame_vector(sta, tracklets)
    with pytest.raises(ValueError, match=r"tracklets=\(\)"):
        mean_frame_vector(kreid.models.Baseline(kreid.backbones.build(**BACKBONE), 4), ())
