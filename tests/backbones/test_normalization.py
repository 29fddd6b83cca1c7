"""The fused kernel against batch normalisation written out in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kreid.backbones import FusedBatchNormalization
from kreid.backbones.normalization import InstanceBatchNormalization, convolve_and_normalize

RNG = np.random.default_rng(1)
MAPS = RNG.normal(2, 3, (6, 4, 2, 5)).astype("float32")


def layer(**kwargs):
    made = FusedBatchNormalization(momentum=0.8, epsilon=1e-3, **kwargs)
    made.build(MAPS.shape)
    made.set_weights([RNG.uniform(0.5, 2, 5), RNG.normal(size=5), RNG.normal(size=5), RNG.uniform(0.5, 2, 5)])
    return made


def test_training():
    made = layer()
    gamma, beta, moving_mean, moving_variance = (np.asarray(w, "float64") for w in made.get_weights())
    x = MAPS.astype("float64")
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(made(MAPS, training=True), expected, rtol=1e-4, atol=1e-5)
    values = x.size // 5
    np.testing.assert_allclose(made.moving_mean, 0.8 * moving_mean + 0.2 * mean, rtol=1e-5)
    unbiased = variance * values / (values - 1)
    np.testing.assert_allclose(made.moving_variance, 0.8 * moving_variance + 0.2 * unbiased, rtol=1e-5)


def test_gradients_equal_those_of_keras():
    made = layer()
    plain = keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3)
    plain.build(MAPS.shape)
    plain.set_weights(made.get_weights())
    weights = RNG.normal(size=MAPS.shape).astype("float32")
    found = []
    for one in (made, plain):
        x = tf.constant(MAPS)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(one(x, training=True) * weights)
        found.append(tape.gradient(value, [x, one.gamma.value, one.beta.value]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_inference_and_frozen(frozen):
    made = layer()
    made.trainable = not frozen
    before = made.get_weights()
    gamma, beta, mean, variance = before
    expected = (MAPS - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(made(MAPS, training=frozen), expected, rtol=1e-4, atol=1e-4)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_float32_statistics(policy):
    made = layer(dtype=policy)
    outputs = made(MAPS, training=True)
    assert outputs.dtype == made.compute_dtype
    assert made.moving_variance.dtype == "float32"
    full = layer()
    full.set_weights(made.get_weights())
    expected = full(MAPS, training=True)
    np.testing.assert_allclose(tf.cast(outputs, "float32"), expected, atol=0.05)


def test_options_that_the_kernel_lacks():
    for kwargs in ({"axis": 1}, {"center": False}, {"scale": False}):
        with pytest.raises(ValueError, match=f"last axis.*Received: {next(iter(kwargs))}="):
            FusedBatchNormalization(**kwargs)


def test_float64_and_config():
    made = layer(dtype="float64")
    assert made(MAPS, training=True).dtype == "float64"
    twin = FusedBatchNormalization.from_config(FusedBatchNormalization(0.8, branches=3, name="bn").get_config())
    assert (twin.name, twin.momentum, twin.epsilon, twin.branches) == ("bn", 0.8, 1e-3, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_branches_share_scale_and_centre_and_keep_their_statistics_apart(dtype):
    made = FusedBatchNormalization(0.8, branches=3, dtype=dtype)
    made.build(MAPS.shape)
    assert len(made.trainable_weights) == 2
    assert len(made.weights) == 8
    other = (MAPS * 2 - 7).astype(dtype)
    trained = made(MAPS.astype(dtype), training=True), made(other, training=True, branch=2)
    # The same maps but for place and scale: normalised by the batch they are equal.
    np.testing.assert_allclose(*trained, rtol=1e-2, atol=1e-2)
    alone = FusedBatchNormalization(0.8, dtype=dtype)
    alone(other, training=True)
    for mine, theirs in zip(made.statistics[2], alone.statistics[0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(made(other, branch=2), alone(other))
    np.testing.assert_array_equal(made.statistics[1][0], np.zeros(5))
    np.testing.assert_array_equal(made.statistics[1][1], np.ones(5))
    made.copy_statistics()
    np.testing.assert_array_equal(made(other, branch=2), made(other))
    with pytest.raises(ValueError, match=r"at least one branch.*branches=0"):
        FusedBatchNormalization(branches=0)


def test_float64_is_kerass_own_but_for_the_unbiased_variance():
    made, plain = layer(dtype="float64"), keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3, dtype="float64")
    plain.build(MAPS.shape)
    plain.set_weights(made.get_weights())
    before = np.asarray(plain.moving_variance)
    np.testing.assert_allclose(made(MAPS, training=True), plain(MAPS, training=True), rtol=1e-12)
    values = MAPS.size // 5
    biased = np.asarray(plain.moving_variance) - 0.8 * before
    plain.moving_variance.assign(0.8 * before + biased * values / (values - 1))
    np.testing.assert_allclose(made(MAPS), plain(MAPS), rtol=1e-6)
    for mine, theirs in zip(made.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_instance_normalisation_of_the_first_half(training):
    x = RNG.normal(2, 3, (6, 4, 2, 8)).astype("float32")
    made = InstanceBatchNormalization(0.8, 1e-5, 2, name="ibn")
    made.build(x.shape)
    assert [layer.name for layer in made.halves] == ["ibn_instance", "ibn_batch"]
    scale, centre, gamma, beta, *moving = values = [RNG.uniform(0.5, 2, 4) for _ in range(8)]
    made.set_weights(values)
    first, second = x[..., :4].astype("float64"), x[..., 4:].astype("float64")
    mean, variance = first.mean(axis=(1, 2), keepdims=True), first.var(axis=(1, 2), keepdims=True)
    instances = (first - mean) / np.sqrt(variance + 1e-5) * scale + centre
    of_batch = second.mean(axis=(0, 1, 2)), second.var(axis=(0, 1, 2))
    for branch, given in enumerate((moving[:2], moving[2:])):
        mean, variance = of_batch if training else given
        batch = (second - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        expected = np.concatenate([instances, batch], axis=-1)
        np.testing.assert_allclose(made(x, training=training, branch=branch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branch", [0, 1])
@pytest.mark.parametrize(
    "options",
    [{}, {"use_bias": True}, {"strides": 2, "padding": "same"}, {"dilation_rate": 2, "padding": "same"}],
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_at_test_the_convolution_takes_in_the_normalisation(depthwise, options, branch):
    kind = {"kernel_size": 2, "use_bias": False, "bias_initializer": "random_normal", "dtype": "float64", **options}
    conv = keras.layers.DepthwiseConv2D(**kind) if depthwise else keras.layers.Conv2D(5, **kind)
    made = FusedBatchNormalization(epsilon=1e-3, branches=2, dtype="float64")
    made.build(MAPS.shape)
    made.set_weights([RNG.uniform(0.5, 2, 5) for _ in range(6)])
    convolved = np.asarray(conv(MAPS))
    mean, variance = (np.asarray(weight) for weight in made.statistics[branch])
    expected = (convolved - mean) / np.sqrt(variance + 1e-3) * np.asarray(made.gamma) + np.asarray(made.beta)
    outputs = convolve_and_normalize(conv, made, keras.ops.cast(MAPS, "float64"), False, branch)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)


def test_in_training_the_batch_normalises_after_the_convolution():
    conv, made = keras.layers.Conv2D(5, 1), layer()
    outputs = np.asarray(convolve_and_normalize(conv, made, MAPS, True, 0))
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), made.beta, atol=1e-5)
