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


def stored_videos(folder: str | os.PathLike[str], state: Mapping[str, Any]) -> list[CameraVideo]:
    """Return the videos of a folder, with the tracker's tracks, which the folder has itself.

    Args:
        folder: that `write_identities` wrote.
        state: of `read_state`.

    Returns:
        A `CameraVideo` for each video; none if the folder was made from embeddings.

    Raises:
        FileNotFoundError: if tracks are missing.
    """
    tracker = IdentityFiles(folder).tracker
    return [
        CameraVideo(
            each["video"], read_tracks(tracker / f"{each['name']}.txt", max_damaged=0), each["camera"], each["name"]
        )
        for each in state["videos"]
    ]


def stored_sightings(folder: str | os.PathLike[str], *, pictures: int = 4, progress: bool = True) -> Sightings:
    """Read the embeddings of a folder, and take the pictures out of its videos again.

    Args:
        folder: that `write_identities` wrote.
        pictures: frames in the picture of a tracklet; with 0 the videos are not opened.
        progress: show a progress bar.

    Returns:
        A `Sightings`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or a video has another length than it had.
    """
    state = read_state(folder)
    embeddings = TrackletEmbeddings.load(IdentityFiles(folder).embeddings)
    videos, limits = stored_videos(folder, state), TrackLimits(**state["limits"])
    if videos:
        embeddings = dataclasses.replace(embeddings, persons=np.full(len(embeddings), DISTRACTOR))
    strips: dict[str, bytes] = {}
    for each in videos if pictures else ():
        strips |= _strips(each, limits, pictures, progress)
    known = set(embeddings.ids.tolist())
    strips = {name: strip for name, strip in strips.items() if name in known}
    return Sightings(tuple(videos), embeddings, strips, limits)


def _strips(video: CameraVideo, limits: TrackLimits, count: int, progress: bool) -> dict[str, bytes]:
    kept = Pictures(count)
    with open_video(video.video) as opened:
        cuts = plan_cuts(video.tracks, opened.size, limits).thinned(lambda length: evenly(length, count))
        for number, owner, crop in crops(opened, cuts, progress):
            kept.add(int(cuts.ids[owner]), number, crop)
    return {f"{video.name}-{track}": kept.strip(track) for track in kept.tracks}
