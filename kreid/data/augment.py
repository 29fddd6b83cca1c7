"""Training augmentation, drawn once per tracklet, or frame by frame where that is asked for.

By default all frames of a clip get the same treatment: a crop or an erased
patch that flickers from frame to frame is motion the camera never saw.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

MEAN_COLOUR = (124, 116, 104)

_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 3.33)
# A patch may be drawn too tall or too wide; so many tries leave practically no tracklet without one.
_ERASE_TRIES = 16


@dataclass(frozen=True)
class Augmentation:
    """Horizontal flip, padded crop and random erasing.

    Numbers are drawn in NumPy when an epoch is planned, and applied in the
    graph to `uint8` frames, in the order flip, crop, erase.

    Args:
        flip: float in `[0, 1]`, probability of a horizontal flip.
        crop_padding: int, zeros added on each side, in pixels, before a crop
            of the old size is taken at random. 0 turns it off.
        erase: float in `[0, 1]`, probability that a rectangle (0.02 to 0.4 of
            the area, aspect 0.3 to 3.33) is filled with ImageNet's mean colour.
        per_frame: bool, crop and erase each frame on its own; the flip stays
            the tracklet's.

    Raises:
        ValueError: if a setting is outside its range.

    Reference: Zhong et al., Random Erasing Data Augmentation, 2020. MG-RAFA
    (Zhang et al., 2020) treats whole sequences alike.
    """

    flip: float = 0.5
    crop_padding: int = 10
    erase: float = 0.0
    per_frame: bool = False

    def __post_init__(self):
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a probability, from 0 to 1. Received: {name}={getattr(self, name)}")
        if self.crop_padding < 0 or self.crop_padding != int(self.crop_padding):
            raise ValueError(
                f"`crop_padding` is a number of pixels, 0 or more. Received: crop_padding={self.crop_padding}"
            )

    def draws(self, num_frames):
        """How many crops and rectangles a clip of `num_frames` frames takes."""
        return num_frames if self.per_frame else 1

    def draw(self, count, num_frames, image_size, rng):
        """Draws the numbers for several clips.

        Args:
            count: int, clips.
            num_frames: int, frames of each.
            image_size: `(height, width)` of the frames.
            rng: `np.random.Generator`.

        Returns:
            `int32` `(count, draws(num_frames), 7)`: flip (equal within a
            clip), crop's top and left in the padded frame, and the erased
            rectangle's top, left, height and width (height 0 where nothing is
            erased).
        """
        height, width = image_size
        draws = self.draws(num_frames)
        flip = np.repeat(rng.random((count, 1)) < self.flip, draws, axis=1)
        corner = rng.integers(0, 2 * int(self.crop_padding) + 1, (count, draws, 2))
        rectangle = self._rectangles(count * draws, height, width, rng).reshape(count, draws, 4)
        return np.concatenate([flip[:, :, None], corner, rectangle], axis=2).astype(np.int32)

    def _rectangles(self, count, height, width, rng):
        area = rng.uniform(*_ERASED_AREA, (count, _ERASE_TRIES)) * height * width
        aspect = np.exp(rng.uniform(*np.log(_ERASED_ASPECT), (count, _ERASE_TRIES)))
        tall = np.rint(np.sqrt(area * aspect)).astype(int)
        wide = np.rint(np.sqrt(area / aspect)).astype(int)
        fits = (tall > 0) & (wide > 0) & (tall <= height) & (wide <= width)
        first = np.argmax(fits, axis=1)[:, None]
        erased = (rng.random(count) < self.erase) & fits.any(axis=1)
        tall = np.where(erased, np.take_along_axis(tall, first, 1)[:, 0], 0)
        wide = np.where(erased, np.take_along_axis(wide, first, 1)[:, 0], 0)
        top = rng.integers(0, height - tall + 1)
        left = rng.integers(0, width - wide + 1)
        return np.stack([top, left, tall, wide], axis=1)

    def apply(self, frames, numbers):
        """Applies one clip's numbers to its frames.

        Args:
            frames: `uint8` tensor `(frames, height, width, 3)` of static
                shape.
            numbers: `int32` tensor `(draws, 7)` of static shape, a row of what
                `draw` gave.

        Returns:
            `uint8` tensor of the same shape.
        """
        if self.flip:
            frames = tf.cond(numbers[0, 0] > 0, lambda: _flip(frames), lambda: frames)
        parts = tf.split(frames, numbers.shape[0]) if numbers.shape[0] > 1 else [frames]
        treated = [self._crop_and_erase(part, numbers[place]) for place, part in enumerate(parts)]
        return treated[0] if len(treated) == 1 else tf.concat(treated, axis=0)

    def _crop_and_erase(self, frames, numbers):
        _, crop_top, crop_left, *rectangle = tf.unstack(numbers, 7)
        if self.crop_padding:
            frames = self._crop(frames, crop_top, crop_left, frames.shape)
        if self.erase:
            frames = tf.cond(rectangle[2] > 0, lambda: _erase(frames, *rectangle), lambda: frames)
        return frames

    def _crop(self, frames, top, left, shape):
        _, height, width, channels = shape
        # How far the crop's corner is from the frame's. Only the part they share is copied, and zeros set around it;
        # columns and channels as one axis make both copies much faster.
        down, right = top - int(self.crop_padding), (left - int(self.crop_padding)) * channels
        rows = tf.reshape(frames, (-1, height, width * channels))
        above, below = tf.maximum(-down, 0), tf.maximum(down, 0)
        before, after = tf.maximum(-right, 0), tf.maximum(right, 0)
        shared = rows[:, below : height - above, after : width * channels - before]
        padded = tf.pad(shared, [[0, 0], [above, below], [before, after]])
        return tf.ensure_shape(tf.reshape(padded, (-1, height, width, channels)), shape)


def _flip(frames):
    # TensorFlow has a fast kernel for the middle axis of three.
    return tf.reshape(tf.reverse(tf.reshape(frames, (-1, *frames.shape[2:])), [1]), tf.shape(frames))


def _erase(frames, top, left, tall, wide):
    rows, columns = tf.range(frames.shape[1]), tf.range(frames.shape[2])
    in_rows = (rows >= top) & (rows < top + tall)
    in_columns = (columns >= left) & (columns < left + wide)
    patch = in_rows[:, None, None] & in_columns[None, :, None]
    return tf.where(patch, tf.constant(MEAN_COLOUR, tf.uint8), frames)
