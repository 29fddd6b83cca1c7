"""Every public layer keeps the contract of `check_layer`, on TensorFlow and on JAX."""

import keras
import numpy as np
import pytest
from layer_cases import CASES

import kreid
from kreid.layers import FrameAverage
from kreid.testing import check_layer


def test_every_public_layer_has_a_case():
    assert {case.split("/")[0] for case in CASES} == set(kreid.layers.__all__)


@pytest.mark.parametrize("case", CASES)
def test_contract(case):
    kwargs, inputs, options = CASES[case]
    # A few ReLU units may all be dead by chance, and then no gradient passes.
    keras.utils.set_random_seed(1)
    check_layer(getattr(kreid.layers, case.split("/")[0]), kwargs, inputs, **options)


@pytest.mark.parametrize("case", CASES)
def test_symbolic_dtypes_under_mixed_precision(case):
    kwargs, inputs, options = CASES[case]
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    layer = getattr(kreid.layers, case.split("/")[0])(**kwargs, dtype="mixed_bfloat16")
    for extra in ({}, {"return_attention": True}) if options.get("attention") else ({},):
        real = keras.tree.flatten(layer(*arrays, **extra))
        symbolic = keras.tree.flatten(layer(*(keras.KerasTensor(x.shape, str(x.dtype)) for x in arrays), **extra))
        assert [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in real] == [
            (x.shape, x.dtype) for x in symbolic
        ]


class ReadsPadding(keras.layers.Layer):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

        self.supports_masking = True

    def build(self, input_shape):
        """Has no weights."""

    def call(self, inputs, mask=None):
        return keras.ops.mean(inputs, axis=1) * self.scale

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class ForgetsItsArgument(ReadsPadding):
    def get_config(self):
        config = super().get_config()
        config.pop("scale")
        return config


class RegularizesPadding(FrameAverage):
    def call(self, inputs, weights=None, mask=None, training=None, return_attention=False):
        if training:
            real = keras.ops.any(mask, axis=1)[:, None] if mask is not None else True
            self.add_loss(self.penalty(inputs, real))
        return super().call(inputs, weights, mask=mask, return_attention=return_attention)

    def penalty(self, inputs, real):
        return keras.ops.mean(keras.ops.square(inputs))


class RegularizesWhatItCutsOff(RegularizesPadding):
    def penalty(self, inputs, real):
        # NaN is kept out of the loss, and padding is not.
        return keras.ops.mean(keras.ops.where(inputs == inputs, inputs, 0.0))


class TakesAnyMask(FrameAverage):
    def call(self, inputs, weights=None, mask=None, return_attention=False):
        if mask is not None and len(mask.shape) == 1:
            mask = keras.ops.broadcast_to(mask[:, None], keras.ops.shape(inputs)[:2])
        return super().call(inputs, weights, mask=mask, return_attention=return_attention)


class ForgetsItsPolicy(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return inputs * 2

    def get_config(self):
        return {"name": self.name}


class HasDeadWeight(keras.layers.Layer):
    def build(self, input_shape):
        self.dead = self.add_weight(shape=(), name="dead")

    def call(self, inputs):
        return inputs + 0 * self.dead


@pytest.mark.parametrize(
    ("layer", "kwargs", "options", "complaint"),
    [
        (ForgetsItsArgument, {"scale": 2.0}, {}, "config names every argument"),
        (ReadsPadding, {"scale": 2.0}, {}, "padding of nan"),
        (RegularizesPadding, {}, {}, "in training, padding of nan leaves the added losses finite"),
        (RegularizesWhatItCutsOff, {}, {}, "in training, padding of 10000.0 gets no gradient"),
        (TakesAnyMask, {}, {}, "lengths instead of a mask raises ValueError"),
        (ForgetsItsPolicy, {}, {"masked": False}, "config keeps a policy object"),
        (HasDeadWeight, {}, {"masked": False}, "dead gets a gradient"),
    ],
)
def test_the_contract_finds_faults(layer, kwargs, options, complaint):
    keras.saving.register_keras_serializable(package="test")(layer)
    with pytest.raises(AssertionError, match=complaint):
        check_layer(layer, kwargs, np.random.default_rng(0).random((3, 4, 5), "float32"), **options)
