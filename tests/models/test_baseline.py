"""The baseline's embedding before and after its neck."""

import numpy as np
import pytest
from model_samples import FRAMES, SIZE, batch, compiled

import kreid
from kreid.models import Baseline

pytestmark = pytest.mark.usefixtures("eagerly")


def test_baseline_embeds_after_the_neck_or_before():
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE), 6)
    compiled(model).fit(*batch(), epochs=2, verbose=0)
    pooled = model({"frames": FRAMES, "lengths": np.full(4, 5, "int32")})["features"].numpy().astype("float64")
    neck = model.bnneck
    mean, variance, gamma = (np.asarray(v) for v in (neck.moving_mean, neck.moving_variance, neck.gamma))
    expected = (pooled - mean) / np.sqrt(variance + neck.epsilon) * gamma
    np.testing.assert_allclose(model.embed(FRAMES), expected, rtol=1e-3, atol=1e-3)
