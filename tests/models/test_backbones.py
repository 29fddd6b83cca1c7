"""Every system on small backbones, kreid's and Keras's: gradients reach all of it, and saved models embed the same."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from network_samples import BLOCKS, CONVOLUTIONS, convolutions, transformer

import kreid
from kreid.backbones import from_keras
from kreid.models import SYSTEMS
from kreid.serving.export import export_model
from kreid.testing import check_export

pytestmark = pytest.mark.usefixtures("eagerly")

SETTINGS = {
    "sta": {"num_stripes": 2},
    "mg_rafa": {"num_granularities": 1},
    "tacan": {"embedding_dim": 8, "clip_length": 2},
}
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 64, 32, 3), dtype="uint8")
LENGTHS = np.array([4, 4], "int32")


def build(name):
    if name == "transformer":
        return from_keras(transformer(class_token=True), BLOCKS, preprocessing="torch")
    if name == "convolutions":
        return from_keras(convolutions(), CONVOLUTIONS, last_stride=1, preprocessing="tf")
    return kreid.backbones.build(name, image_size=(64, 32), last_stride=1, width=8)


NAMES = ("mobilenet_v2", "osnet_x0_25", "convolutions", "transformer")
# RTF runs the stages one by one, and with that does all that the others do: each backbone has it, and each other system
# is here on one or two backbones. The other pairs repeat these parts.
OTHERS = {("mobilenet_v2", "tacan"), ("osnet_x0_25", "gltr"), ("convolutions", "baseline"), ("convolutions", "mg_rafa")}
OTHERS |= {("transformer", "sta"), ("transformer", "mg_rafa")}
PAIRS = [
    pytest.param(*pair, marks=() if pair[1] == "rtf" or pair in OTHERS else pytest.mark.slow)
    for pair in [*itertools.product(NAMES, SYSTEMS), ("resnet50_ibn_a", "rtf")]
]


@pytest.mark.parametrize(("name", "system"), PAIRS)
def test_systems_on_small_backbones(name, system, tmp_path):
    keras.utils.set_random_seed(0)
    model = SYSTEMS[system](build(name), num_identities=2, **SETTINGS.get(system, {}))
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


@pytest.mark.usefixtures("in_graphs")
def test_the_export_of_a_network_of_keras(tmp_path):
    model = kreid.models.RTF(build("convolutions"), num_identities=2, attention="average")
    check_export(model, export_model(model, tmp_path, warmup=False))
