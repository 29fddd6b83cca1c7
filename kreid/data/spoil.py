"""Cover, blur, move and darken frames, in the TensorFlow graph."""

from collections.abc import Sequence

import tensorflow as tf

from kreid.data.bad_frames import KINDS, PARTS, SWITCHES


def spoil(frames: tf.Tensor, faults: tf.Tensor, kinds: Sequence[str] = KINDS) -> tf.Tensor:
    """Change the pixels of bad frames by their faults.

    Whole numbers from end to end: the result is the same on every machine. Frames of other persons are put in place
    before they are read, and stay as they are.

    - Covered: the object's rectangle has its first colour, or stripes from the top in its first and second colour.
    - Blurred: each value becomes the mean of the rectangle around it, inside the frame, rounded.
    - Half out: the picture is moved; the pixels at its edge are repeated where it was.
    - Dark: values are multiplied and rounded.

    Args:
        frames: `uint8` tensor `(frames, height, width, 3)`, height and width static.
        faults: `int32` tensor `(frames, FAULT_WIDTH)`, see `kreid.data.bad_frames.draw_faults`.
        kinds: the kinds that `faults` may hold; others are not in the graph.

    Returns:
        `uint8` tensor of the same shape.

    Example:

    >>> frames = np.full((2, 4, 2, 3), 200, "uint8")
    >>> dark = [KINDS.index("dark") + 1, PARTS // 10, 0, 0, 0, 0, 0, 0]
    >>> spoil(tf.constant(frames), tf.constant([[0] * 8, dark], tf.int32)).numpy()[:, 0, 0, 0].tolist()
    [200, 20]
    """
    for kind in kinds:
        if kind in SWITCHES:
            continue
        places = tf.where(faults[:, 0] == KINDS.index(kind) + 1)
        rows = places[:, 0]
        changed = _CHANGES[kind](tf.gather(frames, rows), tf.gather(faults, rows)[:, 1:])
        frames = tf.tensor_scatter_nd_update(frames, places, changed)
    return frames


def _covered(frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    height, width = frames.shape[1:3]
    top, tall, stripe = (_pixels(numbers[:, number], height) for number in (0, 2, 6))
    left, wide = (_pixels(numbers[:, number], width) for number in (1, 3))
    down = tf.range(height) - top[:, None]
    right = tf.range(width) - left[:, None]
    inside = ((down >= 0) & (down < tall[:, None]))[:, :, None] & ((right >= 0) & (right < wide[:, None]))[:, None, :]
    is_second = (stripe[:, None] > 0) & (tf.math.floordiv(down, tf.maximum(stripe[:, None], 1)) % 2 == 1)
    first, second = (_colour(numbers[:, number])[:, None, :] for number in (4, 5))
    lines = tf.where(is_second[:, :, None], second, first)
    return tf.where(inside[..., None], lines[:, :, None, :], frames)


def _blurred(frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    height, width = frames.shape[1:3]
    sums, rows = _window_sums(tf.cast(frames, tf.int32), _pixels(numbers[:, 0], height))
    across, columns = _window_sums(tf.transpose(sums, (0, 2, 1, 3)), _pixels(numbers[:, 1], width))
    counts = rows[:, :, None, None] * columns[:, None, :, None]
    return tf.cast((2 * tf.transpose(across, (0, 2, 1, 3)) + counts) // (2 * counts), tf.uint8)


def _window_sums(values: tf.Tensor, reach: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the sums over windows along axis 1, at most one value beyond which they are cut, and their lengths."""
    length = values.shape[1]
    places = tf.range(length)
    low = tf.maximum(places - reach[:, None], 0)
    high = tf.minimum(places + reach[:, None] + 1, length)
    sums = tf.pad(tf.cumsum(values, axis=1), [[0, 0], [1, 0], [0, 0], [0, 0]])
    return tf.gather(sums, high, batch_dims=1) - tf.gather(sums, low, batch_dims=1), high - low


def _half_out(frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    height, width = frames.shape[1:3]
    rows = tf.range(height) - _pixels(numbers[:, 0], height)[:, None]
    columns = tf.range(width) - _pixels(numbers[:, 1], width)[:, None]
    moved = tf.gather(frames, tf.clip_by_value(rows, 0, height - 1), axis=1, batch_dims=1)
    return tf.gather(moved, tf.clip_by_value(columns, 0, width - 1), axis=2, batch_dims=1)


def _dark(frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    values = tf.cast(frames, tf.int32) * numbers[:, 0, None, None, None]
    return tf.cast((values + PARTS // 2) // PARTS, tf.uint8)


def _pixels(parts: tf.Tensor, length: int) -> tf.Tensor:
    """Return whole pixels of a length in parts of it, rounded."""
    return (parts * length + PARTS // 2) // PARTS


def _colour(packed: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.stack([packed // 65536 % 256, packed // 256 % 256, packed % 256], axis=-1), tf.uint8)


_CHANGES = {"covered": _covered, "blurred": _blurred, "half_out": _half_out, "dark": _dark}
