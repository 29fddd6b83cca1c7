"""Export a trained model to a SavedModel that TensorFlow Serving can load."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kreid._files import replacing
from kreid.fingerprint import fingerprint
from kreid.serving.warmup import warmup_inputs, write_warmup

if TYPE_CHECKING:
    import tensorflow as tf

CARD_FILE = "assets.extra/kreid.json"


class Exportable(Protocol):
    """The attributes of a `kreid.models` model that an export needs."""

    @property
    def embedder(self) -> Any: ...
    @property
    def image_size(self) -> Sequence[int]: ...
    @property
    def metric(self) -> str: ...
    @property
    def embedding_dim(self) -> int: ...


def export_model(
    model: Exportable,
    directory: str | os.PathLike[str],
    version: int = 1,
    warmup: bool = True,
    frame_limit: int = 1024,
    verification: Mapping[str, Any] | None = None,
) -> Path:
    """Write `directory/<version>/`, a SavedModel with named signatures.

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default` | `frames` uint8 `[B,T,H,W,3]` | `embedding` float32 `[B,D]` |
    | `embed_padded` | `frames`, `lengths` int32 `[B]` | `embedding` |
    | `embed_jpeg` | `images` string `[B,T]`, `lengths` int32 `[B]` | `embedding`, `valid_frames` int32 `[B]` |
    | `describe` | `rows` int32 `[B]` | `card` string `[B]`, the model card once per row |

    Padding: frames at or after a tracklet's length do not change its embedding. Lengths
    outside `0..T` are clipped, because a server cannot raise for one tracklet of a
    batch. An unreadable image is skipped and the images after it move up; a tracklet
    without a readable image gives a finite embedding and `valid_frames` 0.

    `describe` has an input because a batching server refuses signatures without one.

    The folder gets its name only when complete, because servers poll for it.

    Args:
        model: a `kreid.models` model, or any object with `embedder`,
            `image_size`, `metric` and `embedding_dim`.
        directory: base path, the folder of all versions.
        version: positive int.
        warmup: whether to write warm-up requests.
        frame_limit: largest number of frames (`B * T`) in one request. Without it
            a small message of empty images could allocate any amount of memory.
        verification: optional threshold below which two embeddings count as one
            person, from `kreid.evaluation.fit_verification`, for the card; `None`
            for the one in the model's passport, if there is one.

    Returns:
        Path of the version's folder.

    Raises:
        ValueError: if the version is not a positive integer or exists already,
            `frame_limit` is below 1, or the threshold is of another metric than the
            model's.
        RuntimeError: under a Keras backend other than TensorFlow.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=2)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_card(export_model(model, folder, warmup=False))["embedding_dim"]
    128
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Only TensorFlow writes a SavedModel; load the model in a process with KERAS_BACKEND=tensorflow. "
            f"Received: backend={keras.backend.backend()}"
        )
    directory = Path(directory)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: version={version!r}")
    if frame_limit < 1:
        raise ValueError(f"`frame_limit` must be at least 1. Received: frame_limit={frame_limit}")
    passport = getattr(model, "passport", None)
    if verification is None and passport is not None:
        verification = passport.verification
    if verification is not None and verification["metric"] != str(model.metric):
        raise ValueError(
            f"The threshold must be of the model's metric, {model.metric}; fit it again. "
            f"Received: verification of metric={verification['metric']!r}"
        )
    final = directory / str(version)
    if final.exists():
        raise ValueError(
            f"This version exists and is not overwritten; the next free one is {next_version(directory)}. "
            f"Received: version={version}, directory={directory}"
        )
    directory.mkdir(parents=True, exist_ok=True)

    card = _model_card(model, frame_limit, verification)
    module, signatures = _signatures(model, json.dumps(card), frame_limit)
    # A polling server looks for integer names, so it does not see the temporary folder.
    with replacing(final) as temporary:
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        card_path = temporary / CARD_FILE
        card_path.parent.mkdir(exist_ok=True)
        card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        if warmup:
            write_warmup(temporary, warmup_inputs(card["image_size"], frames=min(8, frame_limit)))
    return final


def next_version(directory: str | os.PathLike[str]) -> int:
    """Return the version after the highest one in a base path.

    Args:
        directory: base path; it may be missing.

    Returns:
        int, 1 for an empty or missing folder.
    """
    return max(versions(directory), default=0) + 1


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """List the versions in a base path.

    Args:
        directory: base path. Subfolders whose names are not integers are skipped.

    Returns:
        A list of int, ascending; empty if the folder is missing.
    """
    try:
        entries = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(e.name) for e in entries if e.name.isascii() and e.name.isdigit() and e.is_dir())


def read_card(export_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the model card of one exported version.

    Args:
        export_dir: folder of the version.

    Returns:
        A dict with `system`, `embedding_dim`, `image_size`, `metric`, `fingerprint` (see `kreid.models.fingerprint`),
        `frame_limit`, `verification` (`None` without a fitted threshold),
        `passport` (see `kreid.models.Passport`), `signatures`, and the versions of `kreid`, `keras` and `tensorflow`.
    """
    return json.loads((Path(export_dir) / CARD_FILE).read_text(encoding="utf-8"))


def _model_card(model: Exportable, frame_limit: int, verification: Mapping[str, Any] | None) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    height, width = (int(size) for size in model.image_size)
    passport = getattr(model, "passport", None)
    digest = fingerprint(model)
    frames = f"uint8 [B, T, {height}, {width}, 3]"
    embedding = f"float32 [B, {int(model.embedding_dim)}]"
    return {
        "system": type(model).__name__,
        "embedding_dim": int(model.embedding_dim),
        "image_size": [height, width],
        "metric": str(model.metric),
        "fingerprint": digest,
        "frame_limit": int(frame_limit),
        "verification": None if verification is None else dict(verification),
        "passport": None if passport is None else passport.saved_now(digest).to_dict(),
        "kreid": _kreid_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "signatures": {
            "serving_default": {"inputs": {"frames": frames}, "outputs": {"embedding": embedding}},
            "embed_padded": {
                "inputs": {"frames": frames, "lengths": "int32 [B]"},
                "outputs": {"embedding": embedding},
            },
            "embed_jpeg": {
                "inputs": {"images": "string [B, T]", "lengths": "int32 [B]"},
                "outputs": {"embedding": embedding, "valid_frames": "int32 [B]"},
            },
            "describe": {"inputs": {"rows": "int32 [B]"}, "outputs": {"card": "string [B]"}},
        },
    }


def _kreid_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("kreid")
    except metadata.PackageNotFoundError:
        return "source checkout"


def _signatures(
    model: Exportable, card: str, frame_limit: int
) -> tuple["tf.Module", dict[str, Callable[..., dict[str, "tf.Tensor"]]]]:
    """Return a `tf.Module` with the weights, and the signatures by name."""
    import tensorflow as tf

    from kreid.data.frames import decode_frames

    height, width = (int(size) for size in model.image_size)
    embedder = model.embedder
    frames_spec = tf.TensorSpec([None, None, height, width, 3], tf.uint8, "frames")
    lengths_spec = tf.TensorSpec([None], tf.int32, "lengths")
    images_spec = tf.TensorSpec([None, None], tf.string, "images")
    rows_spec = tf.TensorSpec([None], tf.int32, "rows")

    def embed(frames, lengths):
        embedding = embedder({"frames": frames, "lengths": lengths}, training=False)
        return tf.ensure_shape(tf.cast(embedding, tf.float32), [None, int(model.embedding_dim)])

    @tf.function(input_signature=[frames_spec], autograph=False)
    def serving_default(frames):
        return {"embedding": embed(*_checked(frames, frames_spec.shape, frame_limit))}

    @tf.function(input_signature=[frames_spec, lengths_spec], autograph=False)
    def embed_padded(frames, lengths):
        return {"embedding": embed(*_checked(frames, frames_spec.shape, frame_limit, lengths))}

    @tf.function(input_signature=[images_spec, lengths_spec], autograph=False)
    def embed_jpeg(images, lengths):
        images, lengths = _checked(images, images_spec.shape, frame_limit, lengths)
        batch, length = tf.shape(images)[0], tf.shape(images)[1]
        # Decode all images of the batch in one call, then scatter them to their tracklets. `places` are the (row,
        # column) of all images, `rows` those of the readable ones; `slots` count these from 0 in each tracklet.
        places = tf.where(tf.sequence_mask(lengths, length))
        decoded, readable = decode_frames(tf.gather_nd(images, places), (height, width), parallelism=8)
        rows = tf.cast(tf.gather(places[:, 0], readable), tf.int32)
        valid = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, batch)
        slots = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(valid, exclusive=True), rows)
        shape = tf.stack([batch, length, height, width, 3])
        frames = tf.ensure_shape(tf.scatter_nd(tf.stack([rows, slots], axis=1), decoded, shape), frames_spec.shape)
        return {"embedding": embed(frames, valid), "valid_frames": tf.identity(valid)}

    @tf.function(input_signature=[rows_spec], autograph=False)
    def describe(rows):
        return {"card": tf.fill([tf.shape(rows)[0]], tf.constant(card))}

    module = tf.Module(name="kreid")
    # Track only the weights: the Keras model would add its whole object graph and every traced call.
    module.weights = [variable.value for variable in embedder.variables]
    return module, {
        "serving_default": serving_default,
        "embed_padded": embed_padded,
        "embed_jpeg": embed_jpeg,
        "describe": describe,
    }


def _checked(
    inputs: "tf.Tensor", shape: "tf.TensorShape", frame_limit: int, lengths: "tf.Tensor | None" = None
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Return the inputs and clipped lengths, with control dependencies on checks of the request."""
    import tensorflow as tf

    # C++ servers do not compare a request with the signature's shape, so the graph does.
    inputs = tf.ensure_shape(inputs, shape)
    batch, length = tf.shape(inputs)[0], tf.shape(inputs)[1]
    if lengths is None:
        lengths = tf.fill([batch], length)
    total = tf.cast(batch, tf.int64) * tf.cast(length, tf.int64)
    too_many = f"a request may hold at most {frame_limit} frames (B * T); send fewer tracklets at once"
    checks = [
        tf.debugging.assert_positive(batch, "a request needs at least one tracklet (B >= 1)"),
        tf.debugging.assert_positive(length, "a request needs at least one frame per tracklet (T >= 1)"),
        tf.debugging.assert_less_equal(total, tf.constant(frame_limit, tf.int64), too_many),
        tf.debugging.assert_equal(tf.shape(lengths)[0], batch, "lengths needs one entry per tracklet"),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(inputs), tf.clip_by_value(lengths, 0, length)
