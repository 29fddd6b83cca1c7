"""The signatures of an export: each answers a row as if it were alone, whoever its neighbours in the batch are.

A server may merge requests and pad them, and then one request must not fail another. So the limits are those of rows:
a row above one gives NaN, and memory is bounded because the graph takes a bounded number of frames at a time.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kreid.serving.row_groups import by_row_groups, checked_batch, real_frames, real_lengths
from kreid.serving.search_signature import FixedGallery, search_signature

if TYPE_CHECKING:
    import tensorflow as tf

# Bounds the memory of a request, see tests/benchmarks/export_memory.py.
FRAMES_AT_ONCE = 16
# Decoded frames and vectors of frames are small; they are in memory for the rows of a group.
GROUP_FRAMES = 256
# Of systems that aggregate maps of all frames, whose memory grows with the tracklet.
FRAME_LIMIT_OF_MAPS = 128
FRAME_LIMIT = 1024
# TensorFlow Serving's default for a merged batch is 1000.
ROWS = 1024


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


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of one batch, which are checked inside the graph.

    Args:
        rows: tracklets; more are an error.
        frames_per_tracklet: a longer tracklet is refused, its neighbours are not.
        frames_per_batch: the tracklets after as many frames are refused.
        frames_at_once: frames in one run of the network.
    """

    rows: int
    frames_per_tracklet: int
    frames_per_batch: int
    frames_at_once: int

    def to_dict(self) -> dict[str, int]:
        """Return these and the limits of images, for the card."""
        from kreid.data.frames import MAX_BYTES, MAX_PIXELS, MAX_SCAN_PIXELS

        images = {"image_bytes": MAX_BYTES, "image_pixels": MAX_PIXELS, "image_scans_times_pixels": MAX_SCAN_PIXELS}
        return {**dataclasses.asdict(self), **images}


