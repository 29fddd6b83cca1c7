import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from kreid.serving import wire


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array([1.5, -2.5], np.float32),
        np.array([[b"a", b""]], object),
        np.zeros((0, 4), np.int32),
        np.array(7, np.int64),
        np.array([True, False]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_tensors_equal_tensorflows(array):
    """TensorFlow's own message classes are the oracle, in both directions and both forms."""
    message = wire.messages()["Tensor"]()
    wire.fill_tensor(message, array)
    np.testing.assert_array_equal(
        tf.make_ndarray(tensor_pb2.TensorProto.FromString(message.SerializeToString())), array
    )
    tensorflows = wire.messages()["Tensor"].FromString(tf.make_tensor_proto(array).SerializeToString())
    read = wire.read_tensor(tensorflows)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)


def test_values_that_a_message_omits_are_read():
    sent = tensor_pb2.TensorProto(dtype=1, float_val=[1.0, 2.0])
    sent.tensor_shape.dim.add(size=4)
    read = wire.read_tensor(wire.messages()["Tensor"].FromString(sent.SerializeToString()))
    np.testing.assert_array_equal(read, tf.make_ndarray(sent))
    assert read.tolist() == [1, 2, 2, 2]


def test_a_dtype_outside_the_protocol_is_refused():
    with pytest.raises(TypeError, match="Received: dtype=complex64"):
        wire.fill_tensor(wire.messages()["Tensor"](), np.zeros(1, np.complex64))
    with pytest.raises(TypeError, match="Received: dtype=99"):
        wire.read_tensor(wire.messages()["Tensor"](dtype=99))
