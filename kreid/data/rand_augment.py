"""RandAugment of a clip: a few operations drawn from fourteen, of one strength, alike for all frames."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid.data.colour import blend, grey, mean_grey, to_uint8

LARGEST = 30.0

# At the largest magnitude: degrees; shares of the side's length and of the other coordinate; the change of a factor.
_ROTATION, _TRANSLATION, _SHEAR, _FACTOR, _BITS = 30.0, 0.45, 0.3, 0.9, 4.0


def draw_operations(count: int, operations: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw operations with replacement, and a sign for each.

    Args:
        count: number of clips.
        operations: of each clip.
        rng: a generator.

    Returns:
        `int32 (count, 2 * operations)`: the row in `OPERATIONS` and the sign, -1 or 1, of each operation in turn.
    """
    rows = rng.integers(0, len(OPERATIONS), (count, operations))
    signs = 2 * rng.integers(0, 2, (count, operations)) - 1
    return np.stack([rows, signs], axis=2).reshape(count, 2 * operations).astype(np.int32)


def rand_augment(frames: tf.Tensor, numbers: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Apply one clip's operations to its frames.

    Args:
        frames: `uint8 (frames, height, width, 3)` of static shape.
        numbers: `int32 (2 * operations,)` of static shape, a row of `draw_operations`.
        magnitude: 0 to 30.

    Returns:
        `uint8` of the same shape. Pixels from outside a moved frame are black.
    """
    shape, share = frames.shape, magnitude / LARGEST
    for place in range(0, numbers.shape[0], 2):
        row, sign = numbers[place], tf.cast(numbers[place + 1], tf.float32)
        branches = [_branch(operation, frames, sign * share, share) for operation in OPERATIONS.values()]
        frames = tf.ensure_shape(tf.switch_case(row, branches), shape)
    return frames


def _branch(
    operation: Callable[..., tf.Tensor], frames: tf.Tensor, signed: tf.Tensor, share: float
) -> Callable[[], tf.Tensor]:
    return lambda: operation(frames, signed, share)


# Each takes the frames, the share of the largest magnitude with its sign, and the share without it.


def _identity(frames, signed, share):
    return tf.identity(frames)


def _auto_contrast(frames, signed, share):
    """Stretch each channel of the clip to 0 and 255."""
    values = tf.cast(frames, tf.float32)
    low, high = tf.reduce_min(values, axis=(0, 1, 2)), tf.reduce_max(values, axis=(0, 1, 2))
    stretched = (values - low) * 255.0 / tf.maximum(high - low, 1.0)
    return to_uint8(tf.where(high > low, stretched, values))


def _equalize(frames, signed, share):
    """Spread each channel's values in the clip evenly; a channel of a single value stays."""
    channels = []
    for channel in tf.unstack(frames, axis=-1):
        counts = tf.math.bincount(tf.reshape(tf.cast(channel, tf.int32), (-1,)), minlength=256, maxlength=256)
        last = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0))
        step = (tf.reduce_sum(counts) - counts[last]) // 255
        below = tf.cumsum(counts, exclusive=True)
        spread = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
        table = tf.cast(tf.where(step > 0, spread, tf.range(256)), tf.uint8)
        channels.append(tf.gather(table, tf.cast(channel, tf.int32)))
    return tf.stack(channels, axis=-1)


def _solarize(frames, signed, share):
    """Invert bright values."""
    return tf.where(tf.cast(frames, tf.float32) >= 256.0 * (1.0 - share), 255 - frames, frames)


def _posterize(frames, signed, share):
    """Drop up to four of the lowest bits."""
    dropped = round(_BITS * share)
    return tf.bitwise.bitwise_and(frames, tf.constant(256 - (1 << dropped), tf.uint8))


def _brightness(frames, signed, share):
    return _blended(lambda values: tf.zeros_like(values), frames, signed)


def _contrast(frames, signed, share):
    return _blended(mean_grey, frames, signed)


def _colour(frames, signed, share):
    return _blended(grey, frames, signed)


def _sharpness(frames, signed, share):
    return _blended(_smooth, frames, signed)


def _blended(base, frames, signed):
    values = tf.cast(frames, tf.float32)
    return to_uint8(blend(base(values), values, 1.0 + _FACTOR * signed))


def _smooth(values):
    """Average each inner pixel with its eight neighbours, itself counted five times; the border stays."""
    height, width = values.shape[1:3]
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4.0 * values[:, 1:-1, 1:-1]
    inner = tf.pad(sums / 13.0, [[0, 0], [1, 1], [1, 1], [0, 0]])
    row, column = tf.range(height), tf.range(width)
    is_inner = ((row > 0) & (row < height - 1))[:, None] & ((column > 0) & (column < width - 1))[None]
    return tf.where(is_inner[:, :, None], inner, values)


def _rotate(frames, signed, share):
    angle = signed * math.radians(_ROTATION)
    return _moved(frames, [[tf.cos(angle), -tf.sin(angle)], [tf.sin(angle), tf.cos(angle)]])


def _shear_x(frames, signed, share):
    return _moved(frames, [[1.0, _SHEAR * signed], [0.0, 1.0]])


def _shear_y(frames, signed, share):
    return _moved(frames, [[1.0, 0.0], [_SHEAR * signed, 1.0]])


def _translate_x(frames, signed, share):
    return _moved(frames, [[1.0, 0.0], [0.0, 1.0]], (_TRANSLATION * signed * frames.shape[2], 0.0))


def _translate_y(frames, signed, share):
    return _moved(frames, [[1.0, 0.0], [0.0, 1.0]], (0.0, _TRANSLATION * signed * frames.shape[1]))


def _moved(frames, matrix, shift=(0.0, 0.0)):
    """Read each pixel (x, y) at `matrix @ ((x, y) - centre) + centre + shift`, between pixels linearly."""
    height, width = frames.shape[1:3]
    centre = ((width - 1) / 2, (height - 1) / 2)
    row = []
    for own, offset, (across, down) in zip(centre, shift, matrix, strict=True):
        row += [across, down, own + offset - across * centre[0] - down * centre[1]]
    values = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(frames, tf.float32),
        transforms=tf.stack([*(tf.cast(number, tf.float32) for number in row), 0.0, 0.0])[None],
        output_shape=tf.constant([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
    )
    return to_uint8(tf.clip_by_value(values, 0.0, 255.0))


OPERATIONS: dict[str, Callable[..., tf.Tensor]] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "colour": _colour,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