def limits_of(model: Exportable, frame_limit: int | None = None, frames_at_once: int = FRAMES_AT_ONCE) -> Limits:
    """Return the limits of a model's export.

    Args:
        model: to export.
        frame_limit: of a tracklet; `None` for 1024, or 128 where the memory grows with the maps of all frames.
        frames_at_once: frames in one run of the network.

    Raises:
        ValueError: for a number below 1.
    """
    if frame_limit is None:
        grows = _parts_of(model) is None and _selected(model) is None
        frame_limit = FRAME_LIMIT_OF_MAPS if grows else FRAME_LIMIT
    for name, value in (("frame_limit", frame_limit), ("frames_at_once", frames_at_once)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={value!r}")
    return Limits(ROWS, frame_limit, 16 * frame_limit, frames_at_once)


def lacking(model: Exportable, verification: Mapping[str, Any] | None) -> dict[str, str]:
    """Return why a model's export lacks signatures, by their names.

    Args:
        model: to export.
        verification: the fitted threshold, if there is one.

    Returns:
        A dict of name to one sentence; empty if the export has all signatures.
    """
    lacks = {}
    if _parts_of(model) is None:
        reason = (
            f"{type(model).__name__} aggregates maps of frames, which are too large to send; it makes no vector of a "
            "frame or clip."
        )
        lacks = {"encode_frames": reason, "aggregate": reason}
    elif _selected(model) is not None:
        reason = (
            "The test frames are selected before they are encoded; export model.with_selection('all') to send vectors."
        )
        lacks = {"encode_frames": reason, "aggregate": reason}
    if verification is None:
        lacks["same_person"] = "No threshold was fitted; see kreid.evaluation.fit_verification."
    elif not verification.get("calibration"):
        lacks["same_person"] = "The threshold was fitted without a calibration, by an older kreid; fit it again."
    return lacks


def _parts_of(model: Exportable) -> int | None:
    return getattr(model, "part_frames", None)


def _selected(model: Exportable) -> int | None:
    """The number of frames that are embedded of a longer tracklet; `None` for all."""
    return getattr(model, "test_frames", None)


def described(model: Exportable, lacks: Mapping[str, str]) -> dict[str, Any]:
    """Return the inputs and outputs of the signatures, for the card."""
    height, width = (int(size) for size in model.image_size)
    dim = int(model.embedding_dim)
    frames, lengths, valid = f"uint8 [B, T, {height}, {width}, 3]", "int32 [B]", {"valid_frames": "int32 [B]"}
    embedding = f"float32 [B, {dim}]"
    signatures = {
        "serving_default": {"inputs": {"frames": frames}, "outputs": {"embedding": embedding, **valid}},
        "embed_padded": {
            "inputs": {"frames": frames, "lengths": lengths},
            "outputs": {"embedding": embedding, **valid},
        },
        "embed_jpeg": {
            "inputs": {"images": "string [B, T]", "lengths": lengths},
            "outputs": {"embedding": embedding, **valid},
        },
        "describe": {"inputs": {"rows": "int32 [B]"}, "outputs": {"card": "string [B]"}},
    }
    if "aggregate" not in lacks:
        vectors = f"float32 [B, P, {vector_size(model)}]"
        signatures["encode_frames"] = {
            "inputs": {"frames": frames, "lengths": lengths},
            "outputs": {"vectors": vectors, "lengths": lengths},
        }
        signatures["aggregate"] = {
            "inputs": {"vectors": vectors, "lengths": lengths},
            "outputs": {"embedding": embedding, "valid_vectors": "int32 [B]"},
        }
    if "same_person" not in lacks:
        signatures["same_person"] = {
            "inputs": {"first": embedding, "second": embedding},
            "outputs": {"distance": "float32 [B]", "probability": "float32 [B]", "same_person": "bool [B]"},
        }
    return signatures


def vector_size(model: Any) -> int:
    """Return the number of values of a frame's or clip's vector."""
    return int(model.part_encoder.output_shape[-1])


def make_signatures(
    model: Any,
    card: str,
    limits: Limits,
    verification: Mapping[str, Any] | None,
    lacks: Mapping[str, str],
    gallery: FixedGallery | None = None,
) -> tuple["tf.Module", dict[str, Callable[..., dict[str, "tf.Tensor"]]]]:
    """Return a `tf.Module` with the weights, and the signatures by name."""
    import tensorflow as tf

    from kreid.data.frames import decode_frames

    height, width = (int(size) for size in model.image_size)
    dim = int(model.embedding_dim)
    network = _Network(model, limits.frames_at_once)
    frames_spec = tf.TensorSpec([None, None, height, width, 3], tf.uint8, "frames")
    lengths_spec = tf.TensorSpec([None], tf.int32, "lengths")
    images_spec = tf.TensorSpec([None, None], tf.string, "images")
    rows_spec = tf.TensorSpec([None], tf.int32, "rows")

    def embed_valid(frames, lengths):
        real, refused = real_lengths(lengths, tf.shape(frames)[1], limits)

        def embed(start, lengths):
            group = frames[start : start + tf.size(lengths), : tf.maximum(tf.reduce_max(lengths), 1)]
            return (network.embed(tf.ensure_shape(group, frames_spec.shape), lengths),)

        (embedding,) = by_row_groups(real, network.group_frames(real), embed, [(tf.float32, [dim])])
        return _answer(embedding, real, refused)

    @tf.function(input_signature=[frames_spec], autograph=False)
    def serving_default(frames):
        frames = checked_batch(frames, frames_spec.shape, limits)
        return embed_valid(frames, real_frames(frames))

    @tf.function(input_signature=[frames_spec, lengths_spec], autograph=False)
    def embed_padded(frames, lengths):
        return embed_valid(*checked_batch(frames, frames_spec.shape, limits, lengths))

    @tf.function(input_signature=[images_spec, lengths_spec], autograph=False)
    def embed_jpeg(images, lengths):
        images, lengths = checked_batch(images, images_spec.shape, limits, lengths)
        real, refused = real_lengths(lengths, tf.shape(images)[1], limits)

        def embed(start, lengths):
            count, longest = tf.size(lengths), tf.maximum(tf.reduce_max(lengths), 1)
            group = images[start : start + count, :longest]
            # Decode all images of the group in one call. `places` are the (row, column) of all images, `rows` those of
            # the readable ones, which stay in order.
            places = tf.where(tf.sequence_mask(lengths, longest))
            decoded, readable = decode_frames(tf.gather_nd(group, places), (height, width), parallelism=8)
            rows = tf.cast(tf.gather(places[:, 0], readable), tf.int32)
            valid = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, count)
            starts = tf.cumsum(valid, exclusive=True)
            return network.embed_joined(decoded, rows, starts, valid, longest), valid

        outputs = [(tf.float32, [dim]), (tf.int32, [])]
        embedding, valid = by_row_groups(real, network.group_frames(real), embed, outputs)
        return _answer(embedding, valid, refused)

    @tf.function(input_signature=[rows_spec], autograph=False)
    def describe(rows):
        return {"card": tf.fill([tf.size(checked_batch(rows, rows_spec.shape, limits))], tf.constant(card))}

    signatures = {
        "serving_default": serving_default,
        "embed_padded": embed_padded,
        "embed_jpeg": embed_jpeg,
        "describe": describe,
    }
    if "aggregate" not in lacks:
        signatures |= _vector_signatures(network, limits, frames_spec, lengths_spec)
    if "same_person" not in lacks:
        assert verification is not None
        signatures["same_person"] = _same_person(str(model.metric), dim, limits, verification)
    module = tf.Module(name="kreid")
    if gallery is not None:
        signatures["search"], module.gallery = search_signature(gallery, limits, verification)
    # Track only the weights: the Keras model would add its whole object graph and every traced call.
    module.weights = [variable.value for variable in model.embedder.variables]
    return module, signatures


