"""Bad frames in the clips of training batches."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid.data.augment import Augmentation
from kreid.data.bad_frames import FAULT_WIDTH, KINDS, SWITCHES, BadFrames, OtherPersons, draw_faults
from kreid.data.spoil import spoil
from kreid.data.tracklet import Tracklet


class BadClips:
    """Faults and augmentation of a pipeline's clips: an `Augmentation` whose numbers hold the faults of each frame.

    The faults are drawn apart from everything else: the clips, and the augmentation, are those of the same pipeline
    without bad frames. Faults come first, as the camera's; all frames of a clip are then flipped and cropped alike.

    Args:
        settings: a `BadFrames`.
        tracklets: of the pipeline.
        augmentation: of the good and the bad frames.
        num_frames: int, frames of a clip.
        seed: int, the pipeline's.

    Raises:
        ValueError: as `BadFrames.counts` does.
    """

    def __init__(
        self,
        settings: BadFrames,
        tracklets: Sequence[Tracklet],
        augmentation: Augmentation,
        num_frames: int,
        seed: int,
    ) -> None:
        self.settings = settings
        self._augmentation = augmentation
        self._draws = augmentation.draws(num_frames)
        self._fewest, self._most = settings.counts(num_frames)
        self._others = OtherPersons(tracklets)
        lengths = np.array([len(tracklet) for tracklet in tracklets])
        self._starts = np.cumsum(lengths) - lengths
        self._seed = seed

    @property
    def width(self) -> int:
        """How many numbers a frame has."""
        return FAULT_WIDTH + self._augmentation.width

    def draws(self, num_frames: int) -> int:
        """Return how many rows of numbers a clip needs: one per frame."""
        return num_frames

    def plan(
        self, rows: np.ndarray, frames: np.ndarray, numbers: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, NDArray[np.int32]]:
        """Draw the faults of an epoch's clips.

        Args:
            rows: ints `(clips,)`, the tracklet of each clip.
            frames: ints `(clips, T)`, frames as numbers in the concatenation of all tracklets.
            numbers: `int32 (clips, draws, width)` of the augmentation.
            epoch: int, 0 or more.

        Returns:
            The frames with those of other persons in place, and the numbers for `apply`. A switched frame has its own
            number in its fault.
        """
        # The third number keeps these draws apart from the pipeline's.
        rng = np.random.default_rng((self._seed, epoch, 2))
        clips, num_frames = frames.shape
        frames, faults = frames.copy(), np.zeros((clips, num_frames, FAULT_WIDTH), np.int32)
        for clip, row in enumerate(rows.tolist()):
            count = int(rng.integers(self._fewest, self._most + 1))
            kind = self.settings.kinds[int(rng.integers(len(self.settings.kinds)))]
            drawn = draw_faults(self._others, row, num_frames, kind, count, self.settings.places, rng)
            if kind in SWITCHES:
                bad = np.flatnonzero(drawn[:, 0])
                switched = self._starts[drawn[bad, 1]] + drawn[bad, 2]
                drawn[bad, 1], drawn[bad, 2] = frames[clip, bad], 0
                frames[clip, bad] = switched
            faults[clip] = drawn
        numbers = np.broadcast_to(numbers, (clips, num_frames, numbers.shape[2]))
        return frames, np.concatenate([faults, numbers], axis=2)

    def apply(self, frames: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Spoil and augment the frames of a clip.

        Args:
            frames: `uint8` tensor `(T, height, width, 3)` of static shape.
            numbers: `int32` tensor `(T, width)`, one clip of the result of `plan`.

        Returns:
            `uint8` tensor of the same shape.
        """
        spoiled = tf.ensure_shape(spoil(frames, numbers[:, :FAULT_WIDTH], self.settings.kinds), frames.shape)
        return self._augmentation.apply(spoiled, numbers[: self._draws, FAULT_WIDTH:])

    def unswitched(self, clip: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Return the frame numbers of clips as they were without frames of other persons.

        Args:
            clip: `int32` tensor `(..., T)`.
            numbers: `int32` tensor `(..., T, width)`.

        Returns:
            `int32` tensor `(..., T)`.
        """
        kind = numbers[..., 0]
        is_switch = tf.reduce_any([kind == KINDS.index(name) + 1 for name in SWITCHES], axis=0)
        return tf.where(is_switch, numbers[..., 1], clip)
