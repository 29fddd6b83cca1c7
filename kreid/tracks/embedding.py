"""Embed the tracklets of a video without writing files."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kreid.data.names import name_key, person_key
from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.tracks.crops import crops, long_enough, names_of
from kreid.tracks.cuts import Cuts, TrackLimits, plan_cuts
from kreid.tracks.mot import Tracks
from kreid.tracks.source import FrameSource
from kreid.tracks.video import open_video

if TYPE_CHECKING:
    from kreid.gallery import TrackletEmbeddings
    from kreid.models import TrackletModel


def embed_tracks(
    model: "TrackletModel",
    video: str | os.PathLike[str],
    tracks: Tracks,
    path: str | os.PathLike[str] | None = None,
    *,
    limits: TrackLimits | None = None,
    person: str = "{video}-{id}",
    camera: str = "{video}",
    batch_frames: int = 256,
    frames_in_memory: int = 8192,
    watch: Callable[[int, int, np.ndarray], None] | None = None,
    progress: bool = True,
) -> "TrackletEmbeddings":
    """Embed each tracklet of a video as it ends, without writing files.

    The result equals that of embedding the PNG folders of `cut_tracklets` with the same settings. Only the frames that
    the model selects are stored, resized as image files are. If damage ends the video early, unfinished tracklets are
    embedded with their frames before the damage.

    Args:
        model: a model of `kreid.models`.
        video: see `cut_tracklets`.
        tracks: a `Tracks`, see `read_tracks`.
        path: optional path of a new `.npz` file to write, in an existing folder.
        limits: a `TrackLimits`; by default `TrackLimits()`.
        person: see `cut_tracklets`. Persons are numbered from 1 in the order of the tracker's ids; `distractor` is 0
            and `junk` -1.
        camera: see `cut_tracklets`; cameras are numbered as persons are.
        batch_frames: see `kreid.gallery.embed_tracklets`.
        frames_in_memory: largest number of frames, of the model's image size, that unfinished tracklets may store
            together. It is checked before decoding.
        watch: function that is called with the tracker's id, the frame's number and the crop, uint8 RGB
            `(height, width, 3)`, of each frame that the model selects, such as to keep pictures.
        progress: show a progress bar.

    Returns:
        A `kreid.gallery.TrackletEmbeddings` without queries. The ids are the tracklets' names as in
        `read_tracklet_folders`, in order of the tracker's ids; `damaged_frames` are the video's lost frames,
        `<video>:<number>`, and `unreadable` the tracklets left out because of them. `sources` are the video's name, and
        `tags` have the tracker's id, `track`, and the numbers of its first and last frame with a box, `first_frame` and
        `last_frame`.

    Raises:
        FileExistsError: if there is a file at `path`.
        ValueError: as `cut_tracklets`, or if tracklets would store more frames than `frames_in_memory`.
    """
    from kreid.fingerprint import fingerprint
    from kreid.gallery import TrackletEmbeddings

    limits = TrackLimits() if limits is None else limits
    if path is not None and os.path.lexists(path):
        raise FileExistsError(f"Give a new file or remove this one. Received: path={str(path)!r}")
    with open_video(video) as opened:
        cuts = plan_cuts(tracks, opened.size, limits)
        names = names_of(opened.name, cuts.ids, person, camera)
        chosen = cuts.thinned(model.selection.positions)
        if chosen.most_at_once > frames_in_memory:
            raise ValueError(
                f"Tracklets that overlap in time store up to {chosen.most_at_once} frames at once: raise "
                "`frames_in_memory`, or thin the tracklets by the limits' `max_length` or `stride`. "
                f"Received: frames_in_memory={frames_in_memory}"
            )
        boxes = crops(opened, chosen, progress)
        if watch is not None:
            boxes = _watched(boxes, chosen.ids, watch)
        embeddings, embedded = _embedded(model, boxes, chosen.last_frames, batch_frames)
        usable, lost, _ = long_enough(opened, cuts, limits.min_length)
        digest = _digest(video, opened, ["/".join(name) for name in names], cuts)
    usable &= embedded
    ids = ["/".join(name) for name in names]
    persons = _numbered((name[0] for name in names), person_key, reserved=(DISTRACTOR, JUNK))
    cameras = _numbered((name[1] for name in names), name_key)
    rows = np.flatnonzero(usable)
    # An export names the fingerprint of the model that it was made of.
    digest_of_model = getattr(model, "fingerprint", None) or fingerprint(model)
    result = TrackletEmbeddings(
        embeddings[rows],
        np.array([ids[row] for row in rows], str),
        np.array([persons[names[row][0]] for row in rows], np.int64),
        np.array([cameras[names[row][1]] for row in rows], np.int64),
        metric=model.metric,
        model=digest_of_model,
        data=digest,
        damaged_frames=np.array([f"{Path(video).name}:{number}" for number in lost], str),
        unreadable=np.array([ids[row] for row in np.flatnonzero(~usable)], str),
        passport=dataclasses.replace(model.passport, fingerprint=digest_of_model),
        sources=np.full(len(rows), opened.name),
        tags=_tags(tracks, cuts.ids[rows]),
    )
    if path is not None:
        result.save(path)
    return result


def _watched(
    boxes: Iterable[tuple[int, int, np.ndarray]], ids: np.ndarray, watch: Callable[[int, int, np.ndarray], None]
) -> Iterator[tuple[int, int, np.ndarray]]:
    for number, owner, crop in boxes:
        watch(int(ids[owner]), number, crop)
        yield number, owner, crop


def _tags(tracks: Tracks, ids: np.ndarray) -> tuple[dict[str, str], ...]:
    spans = tracks.spans()
    return tuple(
        {"track": str(number), "first_frame": str(spans[number][0]), "last_frame": str(spans[number][1])}
        for number in ids.tolist()
    )


def _embedded(
    model: "TrackletModel", boxes: Iterable[tuple[int, int, np.ndarray]], last_frames: np.ndarray, batch_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each tracklet's embedding, zeros without a frame, and whether it has a frame."""
    from kreid.data.frames import fit_frame

    embeddings = np.zeros((len(last_frames), model.embedding_dim), np.float32)
    embedded = np.zeros(len(last_frames), bool)
    unfinished: dict[int, list[np.ndarray]] = {}
    ended: dict[int, list[np.ndarray]] = {}

    def embed_ended() -> None:
        lengths = np.array([len(frames) for frames in ended.values()], np.int32)
        batch = np.zeros((len(ended), lengths.max(), *model.image_size, 3), np.uint8)
        for row, frames in enumerate(ended.values()):
            batch[row, : len(frames)] = frames
        embeddings[list(ended)] = model.embed_batch({"frames": batch, "lengths": lengths}, batch_frames)
        embedded[list(ended)] = True
        ended.clear()

    def end(owner: int) -> None:
        frames = unfinished.pop(owner)
        longest = max(len(frames), *map(len, ended.values())) if ended else 0
        if longest * (len(ended) + 1) > batch_frames:
            embed_ended()
        ended[owner] = frames

    for number, owner, crop in boxes:
        unfinished.setdefault(owner, []).append(fit_frame(crop, model.image_size).numpy())
        if number == last_frames[owner]:
            end(owner)
    for owner in list(unfinished):  # Their last frame was not decoded.
        end(owner)
    if ended:
        embed_ended()
    return embeddings, embedded


def _numbered(names: Iterable[str], key: Callable[[str], int | str], reserved: Sequence[int] = ()) -> dict[str, int]:
    """Number names from 1 in their order; names with the same key get the same number."""
    numbers: dict[int | str, int] = {number: number for number in reserved}
    return {name: numbers.setdefault(key(name), len(numbers) - len(reserved) + 1) for name in names}


def _digest(video: str | os.PathLike[str], opened: FrameSource, ids: Sequence[str], cuts: Cuts) -> str:
    """Return a digest of the video, the tracklets' names and the boxes."""
    parts = [str(video), *opened.stamp(), ids, cuts.owners.tolist(), cuts.frames.tolist(), cuts.corners.tolist()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
