"""Every system on the small backbones: trains, embeds, and keeps its embeddings when it is saved."""

import keras
import numpy as np
import pytest

import kreid
from kreid.models import SYSTEMS

pytestmark = pytest.mark.usefixtures("eagerly")

SETTINGS = {
    "sta": {"num_stripes": 2, "num_frames": 4},
    "mg_rafa": {"num_granularities": 1},
    "tacan": {"embedding_dim": 8, "clip_length": 2},
}
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (2, 4, 64, 32, 3), dtype="uint8")
LENGTHS = np.array([4, 4], "int32")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["mobilenet_v2"])
def test_systems_on_small_backbones(name, system, tmp_path):
    backbone = kreid.backbones.build(name, image_size=(64, 32), last_stride=1, width=8)
    model = SYSTEMS[system](backbone, num_identities=2, **SETTINGS.get(system, {}))
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.backbone.trainable_weights}
    losses = {target: kreid.losses.SmoothedIdentity() for target in model.loss_targets if target.startswith("logits")}
    model.compile(keras.optimizers.SGD(0.1), losses, jit_compile=False)
    model.fit({"frames": FRAMES, "lengths": LENGTHS}, dict.fromkeys(losses, np.array([0, 1])), epochs=2, verbose=0)
    moved = {path for path, value in before.items() if np.abs(value - _value(model, path)).max() > 0}
    assert moved == set(before)
    embeddings = model.embed(FRAMES, LENGTHS)
    assert np.isfinite(embeddings).all()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(kreid.load_model(tmp_path / "model.keras").embed(FRAMES, LENGTHS), embeddings)


def _value(model, path):
    return next(keras.ops.convert_to_numpy(weight) for weight in model.backbone.weights if weight.path == path)
