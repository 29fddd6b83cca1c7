"""Chunks train as one batch: gradients, statistics of the head, random numbers and added losses; on JAX too."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import kreid
from kreid.losses import BatchHardTriplet, SmoothedIdentity
from kreid.models.cached_step import step_of_tensorflow

FRAMES = np.random.default_rng(3).integers(0, 256, (6, 3, 64, 32, 3)).astype("uint8")
LENGTHS = np.array([3, 1, 2, 3, 3, 2], "int32")
LABELS = np.array([0, 0, 1, 1, 2, 0], "int32")


def made(system=kreid.models.Baseline, frozen=True, dtype=None, **arguments):
    """Returns a compiled model; with `frozen` no batch normalisation trains before the vector."""
    keras.utils.set_random_seed(0)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    model = system(backbone, num_identities=4, dtype=dtype, **arguments)
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not frozen
    losses = {"logits": SmoothedIdentity(0.1), "features": BatchHardTriplet(1.0)}
    model.compile(keras.optimizers.SGD(0.01), losses, jit_compile=keras.backend.backend() == "jax")
    return model


def stepped(chunks, frames=3, **arguments):
    """Returns the loss and the weights after two steps; `chunks` of 0 is a single chunk, embedded twice."""
    model = made(**arguments)
    model.cached_chunks = chunks or 1
    if not chunks:
        model.train_step = functools.partial(step_of_tensorflow, model)
    labels = dict.fromkeys(model.loss_targets, LABELS)
    inputs = {"frames": FRAMES[:, :frames], "lengths": LENGTHS if frames == 3 else np.full(6, frames, "int32")}
    logs = [model.train_on_batch(inputs, labels, return_dict=True) for _ in range(2)]
    weights = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    return logs[-1], weights


def compare(chunks, **arguments):
    logs, weights = stepped(1, **arguments)
    cached_logs, cached = stepped(chunks, **arguments)
    assert cached_logs.keys() == logs.keys()
    for name, value in logs.items():
        np.testing.assert_allclose(cached_logs[name], value, rtol=1e-4, err_msg=name)
    arguments.pop("frames", None)
    start = {variable.path: keras.ops.convert_to_numpy(variable) for variable in made(**arguments).variables}
    start = {path: value for path, value in start.items() if "seed_generator" not in path}
    for path, value in start.items():
        # The steps are compared, not the weights, which are much larger.
        change, expected = cached[path] - value, weights[path] - value
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max() + 1e-7, err_msg=path)
    moved = [path for path, value in start.items() if np.abs(weights[path] - value).max() > 1e-5]
    assert any("conv" in path for path in moved)
    # STA has no batch normalisation after its vector.
    assert any("bnneck/moving_mean" in path for path in moved) == any("bnneck" in path for path in start)


def test_chunks_train_as_one_batch():
    compare(3)


@pytest.mark.slow
def test_added_losses_are_averaged_over_chunks():
    # Of two frames there is one pair, whatever the random numbers.
    compare(3, system=kreid.models.STA, regularization=1.0, frames=2)


class Dropping(kreid.models.Baseline):
    """A baseline with dropout before its vector."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.drop = keras.layers.Dropout(0.5, seed=1)

    def aggregate_parts(self, vectors, mask):
        vector, attention = super().aggregate_parts(vectors, mask)
        return self.drop(vector), attention


@pytest.mark.slow
def test_both_passes_draw_the_same_random_numbers():
    compare(0, system=Dropping)


def test_trained_batch_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"freeze_batch_norm=true.*Received: cached_chunks=2, \d+ layers"):
        stepped(2, frozen=False)


def test_unequal_chunks_are_refused():
    with pytest.raises(ValueError, match=r"choose a divisor of 6\. Received: cached_chunks=4"):
        stepped(4)


@pytest.mark.slow
def test_chunks_train_as_one_batch_on_jax(jax_environment):
    pytest.importorskip("jax")
    ran = subprocess.run(
        [sys.executable, __file__], env={**os.environ, **jax_environment}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


if __name__ == "__main__":
    compare(3)
