"""Whole tracklets to padded batches, with tf.data from end to end."""

import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from kreid.data._pipeline_common import checked_size, checked_tracklets, dataset_options, path_tensor
from kreid.data.damage import DamageLog
from kreid.data.frames import read_frames
from kreid.data.tracklet import Tracklet


class EvaluationPipeline:
    """Batches of whole tracklets of similar length, zero-padded.

    Damage: an unreadable frame is left out and the frames after it move up. A
    tracklet without a readable frame is left out, so that its row is missing,
    and `damage.tracklets` names it. The pass stops with an error when the share
    of distinct damaged frames among those to be read exceeds `max_damaged`.

    Args:
        tracklets: sequence of `Tracklet`, of any person.
        image_size: `(height, width)` of the frames.
        batch_frames: int, frames of a batch, padding included. A longer
            tracklet makes a separate batch.
        select: optional callable, length -> int positions of the frames that
            the model uses; then only those frames are read. It must equal the
            selection inside the model, and applied to its own result it must
            select all frames. A tracklet with a damaged frame among them is
            read whole and the model selects, as it does without `select`.
        max_damaged: float, see above.
        parallelism: optional int, batches loaded at once. By default tf.data
            decides.

    Raises:
        ValueError: if a setting is out of range, or `select` gives positions
            outside the tracklet.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "white.jpg"
    >>> tf.io.write_file(str(path), tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8))))
    >>> tracklets = [Tracklet(f"t{length}", person=1, camera=1, frames=(str(path),) * length) for length in (2, 3)]
    >>> inputs, rows = next(iter(EvaluationPipeline(tracklets, image_size=(64, 32)).dataset()))
    >>> tuple(inputs["frames"].shape), inputs["lengths"].numpy().tolist(), rows.numpy().tolist()
    ((2, 3, 64, 32, 3), [3, 2], [1, 0])
    """

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        image_size: Sequence[int],
        batch_frames: int = 256,
        select: Callable[[int], ArrayLike] | None = None,
        max_damaged: float = 0.05,
        parallelism: int | None = None,
    ) -> None:
        self.image_size = checked_size(image_size)
        if batch_frames < 1:
            raise ValueError(f"`batch_frames` must be at least 1. Received: batch_frames={batch_frames}")
        self._tracklets = checked_tracklets(tracklets)
        self.damage = DamageLog(max_damaged)
        self._parallelism = parallelism or tf.data.AUTOTUNE
        self._paths = [path for tracklet in self._tracklets for path in tracklet.frames]
        lengths = np.array([len(tracklet) for tracklet in self._tracklets])
        starts = np.cumsum(lengths) - lengths
        chosen = {length: _positions(select, length) for length in np.unique(lengths).tolist()}
        # One table of frame numbers: the chosen ones of every tracklet, then all of every tracklet.
        table = [start + chosen[length] for start, length in zip(starts, lengths.tolist(), strict=True)]
        self._chosen_lengths = np.array([len(frames) for frames in table])
        self._chosen_starts = np.cumsum(self._chosen_lengths) - self._chosen_lengths
        self._whole_lengths, self._whole_starts = lengths, starts + self._chosen_lengths.sum()
        self._table = np.concatenate([*table, np.arange(len(self._paths))]).astype(np.int32)
        self._selects = select is not None
        self._to_try = np.zeros(len(self._paths), bool)
        self._to_try[np.concatenate(table)] = True
        self._lock = threading.Lock()
        self._batches = self._grouped(batch_frames)

    @property
    def num_batches(self) -> int:
        """Number of batches over undamaged data; damage can only lower it."""
        return len(self._batches)

    def dataset(self) -> tf.data.Dataset:
        """Return the batches of one pass over the tracklets, the longest first.

        Returns:
            A `tf.data.Dataset` of `(inputs, rows)`: `{"frames": uint8
            (B, T, H, W, 3), "lengths": int32 (B,)}` and the `int32` rows
            `(B,)` in `tracklets`. B and T differ between batches.
        """
        order = tf.constant(np.concatenate(self._batches).astype(np.int32))
        sizes = np.array([len(rows) for rows in self._batches])
        ends = np.cumsum(sizes)
        paths, table = path_tensor(self._paths), tf.constant(self._table)
        self._read_ranges, self._pad = _traced(self.image_size)
        batches = tf.data.Dataset.from_tensor_slices((ends - sizes, ends))
        batches = batches.map(
            lambda start, end: self._load(paths, table, order[start:end]), num_parallel_calls=self._parallelism
        )
        batches = batches.filter(lambda inputs, rows: tf.size(rows) > 0)
        return batches.prefetch(2).with_options(dataset_options())

    def _grouped(self, batch_frames: int) -> list[np.ndarray]:
        order = np.argsort(-self._chosen_lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            end = start + max(1, batch_frames // self._chosen_lengths[order[start]])
            batches.append(order[start:end])
            start = end
        return batches

    def _load(self, paths: tf.Tensor, table: tf.Tensor, rows: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        starts, lengths = tf.gather(self._chosen_starts, rows), tf.gather(self._chosen_lengths, rows)
        frames, counts, unread = self._read_ranges(paths, table, starts, lengths)
        frames, counts = tf.cond(
            tf.size(unread) == 0,
            lambda: (frames, counts),
            lambda: self._note_damage(paths, table, rows, frames, counts, unread),
        )
        padded, lengths, rows = self._pad(frames, counts, rows)
        return {"frames": padded, "lengths": lengths}, rows

    def _note_damage(
        self,
        paths: tf.Tensor,
        table: tf.Tensor,
        rows: tf.Tensor,
        frames: tf.Tensor,
        counts: tf.Tensor,
        unread: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Read damaged tracklets whole if only a selection was read; log the damage; return frames and counts."""
        reread = rows[:0]
        if self._selects:
            damaged = counts < tf.gather(self._chosen_lengths, rows)
            starts = tf.where(damaged, tf.gather(self._whole_starts, rows), tf.gather(self._chosen_starts, rows))
            lengths = tf.where(damaged, tf.gather(self._whole_lengths, rows), tf.gather(self._chosen_lengths, rows))
            frames, counts, unread = self._read_ranges(paths, table, starts, lengths)
            reread = tf.boolean_mask(rows, damaged)
        dead = tf.boolean_mask(rows, counts == 0)
        noted = tf.numpy_function(self._note, [unread, dead, reread], tf.int32)
        with tf.control_dependencies([noted]):
            return tf.identity(frames), tf.identity(counts)

    def _note(self, unread: np.ndarray, dead: np.ndarray, reread: np.ndarray) -> np.int32:
        with self._lock:
            for row in reread:
                start = self._whole_starts[row]
                self._to_try[self._table[start : start + self._whole_lengths[row]]] = True
            tried = int(np.count_nonzero(self._to_try))
        self.damage.add([self._paths[number] for number in unread], [self._tracklets[row].id for row in dead], tried)
        self.damage.check()
        return np.int32(0)


def _positions(select: Callable[[int], ArrayLike] | None, length: int) -> np.ndarray:
    if select is None:
        return np.arange(length)
    positions = np.asarray(select(length))
    if positions.ndim != 1 or not positions.size or positions.min() < 0 or positions.max() >= length:
        raise ValueError(
            f"`select` must give positions from 0 to {length - 1} for a tracklet of {length} frames. "
            f"Received: select({length})={positions.tolist()}"
        )
    return positions


@functools.lru_cache(maxsize=8)
def _traced(image_size: tuple[int, int]) -> tuple[Callable[..., tuple[tf.Tensor, ...]], ...]:
    """Return `_read_ranges` and `_padded` for a size of frames, traced once in a process: an evaluation has several."""
    int32, int64 = tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.int64)
    frames = tf.TensorSpec((None, *image_size, 3), tf.uint8)
    read = tf.function(functools.partial(_read_ranges, image_size))
    paths = tf.TensorSpec((None,), tf.string)
    return (
        read.get_concrete_function(paths, int32, int64, int64),
        tf.function(_padded).get_concrete_function(frames, int64, int32),
    )


def _read_ranges(
    image_size: tuple[int, int], paths: tf.Tensor, table: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Read ranges of the table; return the readable frames, their count in each range, and the unreadable ones."""
    places = tf.ragged.range(starts, starts + lengths)
    numbers = tf.gather(table, places.values)
    frames, readable = read_frames(tf.gather(paths, numbers), image_size)
    counts = tf.math.bincount(
        tf.gather(tf.cast(places.value_rowids(), tf.int32), readable),
        minlength=tf.size(starts),
        maxlength=tf.size(starts),
        dtype=tf.int64,
    )
    is_readable = tf.scatter_nd(readable[:, None], tf.ones_like(readable), [tf.size(numbers)])
    return frames, counts, tf.boolean_mask(numbers, is_readable == 0)


def _padded(frames: tf.Tensor, counts: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pad tracklets whose frames follow each other; return frames, lengths and rows of those with a frame."""
    padded = tf.RaggedTensor.from_row_lengths(frames, counts, validate=False).to_tensor()
    padded = tf.ensure_shape(padded, (None, None, *frames.shape[1:]))
    alive = counts > 0
    padded, counts, rows = tf.cond(
        tf.reduce_all(alive),
        lambda: (padded, counts, rows),
        lambda: tuple(tf.boolean_mask(values, alive) for values in (padded, counts, rows)),
    )
    return padded, tf.cast(counts, tf.int32), rows
