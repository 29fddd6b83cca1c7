"""Warm-up requests, which TensorFlow Serving runs before a version answers.

The first call of a graph is slow, because memory is allocated and kernels are
chosen. So a server runs one request per signature before it answers clients.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from kreid.serving import wire

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving does not load a version with more


def warmup_inputs(
    image_size: Sequence[int],
    frames: int = 8,
    batches: Iterable[int] = (1,),
    seed: int = 0,
    vector_size: int | None = None,
    embedding_dim: int | None = None,
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Make one request of noise per signature and batch size.

    Noise needs no data set, and its JPEGs are larger than those of real crops, so
    buffers become large enough.

    Args:
        image_size: `(height, width)` of the model.
        frames: frames per tracklet.
        batches: batch sizes.
        seed: of the noise.
        vector_size: values of a frame's or clip's vector, for `encode_frames` and
            `aggregate`; `None` where the export lacks them.
        embedding_dim: values of an embedding, for `same_person`; `None` where the
            export lacks it.

    Returns:
        A list of tuples `(signature name, inputs by name)`.

    Example:

    >>> [name for name, _ in warmup_inputs((8, 4), frames=2)]
    ['serving_default', 'embed_padded', 'embed_jpeg', 'describe']
    """
    import tensorflow as tf

    generator = np.random.default_rng(seed)
    requests: list[tuple[str, dict[str, np.ndarray]]] = []
    for batch in batches:
        noise = generator.integers(0, 256, (batch, frames, *image_size, 3), dtype=np.uint8)
        lengths = np.full(batch, frames, np.int32)
        images = np.empty((batch, frames), object)
        for row in range(batch):
            for column in range(frames):
                images[row, column] = tf.io.encode_jpeg(noise[row, column]).numpy()
        requests += [
            ("serving_default", {"frames": noise}),
            ("embed_padded", {"frames": noise, "lengths": lengths}),
            ("embed_jpeg", {"images": images, "lengths": lengths}),
            ("describe", {"rows": np.zeros(batch, np.int32)}),
        ]
        if vector_size is not None:
            vectors = generator.random((batch, frames, vector_size), np.float32)
            requests += [
                ("encode_frames", {"frames": noise, "lengths": lengths}),
                ("aggregate", {"vectors": vectors, "lengths": lengths}),
            ]
        if embedding_dim is not None:
            first, second = generator.random((2, batch, embedding_dim), np.float32)
            requests.append(("same_person", {"first": first, "second": second}))
    return requests


def write_warmup(
    export_dir: str | os.PathLike[str],
    requests: Sequence[tuple[str, Mapping[str, ArrayLike]]],
    model_name: str = "kreid",
) -> Path:
    """Write requests as the PredictionLog records that TensorFlow Serving runs.

    Args:
        export_dir: folder of one version of a SavedModel.
        requests: list of tuples `(signature name, inputs by name)`, at most 1000.
        model_name: model name in the requests; servers ignore it.

    Returns:
        Path of the file.

    Raises:
        ValueError: for more requests than TensorFlow Serving accepts.
    """
    import tensorflow as tf

    if len(requests) > MAX_RECORDS:
        raise ValueError(
            f"TensorFlow Serving accepts at most {MAX_RECORDS} warm-up records; give fewer requests. "
            f"Received: len(requests)={len(requests)}"
        )
    path = Path(export_dir) / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            record = wire.messages()["PredictionLog"]()
            request = record.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                wire.fill_tensor(request.inputs[name], value)
            writer.write(record.SerializeToString())
    return path


def read_warmup(export_dir: str | os.PathLike[str]) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Read the warm-up requests of one version.

    Args:
        export_dir: folder of one version of a SavedModel.

    Returns:
        A list of tuples `(signature name, inputs by name)`; empty without a file.

    Raises:
        ValueError: if the file is damaged.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    path = Path(export_dir) / WARMUP_FILE
    if not path.exists():
        return []
    requests = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = wire.messages()["PredictionLog"].FromString(record).predict_log.request
            inputs = {name: wire.read_tensor(tensor) for name, tensor in request.inputs.items()}
            requests.append((request.model_spec.signature_name or "serving_default", inputs))
    except (DecodeError, TypeError, ValueError, MemoryError, tf.errors.OpError) as error:
        raise ValueError(
            f"Warm-up record {len(requests) + 1} cannot be read; export the version again. Received: path={str(path)!r}"
        ) from error
    return requests
