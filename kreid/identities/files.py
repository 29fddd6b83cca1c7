"""The files of a folder of identities. Only this module knows their names and columns."""

import csv
import hashlib
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kreid._files import check_place
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.identities.linking import Identities
from kreid.identities.sightings import CameraVideo
from kreid.tracks.mot import Tracks

FORMAT = 1


class IdentityFiles:
    """Paths of the files in a folder of identities. No file needs to exist.

    | attribute | file |
    |---|---|
    | `table` | `identities.csv`, one line for each tracklet |
    | `tracks` | `tracks/`, MOT Challenge text for each video, with one id per person in all of them |
    | `tracker` | `tracker/`, the same with the tracker's ids, of all tracks |
    | `embeddings` | `embeddings.npz`, with the persons |
    | `state` | `identities.json`, videos, settings and persons: what later commands need |
    | `scores` | `scores.json`, the scores against the truth |
    | `page` | `review.html`, the page to review the persons |

    Args:
        path: of the folder.

    Example:

    >>> IdentityFiles("identities").page.as_posix()
    'identities/review.html'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self.table = self.path / "identities.csv"
        self.tracks = self.path / "tracks"
        self.tracker = self.path / "tracker"
        self.embeddings = self.path / "embeddings.npz"
        self.state = self.path / "identities.json"
        self.scores = self.path / "scores.json"
        self.page = self.path / "review.html"


def check_new_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be written: it does not exist, or is empty.

    Raises:
        FileExistsError: if it is a file or has content, hidden files included.
        OSError: if it cannot be made at this place.
    """
    if os.path.isdir(path):
        names = os.listdir(path)
        if names:
            raise FileExistsError(
                f"Give a new folder or remove this one; it has {sorted(names)[0]}. Received: out={os.fspath(path)!r}"
            )
    elif os.path.lexists(path):
        raise FileExistsError(f"Give a new folder; this is a file. Received: out={os.fspath(path)!r}")
    check_place(path)


def first_and_last(embeddings: TrackletEmbeddings) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last frame of each tracklet by its tags, or else its times; NaN where unknown."""
    ends = []
    for tag, times in (("first_frame", embeddings.starts), ("last_frame", embeddings.ends)):
        texts = [own.get(tag) for own in embeddings.tags]
        ends.append(
            np.array([float(text) for text in texts if text is not None])
            if texts and all(text is not None and text.isdecimal() for text in texts)
            else times
        )
    return ends[0], ends[1]


def identity_table(embeddings: TrackletEmbeddings, identities: Identities) -> str:
    """Return `identities.csv`: `person,tracklet,camera,first_frame,last_frame,margin,certainty` for each tracklet.

    The lines of a person follow each other. A number that is unknown is empty; see `Identities` for the last two.

    Args:
        embeddings: a `TrackletEmbeddings`.
        identities: of its tracklets.
    """
    first, last = first_and_last(embeddings)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["person", "tracklet", "camera", "first_frame", "last_frame", "margin", "certainty"])
    for row in np.argsort(identities.persons, kind="stable").tolist():
        camera = embeddings.tags[row].get("camera", str(embeddings.cameras[row]))
        times = _text(first[row], ".17g"), _text(last[row], ".17g")
        sure = _text(identities.margins[row], ".6g"), _text(identities.certainties[row], ".6g")
        writer.writerow([identities.persons[row], embeddings.ids[row], camera, *times, *sure])
    return text.getvalue()


def person_tracks(
    videos: Sequence[CameraVideo], embeddings: TrackletEmbeddings, persons: np.ndarray
) -> dict[str, Tracks]:
    """Return the tracks of each video with the persons as ids. Tracks without a tracklet are left out.

    Args:
        videos: of a `Sightings`.
        embeddings: of the same.
        persons: int `(tracklets,)`.

    Returns:
        A dict from the name of a video to a `Tracks`.
    """
    by_video: dict[str, dict[int, int]] = {video.name: {} for video in videos}
    for source, tags, person in zip(embeddings.sources.tolist(), embeddings.tags, persons.tolist(), strict=True):
        by_video[source][int(tags["track"])] = person
    return {video.name: video.tracks.renumbered(by_video[video.name]) for video in videos}


def run_digest(embeddings: TrackletEmbeddings) -> str:
    """Return a digest of the tracklets, which decisions name: it does not depend on how they are linked."""
    first, last = first_and_last(embeddings)
    parts = [embeddings.ids.tolist(), embeddings.sources.tolist(), str(first.tolist()), str(last.tolist())]
    parts.append([own.get("camera", "") for own in embeddings.tags])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_state(folder: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read `identities.json` of a folder that `kreid identify` wrote.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if it is not readable, or of a newer kreid.
    """
    files = IdentityFiles(folder)
    if not files.state.is_file():
        raise FileNotFoundError(
            f"This folder was not written by `kreid identify`: it has no {files.state.name}. "
            f"Received: folder={os.fspath(folder)!r}"
        )
    try:
        state = json.loads(files.state.read_text(encoding="utf-8"))
        number = state["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The file is damaged: run `kreid identify` again ({error}). Received: path={str(files.state)!r}"
        ) from error
    if number != FORMAT:
        raise ValueError(
            "The folder was written by another version of kreid: run `kreid identify` again. "
            f"Received: format={number!r}"
        )
    return state


def _text(number: float, digits: str) -> str:
    """Return a number as text, empty where unknown or infinite."""
    return format(float(number), digits) if math.isfinite(number) else ""
