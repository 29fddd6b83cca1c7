"""Tracklets to training batches, with tf.data from end to end.

NumPy plans an epoch in one call: the tracklets of each batch, their frames and
their augmentation. The TensorFlow graph does the rest. So no Python runs per
frame or per tracklet, and the batches depend on the plan alone, whatever the
parallelism.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid.data._pipeline_common import checked_size, checked_tracklets, dataset_options, path_tensor
from kreid.data.augment import Augmentation
from kreid.data.bad_clips import BadClips
from kreid.data.bad_frames import BadFrames
from kreid.data.cache import FrameCache
from kreid.data.clips import adjacent_clip, adjacent_clips, chunk_clip, random_clip
from kreid.data.damage import DamageLog
from kreid.data.damaged_clips import ClipRepair
from kreid.data.frames import decode_frame, load_readable
from kreid.data.samplers import PKSampler, ShuffledSampler
from kreid.data.tracklet import Tracklet

_CLIPS: dict[str, Callable[..., np.ndarray]] = {
    "random": random_clip,
    "chunks": chunk_clip,
    "adjacent": adjacent_clip,
    "adjacent_clips": adjacent_clips,
}
_SAMPLERS = ("persons", "sequences", "frames")


class TrainingPipeline:
    """Endless training batches of clips: P persons x K tracklets x T frames, or tracklets or frames of any persons.

    The same seed gives the same batches, bit for bit, whatever the
    parallelism, and `dataset(first_epoch=e, first_step=s)` begins where an
    uninterrupted run is after e epochs and s steps. Several workers can share the batches: with `shard=(i, n)`
    worker i of n gets every n-th batch from the i-th on, so that together they
    see the batches of a single worker.

    A tracklet that a batch holds twice, because its person has fewer than K,
    gets newly drawn frames each time.

    Damage: a clip repeats its readable frames in place of unreadable ones. A
    clip without a readable frame is replaced by another clip of the same person
    in the batch, or, if there is none, by a clip and label of another person;
    with `"adjacent_clips"` a run without a readable frame repeats the nearest
    readable run of its tracklet; with `bad_frames` a clip with an unreadable
    frame has no frames of other persons. `damage` counts the unreadable frames and
    names the tracklets without a readable frame. The run stops with an error
    when the share of distinct damaged frames among those tried exceeds
    `max_damaged`, or a batch has no readable frame at all.

    Args:
        tracklets: sequence of `Tracklet`, persons above 0.
        image_size: `(height, width)` of the frames.
        num_frames: int, T.
        clips: `"random"`, `"chunks"`, `"adjacent"` or `"adjacent_clips"`, see
            `kreid.data.clips`.
        clip_length: int, frames of one run of consecutive frames. Only
            `"adjacent_clips"` reads it.
        sampler: what makes a batch: `"persons"`, P of them with K tracklets
            each (see `PKSampler`); `"sequences"`, tracklets in random order;
            or `"frames"`, single frames of all tracklets in random order, to
            train an image model (for both see `ShuffledSampler`).
        persons_per_batch: int, P. Only `"persons"` reads it.
        tracklets_per_person: int, K. Only `"persons"` reads it.
        batch_size: int, tracklets or frames of a batch. Only `"sequences"` and
            `"frames"` read it.
        augmentation: optional `Augmentation`; by default `Augmentation()`.
        bad_frames: optional `BadFrames`, faults to draw for some frames of each
            clip: of other persons, covered, blurred, half out, dark. The clips
            and their other frames are those without it.
        seed: int, 0 or more.
        steps_per_epoch: optional int; by default an epoch shows each identity
            (or tracklet, or frame) once, counted over all workers. Epochs of
            another length continue the same endless order.
        targets: names of the model's outputs that take the label.
        shard: `(i, n)`: this is worker i of n, counted from 0.
        cache: where to store decoded frames for later epochs: `"memory"`, a
            folder (see `FrameCache`), or `None` to decode them each time. It
            does not change the batches. The first call of `dataset` fills it.
        max_damaged: float, see above.
        parallelism: optional int, clips of a batch loaded at once. By default
            as many as there are cores.

    Raises:
        ValueError: if a setting is out of range, a tracklet has no identity,
            or the batches cannot be drawn (see the samplers).

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "white.jpg"
    >>> tf.io.write_file(str(path), tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8))))
    >>> tracklets = [Tracklet(f"t{row}", person=1 + row // 2, camera=1, frames=(str(path),) * 5) for row in range(4)]
    >>> pipeline = TrainingPipeline(
    ...     tracklets, image_size=(64, 32), num_frames=3, persons_per_batch=2, tracklets_per_person=2
    ... )
    >>> inputs, labels = next(iter(pipeline.dataset()))
    >>> tuple(inputs["frames"].shape), sorted(labels["logits"].numpy().tolist())
    ((4, 3, 64, 32, 3), [0, 0, 1, 1])
    """

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        *,
        image_size: Sequence[int],
        num_frames: int,
        clips: str = "random",
        clip_length: int = 4,
        sampler: str = "persons",
        persons_per_batch: int | None = None,
        tracklets_per_person: int | None = None,
        batch_size: int | None = None,
        augmentation: Augmentation | None = None,
        bad_frames: BadFrames | None = None,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        targets: Sequence[str] = ("logits", "features"),
        shard: tuple[int, int] = (0, 1),
        cache: str | os.PathLike[str] | None = None,
        max_damaged: float = 0.05,
        parallelism: int | None = None,
    ) -> None:
        self.image_size = checked_size(image_size)
        _check_clips(clips, num_frames, clip_length, sampler)
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"`steps_per_epoch` must be at least 1. Received: steps_per_epoch={steps_per_epoch}")
        if not isinstance(shard, (tuple, list)) or len(shard) != 2 or not 0 <= shard[0] < shard[1]:
            raise ValueError(f"`shard` must be (i, n) with 0 <= i < n. Received: shard={shard!r}")
        if isinstance(targets, str) or not targets:
            raise ValueError(f"`targets` must be a tuple of output names. Received: targets={targets!r}")
        self._tracklets = checked_tracklets(tracklets)
        _check_identities(self._tracklets)
        persons = np.array([tracklet.person for tracklet in self._tracklets])
        self.labels = {int(person): label for label, person in enumerate(np.unique(persons))}
        self.num_frames = num_frames
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self._bad_clips = None
        if bad_frames is not None:
            self._bad_clips = BadClips(bad_frames, self._tracklets, self.augmentation, num_frames, seed)
        self._changes: Augmentation | BadClips = self._bad_clips or self.augmentation
        self.targets = tuple(targets)
        self.damage = DamageLog(max_damaged)
        self._labels = np.unique(persons, return_inverse=True)[1].astype(np.int32)
        self.seed = seed
        self._samples_frames = sampler == "frames"
        has_runs = clips == "adjacent_clips"
        self._clip = functools.partial(adjacent_clips, clip_length=clip_length) if has_runs else _CLIPS[clips]
        self._parallelism = parallelism or os.cpu_count() or 1
        self._paths = [path for tracklet in self._tracklets for path in tracklet.frames]
        self._lengths = np.array([len(tracklet) for tracklet in self._tracklets])
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._sampler: PKSampler | ShuffledSampler
        if sampler == "persons":
            per_batch = _required(sampler, "persons_per_batch", persons_per_batch)
            per_person = _required(sampler, "tracklets_per_person", tracklets_per_person)
            cameras = [tracklet.camera for tracklet in self._tracklets]
            self._sampler = PKSampler(persons, per_batch, per_person, seed, cameras)
            self.batch_size = per_batch * per_person
        else:
            items = self._paths if sampler == "frames" else self._tracklets
            self.batch_size = _required(sampler, "batch_size", batch_size)
            self._sampler = ShuffledSampler(len(items), self.batch_size, seed)
        self.shard = tuple(shard)
        self.steps_per_epoch = steps_per_epoch or max(1, self._sampler.steps_per_epoch // self.shard[1])
        self._cache = FrameCache(self._paths, self.image_size, cache) if cache else None
        self._tried = np.zeros(len(self._paths), bool)
        self._repair = ClipRepair(
            self._tracklets,
            self.image_size,
            clip_length if has_runs else num_frames,
            self.damage,
            self._cache,
        )
        self._lock = threading.Lock()

    @property
    def num_identities(self) -> int:
        """Number of distinct persons, which is the number of labels."""
        return len(self.labels)

    def dataset(self, first_epoch: int = 0, first_step: int = 0) -> tf.data.Dataset:
        """Return endless batches from an epoch, or a step inside it, on.

        Args:
            first_epoch: int, 0 or more.
            first_step: int, the first batch in that epoch, from 0 and below
                `steps_per_epoch`. No frame of the batches before it is read.

        Returns:
            A `tf.data.Dataset` of `(inputs, labels)`: `{"frames": uint8
            (B, T, H, W, 3), "lengths": int32 (B,)}` and, for every target, the
            `int32` label `(B,)`. Shapes are static.

        Raises:
            ValueError: if `first_epoch` or `first_step` is out of its range, or
                the cache cannot be filled (see `FrameCache.fill`). While the
                batches are iterated, TensorFlow wraps the error of too much
                damage; see `DamageLog.plainly`.
        """
        if first_epoch < 0:
            raise ValueError(f"`first_epoch` must be 0 or more. Received: first_epoch={first_epoch}")
        if not 0 <= first_step < self.steps_per_epoch:
            raise ValueError(
                f"`first_step` must be 0 or more, and below the {self.steps_per_epoch} steps of an epoch. "
                f"Received: first_step={first_step}"
            )
        if self._cache is not None:
            self._cache.fill()
        paths = path_tensor(self._paths)
        plans = tf.data.Dataset.counter(first_epoch).map(self._planned).prefetch(1)
        clips = plans.flat_map(lambda *plan: tf.data.Dataset.from_tensor_slices(plan))
        clips = clips.skip(first_step * self.batch_size)
        clips = clips.batch(self.batch_size, drop_remainder=True)
        # While the last clips of a batch are loaded, the first of the next are.
        batches = clips.map(functools.partial(self._load, paths), num_parallel_calls=2)
        return batches.prefetch(2).with_options(dataset_options())

    def plan(self, epoch: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Draw all random numbers of one epoch.

        Args:
            epoch: int, 0 or more.

        Returns:
            A tuple of arrays over the epoch's clips, batch after batch: the
            row of each clip's tracklet, `int32 (clips,)`; its frames as numbers
            in the concatenation of all tracklets, `int32 (clips, T)`; and the
            augmentation numbers, `int32 (clips, draws, width)`, with
            `bad_frames` after each frame's fault.
        """
        whole = self._sampler.steps_per_epoch
        worker, workers = self.shard
        steps = np.arange(self.steps_per_epoch * workers) + epoch * self.steps_per_epoch * workers
        passes = [self._sampler.epoch(int(number)) for number in np.unique(steps // whole)]
        items = np.concatenate(passes)[steps - steps[0] // whole * whole].ravel()
        # The third number keeps these draws apart from the sampler's.
        rng = np.random.default_rng((self.seed, epoch, 1))
        if self._samples_frames:
            rows, frames = np.searchsorted(self._starts, items, side="right") - 1, items[:, None]
        else:
            rows = items
            frames = np.stack(
                [self._starts[row] + self._clip(self._lengths[row], self.num_frames, rng=rng) for row in rows]
            )
        numbers = self.augmentation.draw(len(rows), self.num_frames, self.image_size, rng)
        if self._bad_clips is not None:
            frames, numbers = self._bad_clips.plan(rows, frames, numbers, epoch)
        # Every worker draws the batches of all workers and takes its own.
        own = np.arange(len(rows)) // self.batch_size % workers == worker
        return rows[own].astype(np.int32), frames[own].astype(np.int32), numbers[own]

    def batch_files(self, epoch: int, step: int) -> list[str]:
        """Return the distinct frame files that a batch planned to read, unreadable ones included.

        Args:
            epoch: int, 0 or more.
            step: int, the batch in the epoch, from 0.

        Returns:
            A list of paths, in the order of the batch.
        """
        _, frames, _ = self.plan(epoch)
        own = frames[step * self.batch_size : (step + 1) * self.batch_size]
        return list(dict.fromkeys(self._paths[number] for number in own.ravel().tolist()))

    def first_clips(self, count: int) -> dict[str, NDArray[Any]]:
        """Return the first inputs of the first batch without starting a dataset.

        Args:
            count: int, clips, 1 or more.

        Returns:
            Dict of the first `count` rows of `"frames"` and `"lengths"`, or of the whole batch if it has fewer, as
            NumPy arrays. An unreadable clip is replaced by one of these clips, and counted as in training.

        Raises:
            ValueError: if too many frames are damaged, or none of these clips has a readable frame.
        """
        if self._cache is not None:
            self._cache.fill()
        plan = self.plan(0)
        rows, clips, numbers = (values[: min(count, self.batch_size)] for values in plan)
        tried = np.full(len(rows), np.unique(plan[1]).size, np.int32)
        read = {place: self._repair.read(clip) for place, clip in enumerate(clips)}
        whole = {place: clip for place, clip in read.items() if clip is not None}
        if self._bad_clips is not None:
            clips = self._bad_clips.unswitched(clips, numbers).numpy()
        repaired, places, source, _ = self._repair.repair(
            np.array([*whole], np.int32), self._labels[rows], rows, clips, tried
        )
        own = numbers[[*whole, *places]]
        with tf.device("CPU:0"):
            frames = [self._augmented(*clip) for clip in zip([*whole.values(), *repaired], own, strict=True)]
        return {"frames": np.stack(frames)[source], "lengths": np.full(len(rows), self.num_frames, np.int32)}

    @functools.cached_property
    def _augmented(self) -> Callable[..., tf.Tensor]:
        # Faults are drawn from the tracklets, and a class of a user's may change.
        is_plain = type(self._changes) is Augmentation
        trace = _traced_changes if is_plain else _traced_changes.__wrapped__
        return trace(self.image_size, self.num_frames, self._changes)

    def _planned(self, epoch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows, frames, numbers, tried = tf.numpy_function(
            self._plan_and_count, [epoch], (tf.int32, tf.int32, tf.int32, tf.int32)
        )
        clips = self.steps_per_epoch * self.batch_size
        return (
            tf.ensure_shape(rows, (clips,)),
            tf.ensure_shape(frames, (clips, self.num_frames)),
            tf.ensure_shape(numbers, (clips, self._changes.draws(self.num_frames), self._changes.width)),
            tf.ensure_shape(tried, (clips,)),
        )

    def _plan_and_count(self, epoch: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, frames, numbers = self.plan(int(epoch))
        with self._lock:
            self._tried[frames.ravel()] = True
            tried = np.count_nonzero(self._tried)
        return rows, frames, numbers, np.full(len(rows), tried, np.int32)

    def _load(
        self, paths: tf.Tensor, rows: tf.Tensor, clips: tf.Tensor, numbers: tf.Tensor, tried: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        # One `load_readable` per batch: each call makes a small dataset, which is too slow per clip.
        frames, whole = load_readable(
            (clips, numbers),
            lambda clip, clip_numbers: self._augmented(self._read_whole(paths, clip), clip_numbers),
            (self.num_frames, *self.image_size, 3),
            self._parallelism,
        )
        labels = tf.gather(self._labels, rows)
        frames, labels = tf.cond(
            tf.size(whole) == self.batch_size,
            lambda: (frames, labels),
            lambda: self._completed(frames, whole, labels, rows, clips, numbers, tried),
        )
        frames = tf.ensure_shape(frames, (self.batch_size, self.num_frames, *self.image_size, 3))
        labels = tf.ensure_shape(labels, (self.batch_size,))
        lengths = tf.fill((self.batch_size,), self.num_frames)
        return {"frames": frames, "lengths": lengths}, {target: labels for target in self.targets}

    def _read_whole(self, paths: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
        """Read a clip, or raise if one of its frames is unreadable."""
        if self._cache is None:
            return _traced_reading(self.image_size, self.num_frames)(paths, clip)
        frames, _ = self._cache.read(clip)
        # Raises if the cache left out an unreadable frame.
        return tf.ensure_shape(frames, (self.num_frames, *self.image_size, 3))

    def _completed(
        self,
        frames: tf.Tensor,
        whole: tf.Tensor,
        labels: tf.Tensor,
        rows: tf.Tensor,
        clips: tf.Tensor,
        numbers: tf.Tensor,
        tried: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Add the damaged clips to the others of a batch; see `ClipRepair.repair`."""
        if self._bad_clips is not None:
            clips = self._bad_clips.unswitched(clips, numbers)
        repaired, places, source, labels = tf.numpy_function(
            self._repair.repair, [whole, labels, rows, clips, tried], (tf.uint8, tf.int32, tf.int32, tf.int32)
        )
        clip = (self.num_frames, *self.image_size, 3)
        repaired = tf.map_fn(
            lambda one: self._augmented(*one),
            (tf.ensure_shape(repaired, (None, *clip)), tf.gather(numbers, tf.ensure_shape(places, (None,)))),
            fn_output_signature=tf.TensorSpec(clip, tf.uint8),
        )
        return tf.gather(tf.concat([frames, repaired], axis=0), source), labels


# Traced once in a process for the same settings: a run in phases or rows has many pipelines.
@functools.lru_cache(maxsize=8)
def _traced_reading(image_size: tuple[int, int], num_frames: int) -> Callable[..., tf.Tensor]:
    """Return a function that reads a clip, or raises if one of its frames is unreadable."""

    def read(paths: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
        distinct, place = tf.unique(clip)
        frames = tf.map_fn(
            lambda number: decode_frame(tf.io.read_file(paths[number]), image_size),
            distinct,
            fn_output_signature=tf.TensorSpec((*image_size, 3), tf.uint8),
        )
        frames = tf.cond(tf.size(distinct) == num_frames, lambda: frames, lambda: tf.gather(frames, place))
        return tf.ensure_shape(frames, (num_frames, *image_size, 3))

    specs = tf.TensorSpec((None,), tf.string), tf.TensorSpec((num_frames,), tf.int32)
    with tf.init_scope():
        return tf.function(read, autograph=False).get_concrete_function(*specs)


@functools.lru_cache(maxsize=8)
def _traced_changes(
    image_size: tuple[int, int], num_frames: int, changes: Augmentation | BadClips
) -> Callable[..., tf.Tensor]:
    """Return a function that augments a clip."""
    numbers = tf.TensorSpec((changes.draws(num_frames), changes.width), tf.int32)
    frames = tf.TensorSpec((num_frames, *image_size, 3), tf.uint8)
    with tf.init_scope():
        return tf.function(changes.apply, autograph=False).get_concrete_function(frames, numbers)


def _check_clips(clips: str, num_frames: int, clip_length: int, sampler: str) -> None:
    if clips not in _CLIPS:
        raise ValueError(f"`clips` must be one of {', '.join(map(repr, _CLIPS))}. Received: clips={clips!r}")
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1. Received: num_frames={num_frames}")
    if sampler not in _SAMPLERS:
        raise ValueError(f"`sampler` must be one of {', '.join(map(repr, _SAMPLERS))}. Received: sampler={sampler!r}")
    if sampler == "frames" and num_frames != 1:
        raise ValueError(f"Batches of frames have `num_frames=1`. Received: num_frames={num_frames}")
    if clips == "adjacent_clips" and (clip_length < 1 or num_frames % clip_length):
        raise ValueError(
            "`num_frames` must be a multiple of `clip_length`. "
            f"Received: num_frames={num_frames}, clip_length={clip_length}"
        )


def _check_identities(tracklets: Sequence[Tracklet]) -> None:
    unidentified = [tracklet.id for tracklet in tracklets if tracklet.person <= 0]
    if unidentified:
        raise ValueError(
            "Training needs identities: leave out distractors and junk, which are folders named 0, 0000 or "
            f"distractor, and -1, 00-1 or junk. Received: {len(unidentified)} tracklets of persons 0 or below, such as "
            f"{unidentified[0]!r}"
        )


def _required(sampler: str, name: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"The sampler {sampler!r} needs `{name}`. Received: {name}=None")
    return value
