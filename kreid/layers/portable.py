"""Operations that ONNX, LiteRT and OpenVINO take too, in place of `ops.argmax` and `ops.eye`."""

from keras import ops

from kreid._typing import Tensor


def first_largest(values: Tensor, axis: int) -> Tensor:
    """Return float32 ones where the values are largest along an axis, at the first of equal ones, and zeros elsewhere.

    Example:

    >>> from kreid.layers.portable import first_largest
    >>> keras.ops.convert_to_numpy(first_largest(np.array([[1.0, 3.0, 3.0]]), axis=1)).tolist()
    [[0.0, 1.0, 0.0]]
    """
    values = ops.convert_to_tensor(values)
    largest = ops.cast(values >= ops.max(values, axis=axis, keepdims=True), "int32")
    return ops.cast(largest * ops.cumsum(largest, axis=axis) == 1, "float32")


def identity(size: int | Tensor) -> Tensor:
    """Return the identity matrix, bool `(size, size)`.

    Example:

    >>> from kreid.layers.portable import identity
    >>> keras.ops.convert_to_numpy(identity(2)).tolist()
    [[True, False], [False, True]]
    """
    positions = ops.arange(size, dtype="int32")
    return ops.equal(ops.expand_dims(positions, 1), ops.expand_dims(positions, 0))
