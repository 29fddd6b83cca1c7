"""Clips with unreadable frames, repaired one by one outside the graph of the batches.

A batch without damage never comes here. In the graph of the batches these few
clips would cost most of the seconds before a first batch.
"""

import os
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid.data.cache import FrameCache
from kreid.data.damage import DamageLog
from kreid.data.frames import decode_frame
from kreid.data.tracklet import Tracklet


class ClipRepair:
    """Loads the clips of a batch that have unreadable frames; `TrainingPipeline` describes what replaces what.

    TensorFlow calls it from its threads: operations run one after the other, on the CPU, without functions or
    datasets, so that they wait for no other thread.

    Args:
        tracklets: of the pipeline.
        image_size: `(height, width)` of the frames.
        clip_length: frames of one run of consecutive frames; `num_frames` if a clip is one run.
        damage: log of the pipeline.
        cache: of the pipeline, or `None`.
    """

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        image_size: tuple[int, int],
        clip_length: int,
        damage: DamageLog,
        cache: FrameCache | None,
    ) -> None:
        self._tracklets = tracklets
        self._paths = [path for tracklet in tracklets for path in tracklet.frames]
        self._image_size = image_size
        self._clip_length = clip_length
        self._damage = damage
        self._cache = cache
        self._searched: set[int] = set()
        self._lock = threading.Lock()

    def read(self, clip: NDArray[np.int32]) -> tf.Tensor | None:
        """Read a clip without counting damage.

        Args:
            clip: frame numbers `(T,)`.

        Returns:
            `uint8` tensor `(T, H, W, 3)`, or `None` if a frame is unreadable.
        """
        with tf.device("CPU:0"):
            frames = [self._frame(number) for number in clip.tolist()]
            return None if any(frame is None for frame in frames) else tf.stack(frames)

    def repair(
        self,
        whole: NDArray[np.int32],
        labels: NDArray[np.int32],
        rows: NDArray[np.int32],
        clips: NDArray[np.int32],
        tried: NDArray[np.int32],
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Load the clips that are missing in a batch, and say where each clip of the batch comes from.

        Args:
            whole: positions of the clips that were loaded, in the batch of B.
            labels: of the batch.
            rows: of the batch's tracklets.
            clips: frame numbers of the batch, `(B, T)`.
            tried: distinct frames tried so far in the run, once per clip.

        Returns:
            The missing clips with a readable frame, `(repaired, T, H, W, 3)`, not augmented; their positions in the
            batch; for each clip of the batch its position in the clips of `whole`, followed by the repaired ones; and
            the labels of those clips.

        Raises:
            ValueError: if too many frames are damaged, or no clip of the batch has a readable frame.
        """
        missing = np.setdiff1d(np.arange(len(rows)), whole)
        with tf.device("CPU:0"):
            loaded = [self._load(int(rows[place]), clips[place], int(tried[place])) for place in missing]
        repaired = {place: clip for place, clip in zip(missing.tolist(), loaded, strict=True) if clip is not None}
        given = [*whole.tolist(), *repaired]
        if not given:
            raise ValueError("No clip of a batch has a readable frame: see the pipeline's damage.report().")
        position = np.full(len(rows), -1)
        position[given] = np.arange(len(given))
        # A clip of the same person if the batch has one.
        preference = (position >= 0) * (1 + (labels[:, None] == labels))
        source = np.where(position >= 0, np.arange(len(rows)), np.argmax(preference, axis=1))
        shape = (len(repaired), clips.shape[1], *self._image_size, 3)
        values = np.reshape([clip.numpy() for clip in repaired.values()], shape).astype(np.uint8, copy=False)
        return values, np.array([*repaired], np.int32), position[source].astype(np.int32), labels[source]

    def _load(self, row: int, clip: NDArray[np.int32], tried: int) -> tf.Tensor | None:
        """Load a clip that repeats readable frames in place of the others; `None` if it has none."""
        read = {number: self._frame(number) for number in dict.fromkeys(clip.tolist())}
        unread = [self._paths[number] for number, frame in read.items() if frame is None]
        if unread:
            self._damage.add(unread, tried=tried)
            self._damage.check()
        if len(unread) == len(read):
            self._name_if_lost(row)
            return None
        readable = np.array([read[number] is not None for number in clip.tolist()])
        return tf.stack([read[number] for number in clip[self._sources(readable)].tolist()])

    def _sources(self, readable: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the place in the clip that each place takes its frame from."""
        runs = readable.reshape(-1, self._clip_length)
        counts = runs.sum(axis=1)
        first = np.argsort(~runs, axis=1, kind="stable")
        spread = np.arange(self._clip_length) * counts[:, None] // self._clip_length
        filled = np.take_along_axis(first, spread, axis=1) + np.arange(len(runs))[:, None] * self._clip_length
        apart = np.abs(np.arange(len(runs))[:, None] - np.arange(len(runs))) + np.where(counts > 0, 0, len(runs))
        return filled[np.argmin(apart, axis=1)].ravel()

    def _frame(self, number: int) -> tf.Tensor | None:
        if self._cache is None:
            return _decoded(self._paths[number], self._image_size)
        frames, _ = self._cache.read(tf.constant([number]))
        return frames[0] if len(frames) else None

    def _name_if_lost(self, row: int) -> None:
        """Name a tracklet of which no frame can be read; each is searched once."""
        with self._lock:
            if row in self._searched:
                return
            self._searched.add(row)
        # Frames outside this clip may be readable. They are not planned, so they do not count as tried.
        tracklet = self._tracklets[row]
        if all(_decoded(path, (1, 1)) is None for path in tracklet.frames):
            self._damage.add((), [tracklet.id])


def _decoded(path: str, image_size: tuple[int, int]) -> tf.Tensor | None:
    try:
        return decode_frame(tf.io.read_file(os.fsencode(path)), image_size)
    except tf.errors.OpError:
        return None
