"""Tracklets of a video straight into embeddings."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.tracks.crops import crops, lasting, names_of
from kreid.tracks.cuts import TrackLimits, plan_cuts
from kreid.tracks.video import Video


def embed_tracks(
    model,
    video,
    tracks,
    path=None,
    *,
    limits=None,
    person="{video}-{id}",
    camera="{video}",
    batch_frames=256,
    frames_in_memory=8192,
    progress=True,
):
    """Embeds the tracklets of a video as they end, without a file in between.

    Gives what embedding the folders of `cut_tracklets` would, as PNG, for the same settings: only the frames that the
    model selects are kept, resized as files are. Of a tracklet that a damaged video breaks off, those of them that came
    are embedded.

    Args:
        model: a model of `kreid.models`.
        video: see `cut_tracklets`.
        tracks: a `Tracks`, see `read_tracks`.
        path: of the `.npz` file to write, if any; its folder exists. It must not exist itself.
        limits: a `TrackLimits`, by default its defaults.
        person: see `cut_tracklets`. Persons are numbered from 1 in the order of the tracker's ids; `distractor` is 0
            and `junk` -1.
        camera: see `cut_tracklets`; numbered as persons are.
        batch_frames: see `embed_tracklets`.
        frames_in_memory: most frames, of the model's image size, that tracklets still going on may have together.
            What they will need is known, and checked, before anything is decoded.
        progress: show a progress bar.

    Returns:
        A `kreid.gallery.TrackletEmbeddings` without queries. The ids are the tracklets' names as
        `read_tracklet_folders` gives them, in order of the tracker's ids; `damaged_frames` are the video's lost frames,
        `<video>:<number>`, and `unreadable` the tracklets left out for them.

    Raises:
        FileExistsError: if there is a file at `path`.
        ValueError: as `cut_tracklets`, or if more frames than `frames_in_memory` would be held.
    """
    from kreid.gallery.embeddings import TrackletEmbeddings, model_digest

    limits = TrackLimits() if limits is None else limits
    if path is not None and os.path.lexists(path):
        raise FileExistsError(f"Give a new file or remove this one. Received: path={str(path)!r}")
    with Video(video) as opened:
        cuts = plan_cuts(tracks, opened.size, limits)
        names = names_of(video, cuts.ids, person, camera)
        chosen = cuts.thinned(model.selection.positions)
        if chosen.most_at_once > frames_in_memory:
            raise ValueError(
                f"Tracklets that go on at the same time have {chosen.most_at_once} frames to hold: raise "
                "`frames_in_memory`, or thin the tracklets by the limits' `max_length` or `stride`. "
                f"Received: frames_in_memory={frames_in_memory}"
            )
        embeddings, embedded = _embedded(model, crops(opened, chosen, progress), chosen.last_frames, batch_frames)
        kept, lost, _ = lasting(opened, cuts, limits.min_length)
    kept &= embedded
    ids = ["/".join(name) for name in names]
    persons = _numbered(name[0] for name in names) | {"distractor": DISTRACTOR, "junk": JUNK}
    cameras = _numbered(name[1] for name in names)
    rows = np.flatnonzero(kept)
    found = TrackletEmbeddings(
        embeddings[rows],
        [ids[row] for row in rows],
        [persons[names[row][0]] for row in rows],
        [cameras[names[row][1]] for row in rows],
        metric=model.metric,
        model=model_digest(model),
        data=_digest(video, ids, cuts),
        damaged_frames=[f"{Path(video).name}:{number}" for number in lost],
        unreadable=[ids[row] for row in np.flatnonzero(~kept)],
    )
    if path is not None:
        found.save(path)
    return found


def _embedded(model, found, last_frames, batch_frames):
    """Embeddings by tracklet, zeros where no frame came, and which have any."""
    from kreid.data.frames import fit_frame

    embeddings = np.zeros((len(last_frames), model.embedding_dim), np.float32)
    embedded = np.zeros(len(last_frames), bool)
    going_on, ended = {}, {}

    def embed_ended():
        lengths = np.array([len(frames) for frames in ended.values()], np.int32)
        batch = np.zeros((len(ended), lengths.max(), *model.image_size, 3), np.uint8)
        for row, frames in enumerate(ended.values()):
            batch[row, : len(frames)] = frames
        embeddings[list(ended)] = model.embed_batch({"frames": batch, "lengths": lengths}, batch_frames)
        embedded[list(ended)] = True
        ended.clear()

    def end(owner):
        frames = going_on.pop(owner)
        longest = max(len(frames), *map(len, ended.values())) if ended else 0
        if longest * (len(ended) + 1) > batch_frames:
            embed_ended()
        ended[owner] = frames

    for number, owner, crop in found:
        going_on.setdefault(owner, []).append(fit_frame(crop, model.image_size).numpy())
        if number == last_frames[owner]:
            end(owner)
    for owner in list(going_on):  # Broken off, or without their last frame.
        end(owner)
    if ended:
        embed_ended()
    return embeddings, embedded


def _numbered(names):
    return {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}


def _digest(video, ids, cuts):
    file = os.stat(video)
    seen = [str(video), file.st_size, file.st_mtime_ns, ids, cuts.owners.tolist(), cuts.frames.tolist()]
    return hashlib.sha256(json.dumps([*seen, cuts.corners.tolist()]).encode()).hexdigest()
