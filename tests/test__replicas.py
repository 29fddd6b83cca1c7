"""Losses and batch normalisation on two virtual devices against the whole batch on one."""

import os
import subprocess
import sys

# In a process of its own: TensorFlow's devices are chosen once.
CODE = """
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from kreid.backbones import FusedBatchNormalization
from kreid.layers.normalization import BatchNormalization
from kreid.losses import BatchHardTriplet, MinMax, SemiHardTriplet, SmoothedIdentity, WeightedSum

rng = np.random.default_rng(0)
# One person has tracklets on both devices, and two single tracklets have no partner.
labels = np.array([0, 0, 1, 2, 1, 1, 3, 3], "int32")
features = rng.normal(size=(8, 5)).astype("float32")
maps = rng.normal(2, 3, (8, 4, 2, 3)).astype("float32")
mask = np.array([[True] * 4, [True] + [False] * 3] * 4)
vectors = np.where(mask[..., None], maps[:, :, 0], 0).astype("float32")


def run(strategy, values, step):
    if strategy is None:
        return [step(*map(tf.constant, values))]
    halves = [[tf.constant(value[place * 4 : place * 4 + 4]) for value in values] for place in range(2)]
    inputs = strategy.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group]
    )
    results = tf.function(lambda: strategy.run(step, args=inputs))()
    return list(zip(*(strategy.experimental_local_results(result) for result in results)))


def loss_and_gradient(loss):
    def step(labels, features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = loss(labels, features)
        return value, tape.gradient(value, features)

    return step


def compare(whole, parts):
    np.testing.assert_allclose(sum(part[0] for part in parts), whole[0][0], rtol=1e-5)
    gradients = np.concatenate([part[1] for part in parts])
    np.testing.assert_allclose(gradients, whole[0][1], rtol=1e-4, atol=1e-6)


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for loss in (
    BatchHardTriplet(1.0, reduction="sum"),
    WeightedSum([BatchHardTriplet("soft", "squared_euclidean"), SmoothedIdentity()], [2.0, 0.5]),
    SemiHardTriplet(1.0),
    MinMax(),
):
    step = loss_and_gradient(loss)
    compare(run(None, (labels, features), step), run(strategy, (labels, features), step))

# Each replica alone: the mean of the values that the halves of the batch have on one device.
for loss in (MinMax(mining="replica"), BatchHardTriplet(1.0, mining="replica")):
    step = loss_and_gradient(loss)
    parts = run(strategy, (labels, features), step)
    for place, (value, gradient) in enumerate(parts):
        half = slice(place * 4, place * 4 + 4)
        own_value, own_gradient = step(tf.constant(labels[half]), tf.constant(features[half]))
        np.testing.assert_allclose(value, own_value / 2, rtol=1e-5)
        np.testing.assert_allclose(gradient, own_gradient / 2, rtol=1e-4, atol=1e-6)


def normalised(layer):
    def step(x, *mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True, **({"mask": mask[0]} if mask else {}))
            value = tf.reduce_sum(tf.square(outputs) * tf.cast(outputs > 0, tf.float32))
        return outputs, tape.gradient(value, x)

    return step


for make, values in (
    (lambda: FusedBatchNormalization(momentum=0.8), (maps,)),
    (BatchNormalization, (vectors, mask)),
):
    single = make()
    single.build(values[0].shape)
    outputs, gradient = run(None, values, normalised(single))[0]
    for over_replicas in (True, False):
        with strategy.scope():
            mirrored = make()
            mirrored.build(values[0].shape)
        mirrored.over_replicas = over_replicas
        parts = run(strategy, values, normalised(mirrored))
        if over_replicas:
            np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), outputs, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), gradient, rtol=1e-3, atol=1e-4)
            expected = [single.moving_mean.numpy(), single.moving_variance.numpy()]
        else:
            halves = []
            for place in range(2):
                half = make()
                half.build(values[0].shape)
                own, _ = run(None, [value[place * 4 : place * 4 + 4] for value in values], normalised(half))[0]
                np.testing.assert_allclose(parts[place][0], own, rtol=1e-4, atol=1e-5)
                halves.append([half.moving_mean.numpy(), half.moving_variance.numpy()])
            expected = np.mean(halves, axis=0)
        for statistic, value in zip((mirrored.moving_mean, mirrored.moving_variance), expected):
            for copy in strategy.experimental_local_results(statistic.value):
                np.testing.assert_allclose(copy.numpy(), value, rtol=1e-4)
"""


def test_two_replicas_equal_one_device():
    ran = subprocess.run([sys.executable, "-c", CODE], env=dict(os.environ), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
