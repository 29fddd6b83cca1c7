"""A training step is traced and compiled once for its shape, in its first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kreid import training

SETTINGS = {
    "backbone": "resnet_tiny",
    "image_size": [64, 32],
    "persons_per_batch": 2,
    "tracklets_per_person": 2,
    "num_frames": 2,
}


def traces(xla, epochs=3):
    """Returns how often the step has been traced after each step of a fit of several epochs of two steps."""
    config = training.Config("baseline", **SETTINGS)
    losses = training.build_losses(config)
    model = training.build_model(config, num_identities=4)
    model.compile(training.build_optimizer(config, 2), losses, jit_compile=xla)
    count, step = [], model.train_step

    def counted(data):
        count.append(1)
        return step(data)

    model.train_step = counted
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 64, 32, 3)).astype("uint8")
    inputs = {"frames": frames, "lengths": np.full(4, 2, "int32")}
    labels = dict.fromkeys(losses, np.array([0, 0, 1, 1], "int32"))
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat()
    after = []
    noted = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: after.append(len(count)))
    model.fit(data, epochs=epochs, steps_per_epoch=2, verbose=0, shuffle=False, callbacks=[noted])
    return after


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, True])
def test_one_trace_for_one_shape(xla):
    # TensorFlow traces a function again that made variables, here the optimiser's and the metrics'.
    assert traces(xla) == [2] * 6


COUNT_ON_JAX = """
import jax, keras, numpy as np
from kreid import training
from kreid.models import Baseline

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **kwargs: compiled.append(kwargs) if name.endswith("backend_compile_duration") else None
)
config = training.Config("baseline", backbone="resnet_tiny", image_size=[64, 32])
model = training.build_model(config, num_identities=4)
frames = np.zeros((7, 11, 64, 32, 3), "uint8")
model.embed(frames[:6, :9])
first = len(compiled)
for count, length in ((6, 9), (5, 10), (6, 12), (5, 11)):
    assert model.embed(frames[:count, :length]).shape == (count, model.embedding_dim)
assert len(compiled) == first, (first, len(compiled))
model.embed(frames)  # 7 tracklets are padded to 8
assert len(compiled) > first
"""


@pytest.mark.slow
def test_batches_of_similar_shape_are_embedded_by_one_program_on_jax(on_jax):
    on_jax(COUNT_ON_JAX)
