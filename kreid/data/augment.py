"""Training augmentation, drawn once per clip or, as a setting, once per frame.

By default all frames of a clip get the same flip, crop and erased patch: a
patch that flickers from frame to frame is motion that no camera records.
Colours always change alike for all frames, as under one light.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid.data.colour import draw_jitter, jitter
from kreid.data.rand_augment import LARGEST, draw_operations, rand_augment

MEAN_COLOUR = (124, 116, 104)

_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 3.33)
# Patches drawn too tall or too wide are dropped; of 16, practically always one fits.
_ERASE_TRIES = 16


@dataclass(frozen=True)
class Augmentation:
    """Horizontal flip, padded crop, changes of colour, RandAugment and random erasing.

    `draw` draws random numbers in NumPy when an epoch is planned; `apply` uses
    them in the graph on `uint8` frames, in the order flip, crop, colours,
    RandAugment, erase. What is off draws nothing and is not in the graph.

    Args:
        flip: float in `[0, 1]`, probability of a horizontal flip.
        crop_padding: int, zeros added on each side, in pixels, before a crop
            of the original size is taken at random. 0 turns it off.
        erase: float in `[0, 1]`, probability that a rectangle (0.02 to 0.4 of
            the area, height to width 0.3 to 3.33) gets ImageNet's mean colour.
        per_frame: bool, crop and erase each frame separately.
        flip_per_frame: bool, flip each frame separately, with the same
            probability.
        brightness: float, 0 or more; the clip's brightness is multiplied by a
            factor, uniform in `1 - brightness` to `1 + brightness`, at least 0.
        contrast: float, 0 or more, range of a factor on the difference from
            the clip's mean grey.
        saturation: float, 0 or more, range of a factor on the difference from
            each pixel's grey.
        hue: float in `[0, 0.5]`, largest turn of the hue, 0.5 for half a circle.
        rand_augment: int, operations of RandAugment per clip, drawn from fourteen
            with replacement; 0 turns it off.
        rand_augment_magnitude: float in `[0, 30]`, their strength: at 30 a
            rotation by 30 degrees, a shear of 0.3, a shift by 0.45 of the side, a
            factor of 0.1 or 1.9, 4 of 8 bits dropped, all values inverted.

    Raises:
        ValueError: if a setting is outside its range.

    Example:

    >>> numbers = Augmentation(flip=0.5, flip_per_frame=True).draw(1, 8, (128, 64), np.random.default_rng(0))
    >>> numbers[0, :, 0].tolist()
    [0, 1, 1, 1, 0, 0, 0, 0]

    Reference: Zhong et al., Random Erasing Data Augmentation, 2020; Cubuk et
    al., RandAugment, 2020. The ranges at magnitude 30 are kreid's choice, near
    those of the common libraries; changes of colour follow each other in the
    order of the arguments, and means are over the clip. MG-RAFA
    (Zhang et al., 2020) augments whole sequences; STA (Fu et al., 2019, section
    4.2) flips input frames at random.
    """

    flip: float = 0.5
    crop_padding: int = 10
    erase: float = 0.0
    per_frame: bool = False
    flip_per_frame: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: float = 9.0

    def __post_init__(self) -> None:
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a probability, from 0 to 1. Received: {name}={getattr(self, name)}")
        if self.crop_padding < 0 or self.crop_padding != int(self.crop_padding):
            raise ValueError(
                f"`crop_padding` is a number of pixels, 0 or more. Received: crop_padding={self.crop_padding}"
            )
        for name, value in self._colours.items():
            largest = 0.5 if name == "hue" else math.inf
            if not 0 <= value <= largest or value == math.inf:
                raise ValueError(
                    f"`{name}` is a range, {'from 0 to 0.5' if name == 'hue' else '0 or more'}. "
                    f"Received: {name}={value}"
                )
        if self.rand_augment < 0 or self.rand_augment != int(self.rand_augment):
            raise ValueError(
                f"`rand_augment` is a number of operations, 0 or more. Received: rand_augment={self.rand_augment}"
            )
        if not 0 <= self.rand_augment_magnitude <= LARGEST:
            raise ValueError(
                f"`rand_augment_magnitude` is from 0 to {LARGEST:g}. "
                f"Received: rand_augment_magnitude={self.rand_augment_magnitude}"
            )

    @property
    def _colours(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")}

    @property
    def width(self) -> int:
        """How many numbers a row of `draw` has."""
        return 7 + 4 * any(self._colours.values()) + 2 * int(self.rand_augment)

    def draws(self, num_frames: int) -> int:
        """Return how many rows of numbers a clip of `num_frames` frames needs: one, or one per frame."""
        return num_frames if self.per_frame or self.flip_per_frame else 1

    def draw(
        self, count: int, num_frames: int, image_size: tuple[int, int], rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """Draw the numbers for several clips.

        Args:
            count: int, number of clips.
            num_frames: int, frames of each clip.
            image_size: `(height, width)` of the frames.
            rng: `np.random.Generator`.

        Returns:
            `int32` `(count, draws(num_frames), width)`: flip, crop's top and left
            in the padded frame, and the erased rectangle's top, left, height
            and width (height 0 where nothing is erased); then, if they are on,
            four for the colours and two for each operation. Numbers that are
            not drawn per frame are equal in all rows of a clip.
        """
        height, width = image_size
        draws = self.draws(num_frames)
        flips, crops = (draws if per_frame else 1 for per_frame in (self.flip_per_frame, self.per_frame))
        flip = rng.random((count, flips, 1)) < self.flip
        corner = rng.integers(0, 2 * int(self.crop_padding) + 1, (count, crops, 2))
        rectangle = self._rectangles(count * crops, height, width, rng).reshape(count, crops, 4)
        parts = [flip, corner, rectangle]
        # Last, so that the other numbers do not depend on them.
        if any(self._colours.values()):
            parts.append(draw_jitter(count, self._colours, rng)[:, None])
        if self.rand_augment:
            parts.append(draw_operations(count, int(self.rand_augment), rng)[:, None])
        numbers = [np.broadcast_to(part, (count, draws, part.shape[2])) for part in parts]
        return np.concatenate(numbers, axis=2).astype(np.int32)

    def _rectangles(self, count: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        area = rng.uniform(*_ERASED_AREA, (count, _ERASE_TRIES)) * height * width
        low, high = np.log(_ERASED_ASPECT)
        aspect = np.exp(rng.uniform(low, high, (count, _ERASE_TRIES)))
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

    def apply(self, frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Apply one clip's numbers to its frames.

        Args:
            frames: `uint8` tensor `(frames, height, width, 3)` of static
                shape.
            numbers: `int32` tensor `(draws, width)` of static shape, one clip of
                the result of `draw`.

        Returns:
            `uint8` tensor of the same shape.
        """
        if self.flip:
            flip = numbers[:, 0] > 0
            if self.flip_per_frame:
                frames = tf.where(flip[:, None, None, None], _flip(frames), frames)
            else:
                frames = tf.cond(flip[0], lambda: _flip(frames), lambda: frames)
        if self.width == 7:
            return self._by_part(frames, numbers, lambda part, own: self._erased(self._cropped(part, own), own))
        frames = self._by_part(frames, numbers, self._cropped)
        own = numbers[0, 7:]
        if any(self._colours.values()):
            frames, own = jitter(frames, own[:4], self._colours), own[4:]
        if self.rand_augment:
            frames = rand_augment(frames, own, self.rand_augment_magnitude)
        return self._by_part(frames, numbers, self._erased)

    def _by_part(
        self, frames: tf.Tensor, numbers: tf.Tensor, change: Callable[[tf.Tensor, list[tf.Tensor]], tf.Tensor]
    ) -> tf.Tensor:
        """Change all frames together, or each by its own numbers."""
        parts = tf.split(frames, numbers.shape[0]) if self.per_frame and numbers.shape[0] > 1 else [frames]
        changed = [change(part, tf.unstack(numbers[place])) for place, part in enumerate(parts)]
        return changed[0] if len(changed) == 1 else tf.concat(changed, axis=0)

    def _cropped(self, frames: tf.Tensor, numbers: list[tf.Tensor]) -> tf.Tensor:
        return self._crop(frames, numbers[1], numbers[2]) if self.crop_padding else frames

    def _erased(self, frames: tf.Tensor, numbers: list[tf.Tensor]) -> tf.Tensor:
        if not self.erase:
            return frames
        rectangle = numbers[3:7]
        return tf.cond(rectangle[2] > 0, lambda: _erase(frames, *rectangle), lambda: frames)

    def _crop(self, frames: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = frames.shape
        # The crop's offset from the frame. Only the part that both share is copied and then padded with zeros;
        # columns and channels as one axis make both copies much faster.
        down, right = top - int(self.crop_padding), (left - int(self.crop_padding)) * channels
        rows = tf.reshape(frames, (-1, height, width * channels))
        above, below = tf.maximum(-down, 0), tf.maximum(down, 0)
        before, after = tf.maximum(-right, 0), tf.maximum(right, 0)
        shared = rows[:, below : height - above, after : width * channels - before]
        padded = tf.pad(shared, [[0, 0], [above, below], [before, after]])
        return tf.ensure_shape(tf.reshape(padded, (-1, height, width, channels)), frames.shape)


def _flip(frames: tf.Tensor) -> tf.Tensor:
    # TensorFlow has a fast kernel for the middle axis of three.
    return tf.reshape(tf.reverse(tf.reshape(frames, (-1, *frames.shape[2:])), [1]), tf.shape(frames))


def _erase(frames: tf.Tensor, top: tf.Tensor, left: tf.Tensor, tall: tf.Tensor, wide: tf.Tensor) -> tf.Tensor:
    rows, columns = tf.range(frames.shape[1]), tf.range(frames.shape[2])
    in_rows = (rows >= top) & (rows < top + tall)
    in_columns = (columns >= left) & (columns < left + wide)
    patch = in_rows[:, None, None] & in_columns[None, :, None]
    return tf.where(patch, tf.constant(MEAN_COLOUR, tf.uint8), frames)
