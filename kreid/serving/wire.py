"""The part of TensorFlow Serving's protocol that a client needs, without TensorFlow.

The pip package `tensorflow-serving-api` depends on all of TensorFlow. A client needs
only a dozen messages. They are declared here as a table of field numbers, and
protobuf builds them at run time in a separate pool, so that they cannot conflict
with TensorFlow's copies. Package names are not on the wire, so both sides agree.

Source: the .proto files of TensorFlow Serving and TensorFlow.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

DEFAULT_MESSAGE_BYTES = 64 * 1024 * 1024

# message -> field -> (number, type). "*type" is a repeated field, "<type" a map from string to the type.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorShape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "version_number": (3, "int32"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "string_val": (8, "*bytes"),
        "int64_val": (10, "*int64"),
        "bool_val": (11, "*bool"),
    },
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "<Tensor"), "output_filter": (3, "*string")},
    "PredictResponse": {"outputs": (1, "<Tensor"), "model_spec": (2, "ModelSpec")},
    "StatusRequest": {"model_spec": (1, "ModelSpec")},
    "Status": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "VersionStatus": {"version": (1, "int64"), "state": (2, "int32"), "status": (3, "Status")},
    "StatusResponse": {"model_version_status": (1, "*VersionStatus")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "MetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "*string")},
    "MetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "<Any")},
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShape")},
    "Signature": {"inputs": (1, "<TensorInfo"), "outputs": (2, "<TensorInfo"), "method_name": (3, "string")},
    "SignatureMap": {"signature_def": (1, "<Signature")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}

# TensorFlow's DataType numbers -> (NumPy dtype, the field for values that are not sent as raw bytes).
_DTYPES: dict[int, tuple[np.dtype[Any], str]] = {
    1: (np.dtype("float32"), "float_val"),
    2: (np.dtype("float64"), "double_val"),
    3: (np.dtype("int32"), "int_val"),
    4: (np.dtype("uint8"), "int_val"),
    5: (np.dtype("int16"), "int_val"),
    6: (np.dtype("int8"), "int_val"),
    7: (np.dtype(object), "string_val"),
    9: (np.dtype("int64"), "int64_val"),
    10: (np.dtype(bool), "bool_val"),
}
_NUMBERS = {dtype: number for number, (dtype, _) in _DTYPES.items()}


@functools.cache
def messages() -> dict[str, Any]:
    r"""Return the message classes; the first call builds them.

    Returns:
        A dict of message name (as in this file's table) to protobuf class.

    Example:

    >>> request = messages()["PredictRequest"]()
    >>> request.model_spec.name = "kreid"
    >>> request.SerializeToString()
    b'\n\x07\n\x05kreid'
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="kreid_serving_wire.proto", package="kreid.wire", syntax="proto3")

    def add_field(message: Any, name: str, number: int, kind: str) -> None:
        repeated = kind.startswith(("*", "<"))
        field = message.field.add(
            name=name, number=number, label=field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
        )
        if kind.startswith("<"):
            entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
            entry.options.map_entry = True
            add_field(entry, "key", 1, "string")
            add_field(entry, "value", 2, kind[1:])
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".kreid.wire.{message.name}.{entry.name}"
        elif kind.lstrip("*") in _MESSAGES:
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".kreid.wire.{kind.lstrip('*')}"
        else:
            field.type = getattr(field_type, f"TYPE_{kind.lstrip('*').upper()}")

    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            add_field(message, name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kreid.wire.{name}")) for name in _MESSAGES
    }


def fill_tensor(tensor: Any, values: ArrayLike) -> None:
    """Write an array into a Tensor message.

    Args:
        tensor: a `"Tensor"` message or TensorProto, changed in place.
        values: numbers, or an object array of bytes.

    Raises:
        TypeError: for a dtype that kreid's signatures do not use.
    """
    array = np.asarray(values)
    if array.dtype not in _NUMBERS:
        raise TypeError(
            f"This dtype cannot be sent; use one of {sorted(str(d) for d in _NUMBERS)}. Received: dtype={array.dtype}"
        )
    tensor.dtype = _NUMBERS[array.dtype]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.hasobject:
        tensor.string_val.extend(array.ravel().tolist())
    else:
        tensor.tensor_content = np.ascontiguousarray(array).tobytes()


def read_tensor(tensor: Any) -> NDArray[Any]:
    """Read a Tensor message, which has its values as raw bytes or as a list.

    Args:
        tensor: a `"Tensor"` message or TensorProto.

    Returns:
        The array; for strings an object array of bytes.

    Raises:
        TypeError: for a dtype that kreid's signatures do not use.

    Example:

    >>> tensor = messages()["Tensor"]()
    >>> fill_tensor(tensor, np.array([[1.5, 2.5]], "float32"))
    >>> read_tensor(tensor)
    array([[1.5, 2.5]], dtype=float32)
    """
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"The server sent a dtype that this client cannot read. Received: dtype={tensor.dtype}")
    dtype, field = _DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_content and not dtype.hasobject:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape).copy()
    values = list(getattr(tensor, field))
    size = int(np.prod(shape))
    # A TensorProto may omit trailing values that repeat the last one, and all values if they are zero.
    filler = values[-1] if values else (b"" if dtype.hasobject else 0)
    array = np.empty(size, dtype)
    array[:] = values + [filler] * (size - len(values))
    return array.reshape(shape)
