import keras
import numpy as np
import pytest
from runtime_samples import make

from kreid.runtimes.graph import in_float32

pytestmark = pytest.mark.usefixtures("eagerly")


def test_half_precision_becomes_float32_with_the_same_weights():
    model = make("baseline", image_size=(32, 32), dtype="mixed_bfloat16")
    twin = in_float32(model)
    assert {layer.compute_dtype for layer in twin.embedder._flatten_layers()} == {"float32"}
    for weight, same in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32, 3)).astype("uint8")
    exact, rounded = twin.embed(frames), model.embed(frames)
    assert 0 < np.linalg.norm(exact - rounded) < 0.05 * np.linalg.norm(exact)


def test_a_float32_model_is_itself():
    model = make("baseline", image_size=(32, 32))
    assert in_float32(model) is model
    assert model.dtype_policy == keras.DTypePolicy("float32")
