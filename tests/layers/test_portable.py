import keras
import numpy as np
import pytest

from kreid.layers.portable import first_largest, identity


@pytest.mark.parametrize("axis", [1, 2])
def test_first_largest_is_one_at_the_argmax(axis):
    # Few different values, so that most maxima are shared, and negative ones.
    values = np.random.default_rng(0).integers(-2, 2, (6, 5, 4)).astype("float32")
    expected = np.zeros_like(values)
    np.put_along_axis(expected, np.expand_dims(values.argmax(axis), axis), 1.0, axis)
    ones = keras.ops.convert_to_numpy(first_largest(values, axis))
    assert ones.dtype == "float32"
    np.testing.assert_array_equal(ones, expected)


@pytest.mark.parametrize("size", [1, 4])
def test_identity(size):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(identity(size)), np.eye(size, dtype=bool))
