"""STA: frames selected in the embedder, averages, regularisation, attention."""

import numpy as np
import pytest
from model_samples import FRAMES, LENGTHS, SIZE, batch, make

import kreid
from kreid.models import STA

pytestmark = pytest.mark.usefixtures("eagerly")


def test_sta_selects_frames_inside_the_embedder():
    model = make("sta", test_frames=2)
    whole = model.embed(FRAMES[:1])
    chosen = model.embed(FRAMES[:1, model.selection.positions(5)])
    np.testing.assert_array_equal(whole, chosen)
    assert np.abs(whole - make("sta", test_frames=4).embed(FRAMES[:1])).max() > 0


def test_sta_averages_instead():
    model = make("sta", attention="average", test_frames=4)
    maps = model.backbone(model.preprocessing(FRAMES)).numpy().astype("float64")
    kernel, bias = (weight.numpy().astype("float64") for weight in model.dense.weights)
    expected = maps[:, :4].mean(axis=(1, 2, 3)) @ kernel + bias
    np.testing.assert_allclose(model.embed(FRAMES[:, :4]), expected, rtol=1e-3, atol=1e-4)
    assert "stripes" not in model.explainer.output


def test_sta_adds_its_regularisation_to_the_loss():
    for weight, expected in ((0.2, 1), (0.0, 0)):
        model = make("sta", regularization=weight)
        model(batch()[0], training=True)
        assert len(model.losses) == expected


def test_explainer_gives_the_attention():
    model = STA(kreid.backbones.build("resnet_tiny", image_size=SIZE, last_stride=1), 6)
    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    assert explained["stripes"].shape == (4, 4, 4)
    assert explained["maps"].shape == (4, 4, 4, 2)
    np.testing.assert_allclose(explained["stripes"].sum(axis=1)[:3], 1.0, rtol=1e-5)
    assert not explained["stripes"][1, 1:].any(), "tracklet 1 has one real frame"
