"""A test set with bad frames: the scores of the frames that are drawn, and no others."""

import numpy as np
import pytest
import tensorflow as tf

from kreid.backbones import build
from kreid.data import ReidDataset, Tracklet, draw_bad_frames, spoil
from kreid.evaluation import evaluate_test
from kreid.models import Baseline
from kreid.training.table_bad_frames import score_bad_frames

pytestmark = pytest.mark.usefixtures("eagerly")


def pixels(path):
    return tf.io.decode_jpeg(tf.io.read_file(path)).numpy()


@pytest.fixture
def dataset(tmp_path):
    """Persons 1 to 3 in two cameras, junk and a distractor, in tracklets of 3 and 4 frames."""
    random = np.random.default_rng(0)
    tracklets = []
    for number, (person, length) in enumerate([(1, 4), (-1, 3), (2, 3), (1, 3), (0, 4), (2, 4), (3, 3)]):
        frames = []
        for frame in range(length):
            frames.append(str(tmp_path / f"{number}_{frame}.jpg"))
            tf.io.write_file(frames[-1], tf.io.encode_jpeg(random.integers(0, 256, (64, 32, 3), dtype=np.uint8)))
        tracklets.append(Tracklet(f"t{number}", person=person, camera=number % 2, frames=tuple(frames)))
    return ReidDataset("few", train=(), test=tuple(tracklets), query_rows=(0, 2))


@pytest.mark.parametrize("kind", ["another_person", "dark"])
def test_scores_are_those_of_the_drawn_frames(dataset, kind):
    model = Baseline(build("resnet_tiny", (64, 32), width=8), num_identities=2)
    ids, scores = score_bad_frames(model, dataset, [kind], 0.5)
    real = [tracklet for tracklet in dataset.test if tracklet.person != -1]
    embeddings = []
    for one in draw_bad_frames(real, kind, 0.5):
        assert one.bad.any()
        frames = spoil(np.stack([pixels(path) for path in one.tracklet.frames]), one.faults)
        embeddings.append(model.embed(frames[None])[0])
    persons, cameras = [one.person for one in real], [one.camera for one in real]
    expected = evaluate_test(np.array(embeddings), persons, cameras, [0, 1], model.metric)
    assert ids == ["t0", "t2"]
    assert list(scores) == [kind]
    for protocol, result in scores[kind].items():
        np.testing.assert_array_equal(result.first_hit, expected[protocol].first_hit)
        np.testing.assert_allclose(result.average_precision, expected[protocol].average_precision)
