"""Embed the tracklets of a data set, in memory or part by part into a file."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import typing
from collections.abc import Iterator, Sequence

import numpy as np

from kreid._quiet import progress_bar
from kreid.data.damage import DamageLog
from kreid.data.tracklet import Tracklet
from kreid.fingerprint import fingerprint
from kreid.gallery.embeddings import BROKEN, TrackletEmbeddings, check_ids, read_arrays, write_arrays

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel

# Frames of a part: an interruption loses at most one part.
_PART_FRAMES = 4096


def embed_tracklets(
    model: "TrackletModel",
    tracklets: Sequence[Tracklet],
    *,
    query_rows: Sequence[int] = (),
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> TrackletEmbeddings:
    """Embed tracklets with a trained model.

    Only the frames that the model selects are read. Unreadable frames are removed and the rest move up. A tracklet
    without a readable frame has no row in the result and is named in `unreadable`.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`.
        query_rows: numbers of the tracklets that are queries.
        batch_frames: frames in memory at once, padding included. Where the system aggregates vectors, it also bounds
            the memory of longer tracklets (see `TrackletModel.embed_batch`).
        max_damaged: share of unreadable frames above which the run stops.
        progress: show a progress bar.

    Returns:
        A `TrackletEmbeddings`, rows in the order of `tracklets`.

    Raises:
        ValueError: if there are no tracklets, two tracklets have one id, or too many frames are damaged.
    """
    tracklets = _checked(tracklets)
    embeddings, done, damage = _embedded(model, tracklets, batch_frames, max_damaged, progress)
    digest = fingerprint(model)
    passport = dataclasses.replace(model.passport, fingerprint=digest)
    return _record(model.metric, tracklets, query_rows, embeddings, done, damage, model=digest, passport=passport)


def embed_to_file(
    model: "TrackletModel",
    tracklets: Sequence[Tracklet],
    path: str | os.PathLike[str],
    *,
    query_rows: Sequence[int] = (),
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> TrackletEmbeddings:
    """Embed tracklets into a file, or read the file if the same model embedded the same tracklets into it.

    The work is done in parts, which are kept next to the file, in `PATH.partial`, until all are complete. After an
    interruption the same call continues, with the same result as without it. Tracklets are the same if their ids,
    persons, cameras and frame files are, and the size and date of each tracklet's first file.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`.
        path: of the `.npz` file; its folder exists.
        query_rows: numbers of the tracklets that are queries.
        batch_frames: see `embed_tracklets`.
        max_damaged: see `embed_tracklets`.
        progress: show a progress bar.

    Returns:
        A `TrackletEmbeddings`, see `embed_tracklets`.

    Raises:
        ValueError: if there are no tracklets, two tracklets have one id, too many frames are damaged, or the file
            holds no embeddings.
    """
    tracklets, path = _checked(tracklets), pathlib.Path(path)
    digests = {"model": fingerprint(model), "data": _data_digest(tracklets, query_rows)}
    passport = dataclasses.replace(model.passport, fingerprint=digests["model"])
    if path.exists():
        saved = TrackletEmbeddings.load(path)
        if (saved.model, saved.data) == tuple(digests.values()):
            if saved.passport != passport:  # Scores were added to the model since.
                saved = dataclasses.replace(saved, passport=passport)
                saved.save(path)
            return saved

    partial = path.with_name(f"{path.name}.partial")
    partial.mkdir(exist_ok=True)
    prefix = hashlib.sha256(f"{digests['model']} {digests['data']} {batch_frames}".encode()).hexdigest()[:16]
    for file in partial.iterdir():
        if not file.name.startswith(prefix):
            file.unlink()  # Of another model, or other data.

    lengths = [len(model.selection.positions(len(tracklet))) for tracklet in tracklets]
    embeddings = np.zeros((len(tracklets), model.embedding_dim), np.float32)
    done = np.zeros(len(tracklets), bool)
    damage, tried = DamageLog(max_damaged), sum(lengths)
    with progress_bar(total=len(tracklets), desc="embedding", unit=" tracklets", disable=not progress) as bar:
        for number, rows in enumerate(_parts(lengths)):
            file = partial / f"{prefix}_{number:05}.npz"
            part = _saved_part(file)
            if part is None:
                # `max_damaged` holds for all parts together.
                vectors, readable, part_damage = _embedded(
                    model, [tracklets[row] for row in rows], batch_frames, max_damaged=1.0, progress=False
                )
                part = {
                    "rows": rows[readable],
                    "embeddings": vectors[readable],
                    "damaged_frames": np.array(list(part_damage.counts), np.str_),
                    "unreadable": np.array(part_damage.tracklets, np.str_),
                    # A tracklet with damage is read whole, beyond the selected frames.
                    "beyond": np.array(max(0, part_damage.tried - sum(lengths[row] for row in rows))),
                }
                write_arrays(file, part)
            embeddings[part["rows"]] = part["embeddings"]
            done[part["rows"]] = True
            tried += int(part["beyond"])
            damage.add(part["damaged_frames"].tolist(), part["unreadable"].tolist(), tried)
            damage.check()
            bar.update(len(rows))

    result = _record(model.metric, tracklets, query_rows, embeddings, done, damage, passport=passport, **digests)
    result.save(path)
    shutil.rmtree(partial)
    return result


def model_digest(model: "TrackletModel") -> str:
    """Return the model's fingerprint, see `kreid.models.fingerprint`.

    Args:
        model: a model of `kreid.models`.

    Returns:
        A str of 64 hexadecimal digits.
    """
    return fingerprint(model)


def _checked(tracklets: Sequence[Tracklet]) -> tuple[Tracklet, ...]:
    tracklets = tuple(tracklets)
    if not tracklets:
        raise ValueError("There are no tracklets to embed; give at least one. Received: tracklets=()")
    check_ids([tracklet.id for tracklet in tracklets])
    return tracklets


def _embedded(
    model: "TrackletModel", tracklets: Sequence[Tracklet], batch_frames: int, max_damaged: float, progress: bool
) -> tuple[np.ndarray, np.ndarray, DamageLog]:
    """Return a row for every tracklet, a mask of the embedded tracklets, and the damage."""
    # Imports TensorFlow, which scoring embeddings does not need.
    from kreid.data.evaluation_pipeline import EvaluationPipeline

    pipeline = EvaluationPipeline(
        tracklets,
        model.image_size,
        batch_frames=batch_frames,
        select=model.selection.positions,
        max_damaged=max_damaged,
    )
    embeddings = np.zeros((len(tracklets), model.embedding_dim), np.float32)
    done = np.zeros(len(tracklets), bool)
    with (
        pipeline.damage.plainly(),
        progress_bar(total=len(tracklets), desc="embedding", unit=" tracklets", disable=not progress) as bar,
    ):
        for inputs, rows in pipeline.dataset():
            rows = rows.numpy()
            embeddings[rows] = model.embed_batch(inputs, batch_frames)
            done[rows] = True
            bar.update(len(rows))
    return embeddings, done, pipeline.damage


def _record(
    metric: str,
    tracklets: Sequence[Tracklet],
    query_rows: Sequence[int],
    embeddings: np.ndarray,
    done: np.ndarray,
    damage: DamageLog,
    **of_model: typing.Any,
) -> TrackletEmbeddings:
    """Return the record of the embedded tracklets; `of_model` are further fields."""
    readable = np.flatnonzero(done).tolist()
    new_row = {row: number for number, row in enumerate(readable)}
    return TrackletEmbeddings(
        embeddings[readable],
        np.array([tracklets[row].id for row in readable], np.str_),
        np.array([tracklets[row].person for row in readable], np.int64),
        np.array([tracklets[row].camera for row in readable], np.int64),
        np.array([new_row[row] for row in query_rows if row in new_row], np.int64),
        metric,
        damaged_frames=np.array(sorted(damage.counts), np.str_),
        unreadable=np.array(damage.tracklets, np.str_),
        **of_model,
    )


def _data_digest(tracklets: Sequence[Tracklet], query_rows: Sequence[int]) -> str:
    digest = hashlib.sha256(json.dumps([int(row) for row in query_rows]).encode())
    for tracklet in tracklets:
        identity = [tracklet.id, tracklet.person, tracklet.camera, *tracklet.frames]
        try:
            status = os.stat(tracklet.frames[0])
            identity += [status.st_size, status.st_mtime_ns]
        except OSError:
            identity.append("unreadable")
        digest.update(json.dumps(identity).encode())
    return digest.hexdigest()


def _parts(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the rows of each part: tracklets of similar length together, the longest first, as in batches."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    parts = np.cumsum(np.asarray(lengths)[order]) // _PART_FRAMES
    yield from np.split(order, np.flatnonzero(np.diff(parts)) + 1)


def _saved_part(file: pathlib.Path) -> dict[str, np.ndarray] | None:
    if not file.exists():
        return None
    try:
        return read_arrays(file)
    except BROKEN:  # The machine stopped while the part was written.
        return None
