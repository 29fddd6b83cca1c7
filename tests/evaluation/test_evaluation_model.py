"""A model scored on a test set: its own embeddings under every protocol, without junk and unreadable tracklets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.data.tracklet import JUNK, ReidDataset, Tracklet
from kreid.evaluation import evaluate_model, evaluate_test

pytestmark = pytest.mark.usefixtures("eagerly")

# Person, camera; junk is the first, so that the queries' rows move.
LABELS = [(JUNK, 1), (1, 1), (1, 2), (2, 1), (2, 2), (0, 2), (3, 1), (3, 2)]
QUERIES = (1, 3, 6)


@pytest.fixture(scope="module")
def model():
    return kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 3)


@pytest.fixture
def dataset(tmp_path):
    """Eight tracklets of two frames of noise."""
    tracklets = []
    for number, (person, camera) in enumerate(LABELS):
        frames = []
        for time in range(2):
            pixels = np.random.default_rng((number, time)).integers(0, 256, (32, 32, 3), np.uint8)
            frames.append(str(tmp_path / f"{number}_{time}.png"))
            Image.fromarray(pixels).save(frames[-1])
        tracklets.append(Tracklet(f"t{number}", person, camera, tuple(frames)))
    return ReidDataset("own", (), tuple(tracklets), QUERIES)


def pixels_of(tracklet):
    return np.stack([np.asarray(Image.open(path)) for path in tracklet.frames])[None]


def test_scores_are_those_of_the_models_embeddings(model, dataset):
    found = evaluate_model(model, dataset, progress=False)
    real = [number for number, (person, _) in enumerate(LABELS) if person != JUNK]
    expected = np.concatenate([model.embed(pixels_of(dataset.test[number])) for number in real])
    np.testing.assert_allclose(found.embeddings.embeddings, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert list(found.embeddings.ids) == [f"t{number}" for number in real]
    assert list(found.embeddings.query_ids) == ["t1", "t3", "t6"]
    persons, cameras = np.array(LABELS).T
    queries = [real.index(row) for row in QUERIES]
    scores = evaluate_test(found.embeddings.embeddings, persons[real], cameras[real], queries, model.metric)
    assert list(found.protocols) == ["standard", "mars", "with_queries"]
    for protocol, result in scores.items():
        assert found.protocols[protocol].to_dict() == result.to_dict()


def test_an_unreadable_query_is_skipped_and_named(model, dataset):
    for path in dataset.test[3].frames:
        Path(path).write_bytes(b"not an image")
    found = evaluate_model(model, dataset, max_damaged=0.5, progress=False)
    assert list(found.embeddings.query_ids) == ["t1", "t6"]
    assert [Path(name).name for name in found.embeddings.unreadable] == ["t3"]
    assert found.protocols["standard"].num_queries == 2
    with pytest.raises(ValueError, match="cannot be read"):
        evaluate_model(model, dataset, progress=False)
