"""Every system on the small backbones: gradients reach the whole backbone, and saved models embed the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kreid
from kreid.models import SYSTEMS

pytestmark = pytest.mark.usefixtures("eagerly")

SETTINGS = {
    "sta": {"num_stripes": 2},
    "mg_rafa": {"num_granularities": 1},
    "tacan": {"embedding_dim": 8, "clip_length": 2},
}
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 64, 32, 3), dtype="uint8")
LENGTHS = np.array([4, 4], "int32")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["mobilenet_v2", "osnet_x0_25"])
def test_systems_on_small_backbones(name, system, tmp_path):
    keras.utils.set_random_seed(0)
    backbone = kreid.backbones.build(name, image_size=(64, 32), last_stride=1, width=8)
    model = SYSTEMS[system](backbone, num_identities=2, **SETTINGS.get(system, {}))
    with tf.GradientTape() as tape:
        outputs = model({"frames": FRAMES, "lengths": LENGTHS}, training=True)
        total = sum(tf.reduce_sum(tf.square(outputs[target])) for target in model.loss_targets)
    weights = model.backbone.trainable_weights
    gradients = tape.gradient(total, [weight.value for weight in weights])
    # A gate of one hidden unit may be shut by chance.
    without = [
        weight.path
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is None or ("gate" not in weight.path and not np.any(gradient))
    ]
    assert not without
    embeddings = model.embed(FRAMES, LENGTHS)
    assert np.isfinite(embeddings).all()
    assert np.abs(embeddings).max() > 0
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(kreid.load_model(tmp_path / "model.keras").embed(FRAMES, LENGTHS), embeddings)
