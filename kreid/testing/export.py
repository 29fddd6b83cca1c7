"""The contract of exported models."""

import functools
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kreid.testing._common import require

if TYPE_CHECKING:
    import keras

_require = functools.partial(require, "An export")


def check_export(model: "keras.Model", folder: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Check that an export fulfils kreid's contract, of kreid's models or your own.

    The checks:

    - the signatures `serving_default`, `embed_padded` and `embed_jpeg` have the inputs and outputs of
      `kreid.serving.export_model`;
    - in a session, as in TensorFlow Serving, each of them returns the embeddings of `model.embed`, and so do
      `encode_frames` and `aggregate` one after the other, unless the card says that the export lacks them;
    - an unreadable image is skipped, does not count in `valid_frames`, and changes no other tracklet of its batch;
    - a tracklet of no frame, and one of a length that cannot be, are NaN and change no other tracklet.

    Args:
        model: a model of `kreid.models`.
        folder: folder of one exported version of the model, as returned by `export_model`.

    Returns:
        The embeddings of two tracklets, float32 `(2, features)`.

    Raises:
        AssertionError: if a check fails, with a sentence on it.
    """
    import tensorflow as tf

    from kreid.serving.card import read_card

    height, width = model.image_size
    rng = np.random.default_rng(0)
    # Smooth images, because JPEG changes noise too much.
    ramp = np.linspace(0, 255, height)[:, None, None] * np.ones((1, width, 3))
    frames = np.clip(ramp + rng.uniform(-60, 60, (2, 3, 1, 1, 3)), 0, 255).astype("uint8")
    lengths = np.array([3, 2], "int32")
    jpegs = [[tf.io.encode_jpeg(frame, quality=100).numpy() for frame in tracklet] for tracklet in frames]
    decoded = np.stack([[tf.io.decode_jpeg(jpeg).numpy() for jpeg in tracklet] for tracklet in jpegs])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))

        def run(signature, inputs):
            _require(signature in loaded.signature_def, f"there is a signature {signature}")
            definition = loaded.signature_def[signature]
            _require(set(definition.inputs) == set(inputs), f"the inputs of {signature} are {', '.join(inputs)}")
            feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
            return session.run({name: info.name for name, info in definition.outputs.items()}, feeds)

        whole = run("serving_default", {"frames": frames})
        padded = run("embed_padded", {"frames": frames, "lengths": lengths})
        images = run("embed_jpeg", {"images": np.array(jpegs, object), "lengths": lengths})
        jpegs[0][1] = jpegs[0][1][:20]
        damaged = run("embed_jpeg", {"images": np.array(jpegs, object), "lengths": lengths})
        three = {"frames": frames[[0, 1, 0]], "lengths": np.array([0, 2, 9], "int32")}
        refused = run("embed_padded", three)
        halves = None
        if "aggregate" not in read_card(folder).get("lacks", {}):
            vectors = run("encode_frames", {"frames": frames, "lengths": lengths})
            halves = run("aggregate", vectors)

    expected = model.embed(frames)
    for name, outputs in (("serving_default", whole), ("embed_padded", padded), ("embed_jpeg", images)):
        _require(set(outputs) == {"embedding", "valid_frames"}, f"{name} gives embedding and valid_frames")
    _require(whole["valid_frames"].tolist() == [3, 3], "valid_frames counts the frames of serving_default")
    _require(_near(whole["embedding"], expected), "serving_default gives the embeddings of embed")
    _require(_near(padded["embedding"], model.embed(frames, lengths)), "embed_padded gives the embeddings of embed")
    _require(_near(images["embedding"], model.embed(decoded, lengths)), "embed_jpeg gives the embeddings of embed")
    _require(images["valid_frames"].tolist() == [3, 2], "valid_frames counts the readable images")
    _require(damaged["valid_frames"].tolist() == [2, 2], "an unreadable image is not counted")
    _require(_near(damaged["embedding"][1], images["embedding"][1]), "an unreadable image changes no other tracklet")
    rest = model.embed(decoded[:1, [0, 2]])
    _require(_near(damaged["embedding"][:1], rest), "the images after an unreadable one move up")
    _require(refused["valid_frames"].tolist() == [0, 2, -1], "valid_frames is 0 without a frame and -1 beyond T")
    _require(
        np.isnan(refused["embedding"][[0, 2]]).all(), "the embedding of no frame, and of a length beyond T, is NaN"
    )
    _require(_near(refused["embedding"][1:2], padded["embedding"][1:]), "a refused tracklet changes no other one")
    if halves is not None:
        _require(_near(halves["embedding"], padded["embedding"]), "aggregate of encode_frames gives embed_padded's")
    return whole["embedding"]


def _near(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
