"""Rows of a batch in the graph: which are within the limits, and a loop over groups of them that bounds the memory."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

    from kreid.serving.signatures import Limits


def checked_batch(
    inputs: "tf.Tensor", shape: "tf.TensorShape", limits: "Limits", lengths: "tf.Tensor | None" = None
) -> Any:
    """Return the inputs, and the lengths if there are any, with checks of the whole batch, which no row can pass alone.

    C++ servers do not compare a request with the signature's shape, so the graph does.
    """
    import tensorflow as tf

    inputs = tf.ensure_shape(inputs, shape)
    batch = tf.shape(inputs)[0]
    checks = [
        tf.debugging.assert_positive(batch, "a request needs at least one tracklet (B >= 1)"),
        tf.debugging.assert_less_equal(batch, limits.rows, f"a batch may hold at most {limits.rows} tracklets (B)"),
    ]
    if shape.rank > 1 and shape[1] is None:
        checks.append(
            tf.debugging.assert_positive(
                tf.shape(inputs)[1], "a request needs at least one frame per tracklet (T >= 1)"
            )
        )
    if lengths is not None:
        checks.append(tf.debugging.assert_equal(tf.shape(lengths)[0], batch, "lengths needs one entry per tracklet"))
    with tf.control_dependencies(checks):
        inputs = tf.identity(inputs)
        return inputs if lengths is None else (inputs, tf.identity(lengths))


def real_lengths(
    lengths: "tf.Tensor", total: "tf.Tensor", limits: "Limits", things: str = "frames"
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Return the lengths, 0 for rows that are refused, and which are.

    A row is refused, and its neighbours are not, if its length is negative or beyond the frames that were sent, above
    the limit of a tracklet, or after as many frames as a batch may have. If all are, that is an error: then no
    neighbour of another request is among them.
    """
    import tensorflow as tf

    limit = limits.frames_per_tracklet
    refused = (lengths < 0) | (lengths > tf.minimum(total, limit))
    real = tf.where(refused, 0, lengths)
    # At most `rows` times `frames_per_tracklet`, which int32 can hold.
    after = (tf.cumsum(real) > limits.frames_per_batch) & (real > 0)
    refused |= after
    message = f"each tracklet must have 0 to T {things} and at most {limit} {things}; thin it"
    some = tf.debugging.Assert(tf.reduce_any(~refused), [message, "Received: lengths=", lengths])
    with tf.control_dependencies([some]):
        return tf.where(after, 0, real), tf.identity(refused)


def real_frames(frames: "tf.Tensor") -> "tf.Tensor":
    """Return the lengths of tracklets without padding: frames at the end whose values are all equal.

    Servers pad with a tensor's first value. A tracklet of such frames alone has its first frame, so that it counts the
    same with padding and without.
    """
    import tensorflow as tf

    pixels = [2, 3, 4]
    differ = tf.reduce_max(frames, pixels) != tf.reduce_min(frames, pixels)
    places = tf.range(1, tf.shape(frames)[1] + 1)
    return tf.maximum(tf.reduce_max(tf.where(differ, places, 0), axis=1), 1)


def by_row_groups(
    lengths: "tf.Tensor",
    group_frames: "tf.Tensor | int",
    compute: Callable[["tf.Tensor", "tf.Tensor"], Sequence["tf.Tensor"]],
    outputs: Sequence[tuple[Any, list[int]]],
) -> list["tf.Tensor"]:
    """Compute rows in groups, one group after the other.

    Args:
        lengths: int32 `(rows,)`.
        group_frames: most frames of a group, with its padding; a longer row is a group of its own.
        compute: function from the first row and the lengths of a group to its outputs.
        outputs: dtype and shape of a row of each output.

    Returns:
        The outputs of all rows.
    """
    import tensorflow as tf

    rows = tf.size(lengths)
    step = tf.maximum(group_frames // tf.maximum(tf.reduce_max(lengths), 1), 1)
    groups = -(-rows // step)
    found = [tf.TensorArray(dtype, groups, element_shape=[None, *shape], infer_shape=False) for dtype, shape in outputs]

    def compute_group(number, *found):
        start = number * step
        values = compute(start, lengths[start : start + step])
        return number + 1, *(array.write(number, value) for array, value in zip(found, values, strict=True))

    # One at a time, so that the memory is that of one group.
    _, *found = tf.while_loop(
        lambda number, *_: number < groups, compute_group, [tf.constant(0), *found], parallel_iterations=1
    )
    return [array.concat() for array in found]
