"""Bounds on what a request may unfold to."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import tensor_pb2

from kreid.serving.refusal import RequestRefused
from kreid.serving.tensors import MAX_FIELDS, MAX_UNFOLDED_BYTES, check_fields, read_request_tensor


def proto(dtype, shape, **values):
    tensor = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        proto(tf.int32.as_datatype_enum, [400_000], int_val=[1]),
        proto(tf.uint8.as_datatype_enum, [1, 1 << 40, 3], int_val=[0]),
        proto(tf.uint8.as_datatype_enum, [1 << 40, 1 << 40]),
        proto(tf.float32.as_datatype_enum, [MAX_UNFOLDED_BYTES // 4 + 1]),
        proto(tf.string.as_datatype_enum, [1, 40_000], string_val=[b""]),
        proto(tf.string.as_datatype_enum, [1, 1 << 40], string_val=[b"x"]),
        proto(tf.string.as_datatype_enum, [1, 100], string_val=[b"x" * 20_000]),
    ],
    ids=["rows", "frames", "no value", "just too much", "empty strings", "terabytes of strings", "long strings"],
)
def test_few_values_stand_for_at_most_a_mebibyte(tensor):
    with pytest.raises(
        RequestRefused, match=r"^tensor parsing error: a: \d+ values were sent for \d+ elements"
    ) as caught:
        read_request_tensor("a", tensor)
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (proto(tf.int32.as_datatype_enum, [1000], int_val=[1, 2]), np.r_[1, np.full(999, 2)].astype(np.int32)),
        (proto(tf.uint8.as_datatype_enum, [2, 3]), np.zeros((2, 3), np.uint8)),
        (proto(tf.string.as_datatype_enum, [1, 3], string_val=[b"x"]), np.array([[b"x"] * 3], object)),
        (tf.make_tensor_proto(np.arange(2_000_000, dtype=np.int32)), np.arange(2_000_000, dtype=np.int32)),
        (tf.make_tensor_proto(np.full((2, 50_000), b"", object)), np.full((2, 50_000), b"", object)),
        (proto(tf.int64.as_datatype_enum, [300_000], int64_val=range(300_000)), np.arange(300_000)),
    ],
    ids=["few of few", "none of few", "one string", "all as bytes", "all strings", "all as numbers"],
)
def test_small_tensors_and_sent_values_are_read(tensor, expected):
    array = read_request_tensor("a", tensor)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "tensor",
    [
        proto(tf.int32.as_datatype_enum, [-1], int_val=[1]),
        proto(tf.int32.as_datatype_enum, [2], int_val=[1, 2, 3]),
        proto(tf.float32.as_datatype_enum, [2], tensor_content=b"12345678"[:7]),
        proto(tf.float32.as_datatype_enum, [2], tensor_content=b"12345678" * 2),
        proto(tf.variant.as_datatype_enum, [1]),
        proto(tf.resource.as_datatype_enum, [1]),
        proto(tf.qint8.as_datatype_enum, [1]),
        proto(77, [1]),
        tensor_pb2.TensorProto(dtype=3, tensor_shape={"unknown_rank": True}),
    ],
)
def test_a_contradiction_is_refused(tensor):
    with pytest.raises(RequestRefused, match=r"^tensor parsing error: a$"):
        read_request_tensor("a", tensor)


def field(number, content):
    """A length-delimited field."""
    size, rest = bytearray(), len(content)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2]) + bytes([*size, rest]) + content


TENSOR_OF_EMPTY_STRINGS = field(8, b"") * (MAX_FIELDS + 1)


@pytest.mark.parametrize(
    "body",
    [
        field(2, field(1, b"a")) * (MAX_FIELDS // 2 + 1),
        field(3, b"") * (MAX_FIELDS + 1),
        field(2, field(1, b"a") + field(2, TENSOR_OF_EMPTY_STRINGS)),
        field(2, field(2, field(2, field(2, b"") * (MAX_FIELDS + 1)))),
        # In a group, which parsers skip.
        bytes([9 << 3 | 3]) + field(2, field(2, TENSOR_OF_EMPTY_STRINGS)),
        field(2, field(2, field(7, b"1" * 10) + b"\x38\x01" * (MAX_FIELDS + 1))),
    ],
    ids=["inputs", "outputs", "strings", "dimensions", "behind a group", "unpacked numbers"],
)
def test_a_request_of_many_fields_is_refused_before_it_is_parsed(body):
    with pytest.raises(RequestRefused, match=f"at most {MAX_FIELDS} fields"):
        check_fields(body)


@pytest.mark.parametrize("number", [14, 15])
def test_resources_and_variants_are_refused_before_they_are_parsed(number):
    with pytest.raises(RequestRefused, match="no resources and no variants"):
        check_fields(field(2, field(1, b"a") + field(2, field(number, field(3, b"") * 10))))


@pytest.mark.parametrize(
    "body", [b"", b"\xff" * 40, b"\x0a", b"\x0a\x80", b"\x12\xff\xff\xff\xff\x0f", bytes(range(256)), b"\x07" * 200_000]
)
def test_bytes_that_are_no_message_pass_to_the_parser(body):
    check_fields(body)


def test_a_thousand_images_pass():
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(np.full((4, 256), b"x" * 200, object)))
    check_fields(request.SerializeToString())


def blank_jpeg(size):
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "JPEG", quality=1)
    return buffer.getvalue()


def blank_png(size):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def few(dtype, shape, value):
    field_of = {tf.string: "string_val"}.get(dtype, "int_val")
    return proto(dtype.as_datatype_enum, shape, **{field_of: [value]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("describe", {"rows": few(tf.int32, [400_000], 1)}),
        ("describe", {"rows": few(tf.int32, [262_144], 1)}),
        ("describe", {"rows": few(tf.int32, [1024], 1)}),
        ("serving_default", {"frames": few(tf.uint8, [1, 170, 64, 32, 3], 1)}),
        ("embed_padded", {"frames": few(tf.uint8, [170, 1, 64, 32, 3], 1), "lengths": few(tf.int32, [170], 1)}),
        ("embed_padded", {"frames": few(tf.uint8, [1, 1 << 40, 64, 32, 3], 1), "lengths": few(tf.int32, [1], 1)}),
        ("embed_jpeg", {"images": few(tf.string, [1, 1024], b""), "lengths": few(tf.int32, [1], 1024)}),
        ("embed_jpeg", {"images": few(tf.string, [1024, 32], b""), "lengths": few(tf.int32, [1024], 32)}),
        ("embed_jpeg", {"images": few(tf.string, [1, 1 << 30], b"x"), "lengths": few(tf.int32, [1], 1024)}),
        ("embed_jpeg", {"images": few(tf.string, [1, 1], blank_jpeg((4096, 4096))), "lengths": few(tf.int32, [1], 1)}),
        ("embed_jpeg", {"images": few(tf.string, [1, 40], blank_png((2048, 2048))), "lengths": few(tf.int32, [1], 40)}),
        ("embed_jpeg", {"images": few(tf.string, [40, 1], blank_png((2048, 2048))), "lengths": few(tf.int32, [40], 1)}),
    ],
)
def test_no_small_request_needs_256_mebibytes(server_process, signature, inputs):
    import grpc
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kreid", signature
    for alias, tensor in inputs.items():
        request.inputs[alias].CopyFrom(tensor)
    assert request.ByteSize() < 250_000
    before = server_process.resident_mib()
    Path(f"/proc/{server_process.process.pid}/clear_refs").write_text("5")  # the peak from here on
    with grpc.insecure_channel(server_process.target) as channel:
        with contextlib.suppress(grpc.RpcError):
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(request.SerializeToString())
        channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")(b"\x0a\x07\x0a\x05kreid")
    assert server_process.resident_mib(peak=True) - before < 256


@pytest.fixture(scope="module")
def server_process(base_path):
    from server_process import ServerProcess

    with ServerProcess(base_path) as server:
        yield server
