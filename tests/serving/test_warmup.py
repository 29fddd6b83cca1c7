import pytest
import tensorflow as tf

from kreid.serving import read_warmup, wire, write_warmup


def write_records(folder, records):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def warmup_record(dtype, shape, content=b""):
    record = wire.messages()["PredictionLog"]()
    tensor = record.predict_log.request.inputs["frames"]
    tensor.dtype, tensor.tensor_content = dtype, content
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return record.SerializeToString()


@pytest.mark.parametrize(
    "record",
    [
        b"\xff\xff\xff",
        warmup_record(99, [1]),
        warmup_record(4, [2, 3], b"12345"),
        warmup_record(4, [-1]),
        warmup_record(4, [1 << 50]),
    ],
    ids=["no message", "unknown dtype", "too short", "negative size", "petabyte"],
)
def test_a_damaged_warmup_record_is_named(tmp_path, record):
    path = write_records(tmp_path, [warmup_record(4, [3], b"123"), record])
    with pytest.raises(ValueError, match=f"record 2 cannot be read; export .* Received: path='{path}'"):
        read_warmup(tmp_path)


def test_a_cut_warmup_file_is_named(tmp_path):
    path = write_records(tmp_path, [warmup_record(4, [3], b"123")] * 2)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="record 2 cannot be read"):
        read_warmup(tmp_path)


def test_more_warmup_records_than_tensorflow_serving_takes(tmp_path):
    with pytest.raises(ValueError, match=r"Received: len\(requests\)=1001"):
        write_warmup(tmp_path, [("describe", {})] * 1001)
