"""Saved models give equal embeddings on JAX, without TensorFlow, and have the same fingerprints."""

import keras
import numpy as np
from network_samples import CONVOLUTIONS, convolutions

import kreid
from kreid.backbones import from_keras

CODE = """
import keras, numpy as np, kreid.models
assert keras.backend.backend() == "jax"
with np.load(f"{sys.argv[1]}/given.npz") as given:
    found = {}
    for name in (*kreid.models.SYSTEMS, "network"):
        model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
        found[name] = model.embed(given["frames"], given["lengths"])
        found[name + "_fingerprint"] = kreid.models.fingerprint(model)
    # Branches that start from the frames' statistics share no buffer with them: JAX takes each buffer once.
    made = kreid.models.RTF(kreid.backbones.build("resnet_tiny", (64, 32), width=8), 5, stages=[1, 4])
    assert np.isfinite(made.embed(given["frames"], given["lengths"])).all()
np.savez(f"{sys.argv[1]}/found.npz", **found)
"""


def test_equal_embeddings(on_jax, tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 5, 64, 32, 3)).astype("uint8")
    lengths = np.array([5, 1, 3])
    np.savez(tmp_path / "given.npz", frames=frames, lengths=lengths)
    expected, fingerprints = {}, {}
    for name, system in kreid.models.SYSTEMS.items():
        keras.utils.set_random_seed(0)
        small = {"num_granularities": 2} if name == "mg_rafa" else {}
        model = system(kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1), 5, **small)
        model.save(tmp_path / f"{name}.keras")
        expected[name] = model.embed(frames, lengths)
        fingerprints[name] = kreid.models.fingerprint(model)
    network = from_keras(convolutions(), CONVOLUTIONS, preprocessing="tf")
    model = kreid.models.Baseline(network, 5)
    model.save(tmp_path / "network.keras")
    expected["network"] = model.embed(frames, lengths)
    fingerprints["network"] = kreid.models.fingerprint(model)
    on_jax(CODE, tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
            assert found[f"{name}_fingerprint"].item() == fingerprints[name]
