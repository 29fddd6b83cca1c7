"""Every public layer keeps the contract of `check_layer`, on TensorFlow and on JAX."""

import keras
import numpy as np
import pytest
from layer_cases import CASES

import kreid
from kreid.testing import check_layer


@pytest.mark.parametrize("name", kreid.layers.__all__)
def test_contract(name):
    kwargs, inputs, options = CASES[name]
    check_layer(getattr(kreid.layers, name), kwargs, inputs, **options)


class ReadsPadding(keras.layers.Layer):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

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
        (HasDeadWeight, {}, {"masked": False}, "dead gets a gradient"),
    ],
)
def test_the_contract_finds_faults(layer, kwargs, options, complaint):
    keras.saving.register_keras_serializable(package="test")(layer)
    with pytest.raises(AssertionError, match=complaint):
        check_layer(layer, kwargs, np.random.default_rng(0).random((3, 4, 5), "float32"), **options)
