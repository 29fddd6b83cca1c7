"""Read the tensors of requests within bounds of memory.

A TensorProto may leave out values that repeat the last one, so a few bytes can stand for any number of elements. A
PredictRequest of many small fields needs a multiple of its size once it is parsed. Both are checked beforehand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kreid.serving.refusal import RequestRefused

if TYPE_CHECKING:
    import numpy as np

# Bytes of a tensor whose values were not all sent. Some clients leave out the values of a constant tensor.
MAX_UNFOLDED_BYTES = 1024 * 1024
# Fields of one request. A request has a field per image and a dozen more.
MAX_FIELDS = 100_000

_VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int8": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "uint16": "int_val",
    "int32": "int_val",
    "uint32": "uint32_val",
    "int64": "int64_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
}
# TensorProto.resource_handle_val and variant_val, which hold messages in any number and depth.
_NESTED_FIELDS = (14, 15)
# TensorFlow's string object, and NumPy's pointer to a Python object.
_BYTES_PER_STRING = 32


def read_request_tensor(alias: str, tensor: Any) -> np.ndarray:
    """Read one input of a request.

    Args:
        alias: the input's name, for the message.
        tensor: a TensorProto.

    Returns:
        The array; for strings an object array of bytes.

    Raises:
        RequestRefused: if the tensor contradicts itself, has a dtype of no signature, or stands for more than 1 MiB
            of values that were not sent.
    """
    import tensorflow as tf

    message = f"tensor parsing error: {alias}"
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise RequestRefused("INVALID_ARGUMENT", message)
    # In Python integers, because NumPy's product overflows.
    elements = 1
    for size in shape:
        elements *= size
    try:
        dtype = tf.as_dtype(tensor.dtype)
        sent, unfolded = _sizes(tensor, dtype, elements)
        if sent < elements and unfolded > MAX_UNFOLDED_BYTES:
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"{message}: {sent} values were sent for {elements} elements, which need {unfolded} bytes; send every "
                f"value, or at most {MAX_UNFOLDED_BYTES} bytes of repeated values",
            )
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise RequestRefused("INVALID_ARGUMENT", message) from error


def _sizes(tensor: Any, dtype: Any, elements: int) -> tuple[int, int]:
    """Return the number of values in a TensorProto, and the bytes of the whole tensor."""
    values = getattr(tensor, _VALUE_FIELDS[dtype.name])
    if dtype.name != "string":
        sent = len(tensor.tensor_content) // dtype.size if tensor.tensor_content else len(values)
        return sent, elements * dtype.size
    longest = len(values[-1]) if values else 0
    return len(values), elements * (_BYTES_PER_STRING + longest)


def check_fields(body: bytes) -> None:
    """Check, without parsing it, that a serialised PredictRequest has no more than `MAX_FIELDS` fields.

    Bytes that are no message pass; the parser refuses them.

    Args:
        body: the request.

    Raises:
        RequestRefused: if it has more.

    Example:

    >>> check_fields(b"")
    >>> check_fields(bytes([0x12, 0]) * 200_000)
    Traceback (most recent call last):
    ...
    kreid.serving.refusal.RequestRefused: A request may have at most 100000 fields; send numbers as tensor_content.
    """
    left = MAX_FIELDS
    # The request's fields, then those of each input's map entry, tensor and shape. Numbers without a field of their own
    # are packed into one.
    parts, depth = [(0, len(body))], 0
    while parts and depth < 5:
        inner: list[tuple[int, int]] = []
        for start, end in parts:
            place = start
            while place < end:
                left -= 1
                if left < 0:
                    raise RequestRefused(
                        "INVALID_ARGUMENT",
                        f"A request may have at most {MAX_FIELDS} fields; send numbers as tensor_content.",
                    )
                tag, place = varint(body, place, end)
                kind = tag & 7
                if kind == 2:
                    size, place = varint(body, place, end)
                    if depth == 2 and tag >> 3 in _NESTED_FIELDS:
                        raise RequestRefused("INVALID_ARGUMENT", "A request may hold no resources and no variants.")
                    # Field 2 is an input of the request, the tensor of a map entry and the shape of a tensor, whose
                    # own field 2 holds its dimensions.
                    if tag >> 3 == 2 and place + size <= end:
                        inner.append((place, place + size))
                    place += size
                elif kind == 0:
                    _, place = varint(body, place, end)
                elif kind in (1, 5):
                    place += 8 if kind == 1 else 4
                elif kind in (6, 7):
                    return  # no message
        parts, depth = inner, depth + 1


def varint(body: bytes, place: int, end: int) -> tuple[int, int]:
    """Return the number at a place of a serialised message and the place after it.

    The place is the end for a number that is cut or too long.
    """
    number = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = body[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    return 0, end
