"""What importing kreid imports, and that the JAX backend does without TensorFlow."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import kreid

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # importing it now fails
import keras, numpy as np, kreid, kreid.models
from kreid.testing import check_layer
assert keras.backend.backend() == "jax"
sys.path.insert(0, sys.argv[1])
from layer_cases import CASES
for name in kreid.layers.__all__:
    kwargs, inputs, options = CASES[name]
    check_layer(getattr(kreid.layers, name), kwargs, inputs, **options)
with np.load(sys.argv[2]) as given:
    found = {}
    for name in kreid.models.SYSTEMS:
        model = keras.models.load_model(f"{sys.argv[3]}/{name}.keras")
        found[name] = model.embed(given["frames"], given["lengths"])
np.savez(sys.argv[4], **found)
"""


def run(code, *arguments, **environment):
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_import_is_light():
    loaded = run("import kreid, kreid.data, kreid.evaluation, kreid.serving, kreid.training, sys; print(*sys.modules)")
    assert not {"keras", "tensorflow", "jax"} & set(loaded.split())


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
def test_jax_without_tensorflow_gives_equal_embeddings(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 5, 64, 32, 3)).astype("uint8")
    lengths = np.array([5, 1, 3])
    np.savez(tmp_path / "given.npz", frames=frames, lengths=lengths)
    expected = {}
    for name, system in kreid.models.SYSTEMS.items():
        keras.utils.set_random_seed(0)
        small = {"num_granularities": 2} if name == "mg_rafa" else {}
        model = system(kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1), 5, **small)
        model.save(tmp_path / f"{name}.keras")
        expected[name] = model.embed(frames, lengths)
    layers = os.path.join(os.path.dirname(__file__), "layers")
    given, found = tmp_path / "given.npz", tmp_path / "found.npz"
    run(WITHOUT_TENSORFLOW, layers, given, tmp_path, found, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    with np.load(found) as found:
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