def _answer(embedding: "tf.Tensor", valid: "tf.Tensor", refused: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    """Return the outputs: rows without a frame are NaN, and those that were refused count -1 frames."""
    import tensorflow as tf

    embedding = tf.where(valid[:, None] > 0, embedding, tf.constant(float("nan")))
    return {"embedding": embedding, "valid_frames": tf.where(refused, -1, valid)}


def _vector_signatures(
    network: "_Network", limits: Limits, frames_spec: "tf.TensorSpec", lengths_spec: "tf.TensorSpec"
) -> dict[str, Any]:
    import tensorflow as tf

    part = network.part_frames
    assert part is not None
    vectors_spec = tf.TensorSpec([None, None, network.vector_size], tf.float32, "vectors")
    of_vectors = dataclasses.replace(
        limits,
        frames_per_tracklet=-(-limits.frames_per_tracklet // part),
        frames_per_batch=-(-limits.frames_per_batch // part),
    )

    @tf.function(input_signature=[frames_spec, lengths_spec], autograph=False)
    def encode_frames(frames, lengths):
        frames, lengths = checked_batch(frames, frames_spec.shape, limits, lengths)
        real, refused = real_lengths(lengths, tf.shape(frames)[1], limits)
        vectors, counts = network.encode_padded(frames, real)
        return {"vectors": vectors, "lengths": tf.where(refused, -1, counts)}

    @tf.function(input_signature=[vectors_spec, lengths_spec], autograph=False)
    def aggregate(vectors, lengths):
        vectors, lengths = checked_batch(vectors, vectors_spec.shape, of_vectors, lengths)
        real, refused = real_lengths(lengths, tf.shape(vectors)[1], of_vectors, "vectors")

        def of_group(start, lengths):
            group = vectors[start : start + tf.size(lengths), : tf.maximum(tf.reduce_max(lengths), 1)]
            return (network.aggregate(tf.ensure_shape(group, vectors_spec.shape), lengths),)

        (embedding,) = by_row_groups(real, GROUP_FRAMES, of_group, [(tf.float32, [network.dim])])
        answer = _answer(embedding, real, refused)
        return {"embedding": answer["embedding"], "valid_vectors": answer["valid_frames"]}

    return {"encode_frames": encode_frames, "aggregate": aggregate}


def _same_person(metric: str, dim: int, limits: Limits, verification: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    first_spec, second_spec = (tf.TensorSpec([None, dim], tf.float32, name) for name in ("first", "second"))
    threshold = tf.constant(verification["threshold"], tf.float32)
    calibration = verification["calibration"]

    @tf.function(input_signature=[first_spec, second_spec], autograph=False)
    def same_person(first, second):
        first = checked_batch(first, first_spec.shape, limits)
        second = checked_batch(second, second_spec.shape, limits)
        equal = tf.debugging.assert_equal(tf.shape(first)[0], tf.shape(second)[0], "first and second need equal rows")
        with tf.control_dependencies([equal]):
            distance = _distance(tf.identity(first), second, metric)
        probability = tf.sigmoid(calibration["offset"] - calibration["scale"] * distance)
        return {"distance": distance, "probability": probability, "same_person": distance < threshold}

    return same_person


def _distance(first: "tf.Tensor", second: "tf.Tensor", metric: str) -> "tf.Tensor":
    import tensorflow as tf

    if metric == "cosine":
        # A row of zeros is 1 from everything.
        first, second = (tf.math.divide_no_nan(rows, tf.norm(rows, axis=1, keepdims=True)) for rows in (first, second))
        return 1 - tf.reduce_sum(first * second, axis=1)
    return tf.norm(first - second, axis=1)


class _Network:
    """The embedder as it runs in the graph: on a bounded number of frames at a time, where the system can.

    Args:
        model: to export.
        frames_at_once: frames in one run of the network.
    """

    def __init__(self, model: Any, frames_at_once: int) -> None:
        self.model = model
        self.frames_at_once = frames_at_once
        self.dim = int(model.embedding_dim)
        self.part_frames = _parts_of(model)
        self.vector_size = None if self.part_frames is None else vector_size(model)

    def group_frames(self, lengths: "tf.Tensor") -> "tf.Tensor":
        """Return how many frames the rows of a group may have, with their padding, for tracklets of these lengths."""
        import tensorflow as tf

        group = tf.constant(GROUP_FRAMES)
        if self.part_frames is not None:
            return group
        # All rows of a group go through the network at once, with the selected frames.
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        selected = _selected(self.model)
        embedded = longest if selected is None else tf.minimum(longest, selected)
        return tf.minimum(group, tf.maximum(self.frames_at_once // embedded, 1) * longest)

    def embed(self, frames: "tf.Tensor", lengths: "tf.Tensor") -> "tf.Tensor":
        """Return the embeddings of a group of rows."""
        import tensorflow as tf

        if self.part_frames is None:
            embedding = self.model.embedder({"frames": frames, "lengths": lengths}, training=False)
            return tf.ensure_shape(tf.cast(embedding, tf.float32), [None, self.dim])
        if _selected(self.model) is not None:
            frames, lengths = self.model.selection(frames, lengths)
        return self.aggregate(*self.encode_padded(frames, lengths))

    def embed_joined(
        self, frames: "tf.Tensor", rows: "tf.Tensor", starts: "tf.Tensor", lengths: "tf.Tensor", longest: "tf.Tensor"
    ) -> "tf.Tensor":
        """Return the embeddings of a group of rows whose frames follow one another without padding.

        Args:
            frames: of all rows, `(frames, H, W, 3)`.
            rows: the row of each.
            starts: where each row's frames begin.
            lengths: frames of each row.
            longest: at least the largest length.
        """
        import tensorflow as tf

        if self.part_frames is not None and _selected(self.model) is None:
            return self.aggregate(*self.encode(frames, starts, lengths, longest))
        slots = tf.range(tf.size(rows)) - tf.gather(starts, rows)
        shape = tf.stack([tf.size(lengths), longest, *frames.shape[1:]])
        padded = tf.scatter_nd(tf.stack([rows, slots], axis=1), frames, shape)
        return self.embed(tf.ensure_shape(padded, [None, None, *frames.shape[1:]]), lengths)

    def encode_padded(self, frames: "tf.Tensor", lengths: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        """Return what `encode` does, for frames `(B, T, H, W, 3)`."""
        import tensorflow as tf

        total = tf.shape(frames)[1]
        starts = tf.range(tf.shape(frames)[0]) * total
        return self.encode(tf.reshape(frames, [-1, *frames.shape[2:]]), starts, lengths, total)

    def encode(
        self, frames: "tf.Tensor", starts: "tf.Tensor", lengths: "tf.Tensor", longest: "tf.Tensor"
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        """Return the vectors of all parts, zeros where a row has fewer, and the numbers of parts."""
        import tensorflow as tf

        part = self.part_frames
        assert part is not None
        parts, most = -(-lengths // part), -(-longest // part)
        places = tf.where(tf.sequence_mask(parts, most))
        step = max(1, self.frames_at_once // part)
        chunks = -(-tf.shape(places)[0] // step)

        def encode_chunk(number, found):
            rows, first = tf.unstack(tf.cast(places[number * step : (number + 1) * step], tf.int32), axis=1)
            first, length = first * part, tf.gather(lengths, rows)
            # Beyond a row's length its last frame stands for padding.
            within = tf.minimum(first[:, None] + tf.range(part), length[:, None] - 1)
            inputs = {
                "frames": tf.gather(frames, tf.gather(starts, rows)[:, None] + within),
                "lengths": tf.minimum(length - first, part),
            }
            vectors = tf.cast(self.model.part_encoder(inputs, training=False), tf.float32)
            return number + 1, found.write(number, tf.reshape(vectors, [-1, self.vector_size]))

        found = tf.TensorArray(tf.float32, chunks, element_shape=[None, self.vector_size], infer_shape=False)
        _, found = tf.while_loop(
            lambda number, _: number < chunks, encode_chunk, [tf.constant(0), found], parallel_iterations=1
        )
        shape = tf.stack([tf.size(lengths), most, self.vector_size])
        vectors = tf.scatter_nd(tf.cast(places, tf.int32), found.concat(), shape)
        return tf.ensure_shape(vectors, [None, None, self.vector_size]), parts

    def aggregate(self, vectors: "tf.Tensor", lengths: "tf.Tensor") -> "tf.Tensor":
        """Return the embeddings of rows of vectors."""
        import tensorflow as tf

        embedding = self.model.aggregator({"vectors": vectors, "lengths": lengths}, training=False)
        return tf.ensure_shape(tf.cast(embedding, tf.float32), [None, self.dim])
