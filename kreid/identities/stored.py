"""Read a folder that `kreid identify` wrote again: its embeddings, videos and tracks."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kreid.data.clips import evenly
from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.identities.files import IdentityFiles, read_state
from kreid.identities.sightings import CameraVideo, Pictures, Sightings
from kreid.tracks.crops import crops
from kreid.tracks.cuts import TrackLimits, plan_cuts
from kreid.tracks.mot import read_tracks
from kreid.tracks.video import open_video


def stored_videos(state: Mapping[str, Any], embeddings: TrackletEmbeddings) -> list[CameraVideo]:
    """Read the tracks of the videos again from where they were, and check that they are the same.

    Args:
        state: of `read_state`.
        embeddings: of the same folder.

    Returns:
        A `CameraVideo` for each video; none if the folder was made from embeddings.

    Raises:
        FileNotFoundError: if the tracks are missing.
        ValueError: if they have changed.
    """
    settings, videos = state["settings"], []
    for each in state["videos"]:
        tracks = read_tracks(each["tracks"], first_frame=settings["first_frame"], max_damaged=settings["max_damaged"])
        spans = tracks.spans()
        for source, tags in zip(embeddings.sources.tolist(), embeddings.tags, strict=True):
            expected = int(tags["first_frame"]), int(tags["last_frame"])
            if source == each["name"] and spans.get(int(tags["track"])) != expected:
                raise ValueError(
                    "The tracks have changed since the persons were found: run `kreid identify` on the videos again. "
                    f"Received: tracks={each['tracks']!r}, track {tags['track']}"
                )
        videos.append(CameraVideo(each["video"], tracks, each["camera"], each["name"]))
    return videos


def stored_sightings(
    folder: str | os.PathLike[str], *, pictures: int = 4, progress: bool = True
) -> tuple[Sightings, Mapping[str, Any]]:
    """Read the embeddings of a folder, and take the pictures out of its videos again.

    Args:
        folder: that `kreid identify` wrote.
        pictures: frames in the picture of a tracklet; with 0 the videos are not opened.
        progress: show a progress bar.

    Returns:
        A tuple: a `Sightings`, and the settings by which the tracks were read and limited.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or the tracks have changed.
    """
    state = read_state(folder)
    embeddings = TrackletEmbeddings.load(IdentityFiles(folder).embeddings)
    videos = stored_videos(state, embeddings)
    if videos:
        embeddings = dataclasses.replace(embeddings, persons=np.full(len(embeddings), DISTRACTOR))
    strips: dict[str, bytes] = {}
    for each in videos if pictures else ():
        strips |= _strips(each, TrackLimits(**state["settings"]["limits"]), pictures, progress)
    known = set(embeddings.ids.tolist())
    strips = {name: strip for name, strip in strips.items() if name in known}
    return Sightings(tuple(videos), embeddings, strips), state["settings"]


def _strips(video: CameraVideo, limits: TrackLimits, count: int, progress: bool) -> dict[str, bytes]:
    kept = Pictures(count)
    with open_video(video.video) as opened:
        cuts = plan_cuts(video.tracks, opened.size, limits).thinned(lambda length: evenly(length, count))
        for number, owner, crop in crops(opened, cuts, progress):
            kept.add(int(cuts.ids[owner]), number, crop)
    return {f"{video.name}-{track}": kept.strip(track) for track in kept.tracks}
