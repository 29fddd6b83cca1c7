"""Tracklets to batches, by tf.data from end to end.

An epoch of training is planned in NumPy in one call: which tracklets make a
batch, which of their frames are shown, how each tracklet is augmented. The graph
does the rest, so that no Python runs per frame or per tracklet, and the batches
depend on the plan alone, whatever runs in parallel.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from kreid.data.augment import Augmentation
from kreid.data.cache import FrameCache
from kreid.data.clips import adjacent_clip, adjacent_clips, chunk_clip, random_clip
from kreid.data.damage import DamageLog
from kreid.data.frames import decode_frame, load_readable, read_frames
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
    """Endless batches of frames: P persons x K tracklets x T, or of any persons.

    The same seed gives the same batches, bit for bit, whatever the
    parallelism, and `dataset(first_epoch=e)` begins where an uninterrupted run
    would be after e epochs. Several workers share them: with `shard=(i, n)`
    worker i of n has every n-th batch from the i-th on, so that together they
    see the batches of a single worker.

    A tracklet that comes twice in a batch, because its person has fewer than K,
    shows other frames each time: they are drawn again.

    Damage: a frame that cannot be read is taken out of its clip, which repeats
    its readable frames instead. A clip without any is replaced by another clip
    of the same person in the batch (of another person where there is none, with
    that person's label); one of several clips of a tracklet repeats the nearest
    of them instead. `damage` counts the frames and names the tracklets of which
    none can be read. The run stops with an error when the
    share of distinct damaged frames among those tried exceeds `max_damaged`, or
    a batch has no readable frame at all.

    Args:
        tracklets: sequence of `Tracklet`, persons above 0.
        image_size: `(height, width)` of the frames.
        num_frames: int, T.
        clips: `"random"`, `"chunks"`, `"adjacent"` or `"adjacent_clips"`, see
            `kreid.data.clips`.
        clip_length: int, frames of one of several clips. Only
            `"adjacent_clips"` reads it.
        sampler: what makes a batch: `"persons"`, P of them with K tracklets
            each (see `PKSampler`); `"sequences"`, tracklets in random order;
            `"frames"`, single frames of all tracklets in random order, as in
            training an image model (both see `ShuffledSampler`).
        persons_per_batch: int, P. Only `"persons"` reads it.
        tracklets_per_person: int, K. Only `"persons"` reads it.
        batch_size: int, tracklets or frames of a batch. Only `"sequences"` and
            `"frames"` read it.
        augmentation: an `Augmentation`.
        seed: int, 0 or more.
        steps_per_epoch: optional int; by default an epoch shows each identity
            once, or each tracklet, or each frame, to all workers together.
            Epochs of other lengths continue the same endless order.
        shard: `(i, n)`: this is worker i of n, counted from 0.
        cache: where decoded frames are kept for later epochs: `None`,
            nowhere; `"memory"`; or a folder, see `FrameCache`. The batches are
            the same. The frames are decoded at the first call of `dataset`.
        targets: names of the model's outputs that take the label.
        max_damaged: float, see above.
        parallelism: optional int, clips of a batch loaded at once. By default
            as many as there are cores.

    Raises:
        ValueError: if a setting is out of range, a tracklet has no identity,
            or the batches cannot be drawn (see the samplers).
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
        seed: int = 0,
        steps_per_epoch: int | None = None,
        targets: Sequence[str] = ("logits", "features"),
        shard: tuple[int, int] = (0, 1),
        cache: str | os.PathLike[str] | None = None,
        max_damaged: float = 0.05,
        parallelism: int | None = None,
    ) -> None:
        self.image_size = _checked_size(image_size)
        if clips not in _CLIPS:
            raise ValueError(f"`clips` must be one of {', '.join(map(repr, _CLIPS))}. Received: clips={clips!r}")
        if num_frames < 1:
            raise ValueError(f"`num_frames` must be at least 1. Received: num_frames={num_frames}")
        if sampler not in _SAMPLERS:
            raise ValueError(
                f"`sampler` must be one of {', '.join(map(repr, _SAMPLERS))}. Received: sampler={sampler!r}"
            )
        if sampler == "frames" and num_frames != 1:
            raise ValueError(f"Batches of frames have `num_frames=1`. Received: num_frames={num_frames}")
        several = clips == "adjacent_clips"
        if several and (clip_length < 1 or num_frames % clip_length):
            raise ValueError(
                "`num_frames` must be a multiple of `clip_length`. "
                f"Received: num_frames={num_frames}, clip_length={clip_length}"
            )
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"`steps_per_epoch` must be at least 1. Received: steps_per_epoch={steps_per_epoch}")
        if not isinstance(shard, (tuple, list)) or len(shard) != 2 or not 0 <= shard[0] < shard[1]:
            raise ValueError(f"`shard` must be (i, n) with 0 <= i < n. Received: shard={shard!r}")
        if isinstance(targets, str) or not targets:
            raise ValueError(f"`targets` must be a tuple of output names. Received: targets={targets!r}")
        self._tracklets = _checked_tracklets(tracklets)
        unknown = [tracklet.id for tracklet in self._tracklets if tracklet.person <= 0]
        if unknown:
            raise ValueError(
                "Training needs identities: leave out distractors and junk, which are folders named 0, 0000 or "
                f"distractor, and -1, 00-1 or junk. Received: {len(unknown)} tracklets of persons 0 or below, such as "
                f"{unknown[0]!r}"
            )
        persons = np.array([tracklet.person for tracklet in self._tracklets])
        self.labels = {int(person): label for label, person in enumerate(np.unique(persons))}
        self.num_frames = num_frames
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self.targets = tuple(targets)
        self.damage = DamageLog(max_damaged)
        self._labels = np.unique(persons, return_inverse=True)[1].astype(np.int32)
        self.seed = seed
        self._samples_frames = sampler == "frames"
        self._clip_length = clip_length if several else num_frames
        self._clip = functools.partial(adjacent_clips, clip_length=clip_length) if several else _CLIPS[clips]
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
        self._searched = np.zeros(len(self._tracklets), bool)
        self._lock = threading.Lock()

    @property
    def num_identities(self) -> int:
        """The number of distinct persons, and so of labels."""
        return len(self.labels)

    def dataset(self, first_epoch: int = 0) -> tf.data.Dataset:
        """Give the batches from an epoch on, without end.

        Args:
            first_epoch: int, 0 or more.

        Returns:
            A `tf.data.Dataset` of `(inputs, labels)`: `{"frames": uint8
            (B, T, H, W, 3), "lengths": int32 (B,)}` and, for every target, the
            `int32` label `(B,)`. Shapes are static.
        """
        if first_epoch < 0:
            raise ValueError(f"`first_epoch` must be 0 or more. Received: first_epoch={first_epoch}")
        if self._cache is not None:
            self._cache.fill()
        paths = _path_tensor(self._paths)
        plans = tf.data.Dataset.counter(first_epoch).map(self._planned).prefetch(1)
        clips = plans.flat_map(lambda *plan: tf.data.Dataset.from_tensor_slices(plan))
        clips = clips.batch(self.batch_size, drop_remainder=True)
        # While the last clips of a batch are loaded, the first of the next are.
        batches = clips.map(functools.partial(self._load, paths), num_parallel_calls=2)
        return batches.prefetch(2).with_options(_options())

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw everything random about one epoch.

        Args:
            epoch: int, 0 or more.

        Returns:
            A tuple of arrays over the epoch's clips, batch after batch: rows
            of the tracklets `int32 (clips,)`, frame numbers over all tracklets
            laid end to end `int32 (clips, T)`, augmentation numbers `int32
            (clips, draws, 7)`.
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
        # Every worker draws for all and keeps its share.
        own = np.arange(len(rows)) // self.batch_size % workers == worker
        return rows[own].astype(np.int32), frames[own].astype(np.int32), numbers[own]

    def batch_files(self, epoch: int, step: int) -> list[str]:
        """Return the frame files of a batch, each once; unreadable ones were replaced by others of their tracklet.

        Args:
            epoch: int, 0 or more.
            step: number of the batch in the epoch, from 0.
        """
        _, frames, _ = self.plan(epoch)
        own = frames[step * self.batch_size : (step + 1) * self.batch_size]
        return list(dict.fromkeys(self._paths[number] for number in own.ravel().tolist()))

    def _planned(self, epoch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows, frames, numbers, tried = tf.numpy_function(
            self._plan_and_count, [epoch], (tf.int32, tf.int32, tf.int32, tf.int32)
        )
        clips = self.steps_per_epoch * self.batch_size
        return (
            tf.ensure_shape(rows, (clips,)),
            tf.ensure_shape(frames, (clips, self.num_frames)),
            tf.ensure_shape(numbers, (clips, self.augmentation.draws(self.num_frames), 7)),
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
        # One search for unreadable files in a batch: each search makes a small dataset, too slow for every clip.
        frames, kept = load_readable(
            (clips, numbers),
            lambda clip, drawn: self.augmentation.apply(self._read_whole(paths, clip), drawn),
            (self.num_frames, *self.image_size, 3),
            self._parallelism,
        )
        frames, alive = tf.cond(
            tf.size(kept) == self.batch_size,
            lambda: (frames, tf.ones(self.batch_size, tf.bool)),
            lambda: self._load_again(paths, frames, kept, rows, clips, numbers, tried),
        )
        labels = tf.gather(self._labels, rows)
        frames, labels = tf.cond(
            tf.reduce_all(alive), lambda: (frames, labels), lambda: self._replace(frames, labels, alive)
        )
        frames = tf.ensure_shape(frames, (self.batch_size, self.num_frames, *self.image_size, 3))
        labels = tf.ensure_shape(labels, (self.batch_size,))
        lengths = tf.fill((self.batch_size,), self.num_frames)
        return {"frames": frames, "lengths": lengths}, {target: labels for target in self.targets}

    def _read_whole(self, paths: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
        """Read a clip, or raise if one of its frames is unreadable."""
        if self._cache is None:
            distinct, place = tf.unique(clip)
            frames = tf.map_fn(
                lambda number: decode_frame(tf.io.read_file(paths[number]), self.image_size),
                distinct,
                fn_output_signature=tf.TensorSpec((*self.image_size, 3), tf.uint8),
            )
            frames = tf.cond(tf.size(distinct) == self.num_frames, lambda: frames, lambda: tf.gather(frames, place))
        else:
            frames, _ = self._cache.read(clip)
        # The cache may lack some of the frames.
        return tf.ensure_shape(frames, (self.num_frames, *self.image_size, 3))

    def _load_again(
        self,
        paths: tf.Tensor,
        frames: tf.Tensor,
        kept: tf.Tensor,
        rows: tf.Tensor,
        clips: tf.Tensor,
        numbers: tf.Tensor,
        tried: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Load the clips with an unreadable frame without it; return all clips, and which of them have a frame."""
        is_kept = tf.scatter_nd(kept[:, None], tf.ones_like(kept), [self.batch_size])
        lost = tf.boolean_mask(tf.range(self.batch_size), is_kept == 0)
        repaired, alive = tf.map_fn(
            lambda place: self._load_damaged(paths, rows[place], clips[place], numbers[place], tried[place]),
            lost,
            fn_output_signature=(
                tf.TensorSpec((self.num_frames, *self.image_size, 3), tf.uint8),
                tf.TensorSpec((), tf.bool),
            ),
        )
        order = tf.argsort(tf.concat([kept, lost], axis=0))
        alive = tf.concat([tf.ones_like(kept, tf.bool), alive], axis=0)
        return tf.gather(tf.concat([frames, repaired], axis=0), order), tf.gather(alive, order)

    def _load_damaged(
        self, paths: tf.Tensor, row: tf.Tensor, clip: tf.Tensor, numbers: tf.Tensor, tried: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        distinct, place = tf.unique(clip)
        frames, kept = self._read(paths, distinct)
        frames = tf.cond(
            tf.size(kept) == self.num_frames,
            lambda: frames,
            lambda: self._refill(paths, frames, kept, row, distinct, place, tried),
        )
        frames = tf.ensure_shape(frames, (self.num_frames, *self.image_size, 3))
        return self.augmentation.apply(frames, numbers), tf.size(kept) > 0

    def _read(self, paths: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self._cache is None:
            return read_frames(tf.gather(paths, numbers), self.image_size)
        return self._cache.read(numbers)

    def _refill(
        self,
        paths: tf.Tensor,
        frames: tf.Tensor,
        kept: tf.Tensor,
        row: tf.Tensor,
        distinct: tf.Tensor,
        place: tf.Tensor,
        tried: tf.Tensor,
    ) -> tf.Tensor:
        positions = tf.scatter_nd(kept[:, None], tf.range(1, tf.size(kept) + 1), [tf.size(distinct)])
        unread = tf.boolean_mask(distinct, positions == 0)
        noted = tf.cond(
            tf.size(unread) > 0, lambda: tf.numpy_function(self._note, [unread, tried], tf.int32), lambda: 0
        )
        unknown = tf.cond(
            tf.size(kept) == 0, lambda: tf.numpy_function(self._search, [row], tf.bool), lambda: tf.constant(False)
        )
        named = tf.cond(tf.ensure_shape(unknown, ()), lambda: self._name_if_lost(paths, row), lambda: 0)
        usable = tf.reshape(tf.gather(positions, place), (-1, self._clip_length))
        counts = tf.math.count_nonzero(usable, axis=1, dtype=tf.int32)
        with tf.control_dependencies([noted, named]):
            first = tf.argsort(tf.cast(usable == 0, tf.int32), axis=1, stable=True)
            spread = tf.range(self._clip_length) * counts[:, None] // self._clip_length
        filled = tf.gather(usable, tf.gather(first, spread, batch_dims=1), batch_dims=1)
        numbers = tf.range(tf.size(counts))
        apart = tf.abs(numbers[:, None] - numbers) + tf.where(counts > 0, 0, tf.size(counts))
        # Where no clip has a readable frame, all become the black frame 0; their batch replaces them.
        source = tf.reshape(tf.gather(filled, tf.argmin(apart, axis=1)), (-1,))
        return tf.gather(tf.pad(frames, [[1, 0], [0, 0], [0, 0], [0, 0]]), source)

    def _note(self, unread: np.ndarray, tried: np.ndarray) -> np.int32:
        self.damage.add([self._paths[number] for number in unread], tried=int(tried))
        self.damage.check()
        return np.int32(0)

    def _search(self, row: np.ndarray) -> np.bool_:
        """Whether the rest of a tracklet must still be looked at, which is done once."""
        with self._lock:
            searched, self._searched[row] = self._searched[row], True
        return np.bool_(not searched)

    def _name_if_lost(self, paths: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        # Other clips of the tracklet may be readable. Its other frames are not planned, and do not count in the share.
        start, length = tf.gather(self._starts, row), tf.gather(self._lengths, row)
        _, kept = read_frames(tf.gather(paths, tf.range(start, start + length)), (1, 1))
        return tf.cond(tf.size(kept) == 0, lambda: tf.numpy_function(self._name_lost, [row], tf.int32), lambda: 0)

    def _name_lost(self, row: np.ndarray) -> np.int32:
        self.damage.add((), [self._tracklets[row].id])
        return np.int32(0)

    def _replace(self, frames: tf.Tensor, labels: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        readable = tf.debugging.Assert(
            tf.reduce_any(alive), ["No clip of a batch has a readable frame: see the pipeline's damage.report()."]
        )
        with tf.control_dependencies([readable]):
            same = tf.cast(labels[:, None] == labels[None, :], tf.int32)
            worth = tf.cast(alive, tf.int32)[None, :] * (1 + same)
        source = tf.where(alive, tf.range(self.batch_size), tf.argmax(worth, axis=1, output_type=tf.int32))
        return tf.gather(frames, source), tf.gather(labels, source)


class EvaluationPipeline:
    """Batches of whole tracklets of similar length, zero-padded.

    Damage: a frame that cannot be read is taken out and the rest move up. A
    tracklet without any readable frame is left out, so that its row is missing;
    `damage.tracklets` names it. The pass stops with an error when the share of
    distinct damaged frames among those to be read exceeds `max_damaged`.

    Args:
        tracklets: sequence of `Tracklet`, of any person.
        image_size: `(height, width)` of the frames.
        batch_frames: int, frames of a batch, padding included. A longer
            tracklet makes a separate batch.
        select: optional callable, length -> int positions of the frames that
            the model will use; then only those are read. It must be the
            model's own selection, and select all frames of a tracklet that it
            has selected from. A tracklet with a damaged frame among them is
            read whole and the model selects, as it would without `select`.
        max_damaged: float, see above.
        parallelism: optional int, batches loaded at once. By default tf.data
            decides.

    Raises:
        ValueError: if a setting is out of range, or `select` gives positions
            outside the tracklet.
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
        self.image_size = _checked_size(image_size)
        if batch_frames < 1:
            raise ValueError(f"`batch_frames` must be at least 1. Received: batch_frames={batch_frames}")
        self._tracklets = _checked_tracklets(tracklets)
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
        """Batches of a pass over undamaged data; damage can only lower it."""
        return len(self._batches)

    def dataset(self) -> tf.data.Dataset:
        """Go over the tracklets once, the longest first.

        Returns:
            A `tf.data.Dataset` of `(inputs, rows)`: `{"frames": uint8
            (B, T, H, W, 3), "lengths": int32 (B,)}` and the `int32` rows
            `(B,)` of the tracklets given. B and T differ between batches.
        """
        order = tf.constant(np.concatenate(self._batches).astype(np.int32))
        sizes = np.array([len(rows) for rows in self._batches])
        ends = np.cumsum(sizes)
        paths, table = _path_tensor(self._paths), tf.constant(self._table)
        batches = tf.data.Dataset.from_tensor_slices((ends - sizes, ends))
        batches = batches.map(
            lambda start, end: self._load(paths, table, order[start:end]), num_parallel_calls=self._parallelism
        )
        batches = batches.filter(lambda inputs, rows: tf.size(rows) > 0)
        return batches.prefetch(2).with_options(_options())

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
        frames, counts, unread = self._read(paths, table, starts, lengths)
        frames, counts = tf.cond(
            tf.size(unread) == 0,
            lambda: (frames, counts),
            lambda: self._note_damage(paths, table, rows, frames, counts, unread),
        )
        padded = tf.RaggedTensor.from_row_lengths(frames, counts, validate=False).to_tensor()
        padded = tf.ensure_shape(padded, (None, None, *self.image_size, 3))
        some = counts > 0
        padded, counts, rows = tf.cond(
            tf.reduce_all(some),
            lambda: (padded, counts, rows),
            lambda: tuple(tf.boolean_mask(values, some) for values in (padded, counts, rows)),
        )
        return {"frames": padded, "lengths": tf.cast(counts, tf.int32)}, rows

    def _read(
        self, paths: tf.Tensor, table: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        places = tf.ragged.range(starts, starts + lengths)
        numbers = tf.gather(table, places.values)
        frames, kept = read_frames(tf.gather(paths, numbers), self.image_size)
        counts = tf.math.bincount(
            tf.gather(tf.cast(places.value_rowids(), tf.int32), kept),
            minlength=tf.size(starts),
            maxlength=tf.size(starts),
            dtype=tf.int64,
        )
        is_kept = tf.scatter_nd(kept[:, None], tf.ones_like(kept), [tf.size(numbers)])
        return frames, counts, tf.boolean_mask(numbers, is_kept == 0)

    def _note_damage(
        self,
        paths: tf.Tensor,
        table: tf.Tensor,
        rows: tf.Tensor,
        frames: tf.Tensor,
        counts: tf.Tensor,
        unread: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        touched = rows[:0]
        if self._selects:
            damaged = counts < tf.gather(self._chosen_lengths, rows)
            starts = tf.where(damaged, tf.gather(self._whole_starts, rows), tf.gather(self._chosen_starts, rows))
            lengths = tf.where(damaged, tf.gather(self._whole_lengths, rows), tf.gather(self._chosen_lengths, rows))
            frames, counts, unread = self._read(paths, table, starts, lengths)
            touched = tf.boolean_mask(rows, damaged)
        dead = tf.boolean_mask(rows, counts == 0)
        noted = tf.numpy_function(self._note, [unread, dead, touched], tf.int32)
        with tf.control_dependencies([noted]):
            return tf.identity(frames), tf.identity(counts)

    def _note(self, unread: np.ndarray, dead: np.ndarray, touched: np.ndarray) -> np.int32:
        with self._lock:
            for row in touched:
                start = self._whole_starts[row]
                self._to_try[self._table[start : start + self._whole_lengths[row]]] = True
            tried = int(np.count_nonzero(self._to_try))
        self.damage.add([self._paths[number] for number in unread], [self._tracklets[row].id for row in dead], tried)
        self.damage.check()
        return np.int32(0)


def _required(sampler: str, name: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"The sampler {sampler!r} needs `{name}`. Received: {name}=None")
    return value


def _checked_size(image_size: Sequence[int]) -> tuple[int, int]:
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"`image_size` must be (height, width), both positive. Received: image_size={image_size}")
    return int(image_size[0]), int(image_size[1])


def _checked_tracklets(tracklets: Sequence[Tracklet]) -> tuple[Tracklet, ...]:
    tracklets = tuple(tracklets)
    if not tracklets:
        raise ValueError("There must be at least one tracklet. Received: tracklets=()")
    empty = [tracklet.id for tracklet in tracklets if not tracklet.frames]
    if empty:
        raise ValueError(
            f"Every tracklet needs at least one frame; leave out the {len(empty)} without. Received: id={empty[0]!r}"
        )
    return tracklets


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


def _path_tensor(paths: Sequence[str]) -> tf.Tensor:
    # As bytes: a file's name may not be valid UTF-8.
    return tf.constant([os.fsencode(path) for path in paths])


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Workers of a distribution strategy have their shards from the plan.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
