"""Embed tracklets with bad frames: by a model, by average pooling, and by average pooling of the good frames alone."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kreid.data.bad_frames import FAULT_WIDTH, SWITCHES, BadTracklet
from kreid.data.clips import evenly
from kreid.data.damage import DamageLog
from kreid.data.tracklet import Tracklet
from kreid.gallery.frame_vectors import embed_frames

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel

# Images in a call of the backbone; calls of one size are traced once.
_IMAGES = 64
_FRAMES = 256
# Tracklets whose vectors are aggregated at once.
_TRACKLETS = 512


class Lines(NamedTuple):
    """Embeddings of the same tracklets with bad frames, float32 `(tracklets, D)`.

    Args:
        model: of the model.
        average: of average pooling over all frames, `None` if the model has no such form.
        oracle: of average pooling over the good frames alone, or `None`.
    """

    model: np.ndarray
    average: np.ndarray | None
    oracle: np.ndarray | None


def readable_tracklets(
    tracklets: Sequence[Tracklet], most_frames: int, max_damaged: float = 0.05
) -> tuple[list[Tracklet], list[int]]:
    """Thin tracklets evenly, and leave out frames that cannot be read, and tracklets without any other.

    Args:
        tracklets: sequence of `Tracklet`.
        most_frames: frames that are kept of a longer tracklet.
        max_damaged: share of unreadable frames above which the run stops.

    Returns:
        The tracklets that are left, and their rows in `tracklets`.

    Raises:
        ValueError: if too many frames are damaged.
    """
    thin = [
        dataclasses.replace(one, frames=tuple(one.frames[place] for place in evenly(len(one), most_frames)))
        for one in tracklets
    ]
    paths = list(dict.fromkeys(path for one in thin for path in one.frames))
    # One pixel is enough to know that a file is whole.
    readable = {paths[number] for number, _ in _images(paths, None, (1, 1), skips_unreadable=True)}
    kept = [dataclasses.replace(one, frames=tuple(path for path in one.frames if path in readable)) for one in thin]
    damage = DamageLog(max_damaged)
    lost = [one.id for one in kept if not one.frames]
    damage.add([path for path in paths if path not in readable], lost, tried=len(paths))
    damage.check()
    rows = [row for row, one in enumerate(kept) if one.frames]
    return [kept[row] for row in rows], rows


def lines_of(
    model: "TrackletModel", uniform: "TrackletModel | None", tracklets: Sequence[Tracklet]
) -> "VectorLines | ModelLines":
    """Return what embeds tracklets with bad frames, in the cheapest way that a model allows.

    Args:
        model: a model of `kreid.models`.
        uniform: the same with equal weights, see `kreid.models.with_uniform_attention`, or `None`.
        tracklets: without faults.
    """
    kind = VectorLines if model.part_frames == 1 else ModelLines
    return kind(model, uniform, tracklets)


class VectorLines:
    """For models that make one vector of each frame: each image goes through the backbone once.

    Model, average and oracle aggregate the same vectors; the frames of other persons have the vectors that they have in
    their own tracklets.

    Args:
        model: with `part_frames = 1`.
        uniform: see `lines_of`.
        tracklets: see `lines_of`.
    """

    def __init__(self, model: "TrackletModel", uniform: "TrackletModel | None", tracklets: Sequence[Tracklet]) -> None:
        self._model, self._uniform, self._tracklets = model, uniform, tracklets
        paths = list(dict.fromkeys(path for tracklet in tracklets for path in tracklet.frames))
        self._row = {path: row for row, path in enumerate(paths)}
        self._clean = self._encoded(paths, None)
        self._spoiled: dict[tuple[str, bytes], np.ndarray] = {}

    def embed(self, drawn: Sequence[BadTracklet]) -> Lines:
        """Embed tracklets with the faults of one kind.

        Args:
            drawn: see `kreid.data.draw_bad_frames`.

        Returns:
            `Lines`, rows in this order.
        """
        self._encode_spoiled(drawn)
        vectors = [self._vectors(one) for one in drawn]
        model = self._aggregated(self._model, vectors)
        if self._uniform is None:
            return Lines(model, None, None)
        good = [values[~one.bad] for values, one in zip(vectors, drawn, strict=True)]
        return Lines(model, self._aggregated(self._uniform, vectors), self._aggregated(self._uniform, good))

    def frame_embeddings(self) -> list[np.ndarray]:
        """Embed each frame of the tracklets without faults alone: float32 `(frames, D)` of each tracklet."""
        embedded = self._aggregated(self._model, [vector[None] for vector in self._clean])
        return [embedded[[self._row[path] for path in one.frames]] for one in self._tracklets]

    def _encode_spoiled(self, drawn: Sequence[BadTracklet]) -> None:
        """Encode the spoiled frames that the last call did not have: three bad frames have one and two among them."""
        wanted = {
            (one.tracklet.frames[place], one.faults[place].tobytes()): one.faults[place]
            for one in drawn
            for place in np.flatnonzero(_changes_pixels(one)).tolist()
        }
        self._spoiled = {key: values for key, values in self._spoiled.items() if key in wanted}
        missing = [key for key in wanted if key not in self._spoiled]
        if missing:
            encoded = self._encoded([path for path, _ in missing], np.stack([wanted[key] for key in missing]))
            self._spoiled.update(zip(missing, encoded, strict=True))

    def _vectors(self, one: BadTracklet) -> np.ndarray:
        vectors = self._clean[[self._row[path] for path in one.tracklet.frames]]
        for place in np.flatnonzero(_changes_pixels(one)).tolist():
            vectors[place] = self._spoiled[one.tracklet.frames[place], one.faults[place].tobytes()]
        return vectors

    def _encoded(self, paths: Sequence[str], faults: np.ndarray | None) -> np.ndarray:
        encoder, size = self._model.part_encoder, self._model.image_size
        images = np.zeros((_IMAGES, 1, *size, 3), np.uint8)
        lengths, parts = np.ones(_IMAGES, np.int32), []
        for number, image in _images(paths, faults, size):
            images[number % _IMAGES, 0] = image
            filled = number + 1
            if filled % _IMAGES == 0 or filled == len(paths):
                vectors = encoder.predict_on_batch({"frames": images, "lengths": lengths})
                parts.append(np.array(vectors[: (filled - 1) % _IMAGES + 1, 0], np.float32))
        return np.concatenate(parts)

    def _aggregated(self, model: "TrackletModel", vectors: Sequence[np.ndarray]) -> np.ndarray:
        chosen = [values[model.selection.positions(len(values))] for values in vectors]
        longest = max(map(len, chosen))
        embedded = []
        for start in range(0, len(chosen), _TRACKLETS):
            part = chosen[start : start + _TRACKLETS]
            # Of one size, so that it is traced once.
            padded = np.zeros((min(_TRACKLETS, len(chosen)), longest, chosen[0].shape[1]), np.float32)
            lengths = np.ones(len(padded), np.int32)
            for row, values in enumerate(part):
                padded[row, : len(values)] = values
                lengths[row] = len(values)
            batch = {"vectors": padded, "lengths": lengths}
            embedded.append(model.aggregator.predict_on_batch(batch)[: len(part)])
        return np.concatenate(embedded)


class ModelLines:
    """For all other models: they embed the frames of every draw.

    The average is the model with equal weights on all frames, the oracle the same on the good frames alone.

    Args:
        model: any.
        uniform: see `lines_of`.
        tracklets: see `lines_of`.
    """

    def __init__(self, model: "TrackletModel", uniform: "TrackletModel | None", tracklets: Sequence[Tracklet]) -> None:
        self._model, self._uniform, self._tracklets = model, uniform, tracklets

    def embed(self, drawn: Sequence[BadTracklet]) -> Lines:
        """Embed tracklets with the faults of one kind.

        Args:
            drawn: see `kreid.data.draw_bad_frames`.

        Returns:
            `Lines`, rows in this order.
        """
        lines = [np.zeros((len(drawn), self._model.embedding_dim), np.float32) for _ in range(3)]
        for rows, frames, lengths, bad in self._batches(drawn):
            batch = {"frames": frames, "lengths": lengths}
            lines[0][rows] = self._model.embed_batch(batch, _FRAMES)
            if self._uniform is not None:
                lines[1][rows] = self._uniform.embed_batch(batch, _FRAMES)
                lines[2][rows] = lines[1][rows]
                if bad.any():
                    lines[2][rows] = self._uniform.embed_batch(_without(batch, bad), _FRAMES)
        return Lines(*lines) if self._uniform is not None else Lines(lines[0], None, None)

    def frame_embeddings(self) -> list[np.ndarray]:
        """Embed each frame of the tracklets without faults alone: float32 `(frames, D)` of each tracklet."""
        return [one.vectors for one in embed_frames(self._model, self._tracklets, progress=False)]

    def _batches(self, drawn: Sequence[BadTracklet]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield rows, frames, lengths and bad frames of tracklets of similar length."""
        counts = np.array([len(one.tracklet) for one in drawn])
        order = np.argsort(-counts, kind="stable")
        paths = [path for row in order.tolist() for path in drawn[row].tracklet.frames]
        faults = np.concatenate([drawn[row].faults for row in order.tolist()])
        images = _images(paths, faults, self._model.image_size)
        start = 0
        while start < len(order):
            longest = int(counts[order[start]])
            rows = order[start : start + max(1, _FRAMES // longest)]
            frames = np.zeros((len(rows), longest, *self._model.image_size, 3), np.uint8)
            bad = np.zeros((len(rows), longest), bool)
            for place, row in enumerate(rows.tolist()):
                for time in range(counts[row]):
                    frames[place, time] = next(images)[1]
                bad[place, : counts[row]] = drawn[row].bad
            yield rows, frames, counts[rows].astype(np.int32), bad
            start += len(rows)


def _without(batch: Mapping[str, np.ndarray], bad: np.ndarray) -> dict[str, np.ndarray]:
    """Return a batch whose good frames have moved up."""
    frames, lengths = np.zeros_like(batch["frames"]), np.zeros_like(batch["lengths"])
    for row, (own, length) in enumerate(zip(batch["frames"], batch["lengths"].tolist(), strict=True)):
        good = own[:length][~bad[row, :length]]
        frames[row, : len(good)], lengths[row] = good, len(good)
    return {"frames": frames, "lengths": lengths}


def _changes_pixels(one: BadTracklet) -> np.ndarray:
    """Return which frames have a fault of the picture; other persons' frames are good pictures of them."""
    return one.faults[:, 0] > len(SWITCHES)


def _images(
    paths: Sequence[str], faults: np.ndarray | None, image_size: tuple[int, int], skips_unreadable: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the pixels of each image, spoiled by its fault; an unreadable one raises or is skipped."""
    import tensorflow as tf

    from kreid.data._pipeline_common import path_tensor
    from kreid.data.frames import decode_frame
    from kreid.data.spoil import spoil

    spoils = faults is not None and bool((faults[:, 0] > len(SWITCHES)).any())
    rows = faults if faults is not None and spoils else np.zeros((len(paths), FAULT_WIDTH), np.int32)

    def load(number: tf.Tensor, path: tf.Tensor, fault: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        frame = decode_frame(tf.io.read_file(path), image_size)
        return number, spoil(frame[None], fault[None])[0] if spoils else frame

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), path_tensor(paths), rows))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.ignore_errors() if skips_unreadable else dataset
    for number, image in dataset.prefetch(_IMAGES).as_numpy_iterator():
        yield int(number), image
