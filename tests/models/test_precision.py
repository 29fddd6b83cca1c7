"""Half precision against float32, for every system at the size of `overlays/small.yaml`."""

import keras
import numpy as np
import pytest

from kreid import training
from kreid.models import SYSTEMS

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 8, 128, 64, 3)).astype("uint8")
LENGTHS = np.array([8, 8, 5, 3], "int32")


def outputs(system, policy, weights=None):
    """Returns the embeddings, what training compares, and the weights, all as arrays."""
    config = training.load_config(system, data="mars", overlays=["small"], settings=["weights=null"])
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = training.build_model(config, num_identities=20)
    finally:
        keras.config.set_dtype_policy("float32")
    if weights is not None:
        model.set_weights(weights)
    trained = model({"frames": FRAMES, "lengths": LENGTHS}, training=False)
    trained = {name: keras.ops.convert_to_numpy(value) for name, value in trained.items()}
    return {"embedding": model.embed(FRAMES, LENGTHS), **trained}, model.get_weights()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_half_precision_agrees_with_float32(system, policy):
    expected, weights = outputs(system, "float32")
    found, _ = outputs(system, policy, weights)
    for name, values in expected.items():
        # Every embedding, and the outputs of training over the batch.
        axis = 1 if name == "embedding" else None
        error = np.linalg.norm(found[name] - values, axis=axis) / np.linalg.norm(values, axis=axis)
        assert np.max(error) < 0.04, (name, error)
