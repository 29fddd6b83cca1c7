"""Scores with attention and with equal weights, and how unequal weights are."""

import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.evaluation import evaluate_model, evaluate_uniform_attention, weight_spreads
from kreid.evaluation.uniform_attention import _unevenness
from kreid.models import with_uniform_attention

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three persons in two cameras; frames get brighter. One tracklet has a single frame."""
    folder, tracklets = tmp_path_factory.mktemp("frames"), []
    for number, (person, camera) in enumerate([(p, c) for p in (1, 2, 3) for c in (1, 2)]):
        frames = []
        for time in range(1 if number == 5 else 3):
            noise = np.random.default_rng((number, time)).integers(0, 256, (32, 32, 3)) * (time + 1) / 3
            frames.append(str(folder / f"{number}_{time}.png"))
            Image.fromarray(noise.astype(np.uint8)).save(frames[-1])
        tracklets.append(Tracklet(f"t{number}", person, camera, tuple(frames)))
    return ReidDataset("own", (), tuple(tracklets), (0, 2, 4))


@pytest.fixture(scope="module")
def model():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8)
    return kreid.models.Baseline(backbone, 3, pooling="agreement", embedding_from="pooled")


def test_scores_and_differences_are_those_of_both_models(model, dataset):
    found = evaluate_uniform_attention(model, dataset, progress=False)
    own = evaluate_model(model, dataset, progress=False).protocols
    uniform = evaluate_model(with_uniform_attention(model), dataset, progress=False).protocols
    for protocol in own:
        assert found.own[protocol].scores() == own[protocol].scores()
        assert found.uniform[protocol].scores() == uniform[protocol].scores()
    difference = np.nanmean(own["mars"].average_precision - uniform["mars"].average_precision)
    assert found.differences()["mAP"].mean == pytest.approx(difference)
    assert f"mAP {100 * own['mars'].map:.1f} with attention" in found.table()
    assert found.numbers()["weights"]["frames"]["tracklets"] == 5


def test_spreads_are_those_of_the_explainers_weights(model, dataset):
    ratios, entropies = [], []
    for tracklet in dataset.test[:5]:
        frames = np.stack([np.asarray(Image.open(path)) for path in tracklet.frames])[None]
        weights = model.explainer.predict_on_batch(model.checked_batch(frames))["frames"][0].astype("float64")
        weights /= weights.sum()
        ratios.append(weights.max() / weights.mean())
        entropies.append(-np.sum(weights * np.log(weights)) / np.log(3))
    spread = weight_spreads(model, dataset)["frames"]
    assert spread.tracklets == 5
    np.testing.assert_allclose(spread.max_over_mean, [min(ratios), np.mean(ratios), max(ratios)], rtol=1e-4)
    np.testing.assert_allclose(spread.entropy, [min(entropies), np.mean(entropies), max(entropies)], rtol=1e-4)
    equal = weight_spreads(with_uniform_attention(model), dataset)["frames"]
    np.testing.assert_allclose([*equal.max_over_mean, *equal.entropy], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "expected"), [([2, 2], (1, 1)), ([0, 3, 0, 0], (4, 0)), ([0, 0], (1, 1)), ([1, 1, 0, 0], (2, 0.5))]
)
def test_unevenness_of_known_weights(weights, expected):
    assert _unevenness(np.array(weights, float)) == pytest.approx(expected)
