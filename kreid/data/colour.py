"""Changes of colour, alike for all frames of a clip, exact whatever the number of threads."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# Of red, green and blue in the grey of a pixel (ITU-R BT.601).
GREY = (0.299, 0.587, 0.114)
# Factors are kept as whole numbers of these parts, next to the other numbers of a plan.
_PARTS = 1 << 16

_RANGES = ("brightness", "contrast", "saturation", "hue")


def draw_jitter(count: int, ranges: dict[str, float], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw the factors of brightness, contrast and saturation, around 1, and the turn of the hue, around 0.

    Args:
        count: number of clips.
        ranges: of each of the four; a factor is uniform in `1 - range` to `1 + range`, but at least 0.
        rng: a generator.

    Returns:
        `int32 (count, 4)` in parts of 2**-16.
    """
    turns = rng.uniform(-1, 1, (count, 4)) * np.array([ranges[name] for name in _RANGES])
    factors = np.maximum(turns + np.array([1, 1, 1, 0]), np.array([0, 0, 0, -1]))
    return np.rint(factors * _PARTS).astype(np.int32)


def jitter(frames: tf.Tensor, numbers: tf.Tensor, ranges: dict[str, float]) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of a clip, in this order; values are rounded once, at the end.

    Args:
        frames: `uint8 (frames, height, width, 3)`.
        numbers: `int32 (4,)`, a row of `draw_jitter`.
        ranges: see `draw_jitter`; a range of 0 leaves its operation out.

    Returns:
        `uint8` of the same shape.
    """
    factors = dict(zip(_RANGES, tf.unstack(tf.cast(numbers, tf.float32) / _PARTS), strict=True))
    values = tf.cast(frames, tf.float32)
    if ranges["brightness"]:
        values = tf.clip_by_value(values * factors["brightness"], 0.0, 255.0)
    if ranges["contrast"]:
        values = blend(mean_grey(values), values, factors["contrast"])
    if ranges["saturation"]:
        values = blend(grey(values), values, factors["saturation"])
    if ranges["hue"]:
        values = tf.image.adjust_hue(values, factors["hue"])
    return to_uint8(values)


def blend(base: tf.Tensor, values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return `base + factor * (values - base)` within 0 and 255: the base for 0, the values for 1."""
    return tf.clip_by_value(base + factor * (values - base), 0.0, 255.0)


def grey(values: tf.Tensor) -> tf.Tensor:
    """Return the grey of each pixel, `(..., 1)`, from float values `(..., 3)`."""
    red, green, blue = tf.split(values, 3, axis=-1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def mean_grey(values: tf.Tensor) -> tf.Tensor:
    """Return the mean grey of all pixels, from values rounded to whole numbers: their sum is exact in any order."""
    sums = tf.reduce_sum(tf.cast(tf.round(values), tf.int64), axis=(0, 1, 2))
    pixels = tf.cast(tf.size(values) // 3, tf.float64)
    return tf.cast(tf.reduce_sum(tf.cast(sums, tf.float64) * tf.constant(GREY, tf.float64)) / pixels, tf.float32)


def to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Round float values within 0 and 255."""
    return tf.cast(tf.round(values), tf.uint8)
