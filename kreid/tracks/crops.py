"""Crops out of a video, frame by frame, their names, and what damage cost."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kreid._quiet import progress_bar
from kreid.data.names import person_key
from kreid.tracks.cuts import Cuts
from kreid.tracks.video import FrameSource

_TRACKLET = "{video}-{id}"


def crops(video: FrameSource, cuts: Cuts, progress: bool) -> Iterator[tuple[int, int, np.ndarray]]:
    """Go through a video once and cut.

    Args:
        video: a `FrameSource`, just opened.
        cuts: a `Cuts`.
        progress: show a progress bar.

    Yields:
        A tuple `(number, owner, crop)` for each box, in order of frames: the frame's number, the tracklet's row in the
        `Cuts`, and uint8 RGB `(height, width, 3)`. A frame that cannot be decoded yields nothing.

    Raises:
        ValueError: if the tracks go on past the end of a video that is whole.
    """
    starts = np.searchsorted(cuts.frames, np.arange(1, cuts.last_frame + 2))
    pictures = video.pictures(set(cuts.frames.tolist()), cuts.last_frame)
    for number, picture in progress_bar(
        pictures, total=cuts.last_frame, desc="cutting", unit=" frames", disable=not progress
    ):
        if picture is None:
            continue
        for row in range(starts[number - 1], starts[number]):
            top, bottom, left, right = cuts.corners[row]
            yield number, int(cuts.owners[row]), picture[top:bottom, left:right]
    if video.decoded < cuts.last_frame and not video.missing:
        raise ValueError(
            f"The tracks go on past the video's end, to frame {cuts.last_frame} of {video.decoded}: they are of "
            "another video, of this one before it was cut short, or count frames otherwise. "
            f"Received: tracks={cuts.source!r}, video={video.path!r}"
        )


def lasting(video: FrameSource, cuts: Cuts, min_length: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Find which tracklets are long enough in the decoded frames, and which frames were lost.

    Args:
        video: the `FrameSource`, gone through.
        cuts: the `Cuts` that the limits allow.
        min_length: frames that a tracklet must have.

    Returns:
        A tuple of bool `(tracklets,)`, the lost frames' numbers, and a sentence on the damage, empty if there is none.

    Raises:
        ValueError: if no tracklet is left.
    """
    lost = (cuts.frames > video.decoded) | np.isin(cuts.frames, video.corrupt)
    kept = np.bincount(cuts.owners[~lost], minlength=len(cuts.ids)) >= min_length
    numbers = np.unique(cuts.frames[lost])
    damage = []
    if video.decoded < cuts.last_frame:
        damage.append(f"ends after frame {video.decoded}, and the tracks go on to {cuts.last_frame} ({video.missing})")
    if video.corrupt:
        damage.append(f"has {len(video.corrupt)} corrupt frames")
    report = f"The video {' and '.join(damage)}: {len(numbers)} frames with boxes to cut are lost." if damage else ""
    if not kept.any():
        raise ValueError(f"{report} No tracklet is left: copy the video again. Received: video={video.path!r}")
    return kept, numbers, report


def names_of(video: str, ids: np.ndarray, person: str, camera: str) -> list[tuple[str, str, str]]:
    """Name tracklets.

    Args:
        video: name of the video, see `FrameSource`.
        ids: the tracker's ids.
        person: name in which `{video}` and `{id}` are filled in.
        camera: the same.

    Returns:
        A list of tuples `(person, camera, tracklet)`, one for each id.

    Raises:
        ValueError: if a name cannot be that of a folder, or a person's name filled in means a distractor or junk.
    """
    names = [
        (
            _filled("person", person, video, number),
            _filled("camera", camera, video, number),
            _filled("tracklet", _TRACKLET, video, number),
        )
        for number in ids.tolist()
    ]
    for name, *_ in names:
        if name != person and person_key(name) in (0, -1):
            raise ValueError(
                f"A person's folder named {name} is read as a distractor or junk: put a word before the number, such "
                f"as 'p{{id}}'. Received: person={person!r}"
            )
    return names


def _filled(argument: str, template: str, video: str, number: Any) -> str:
    try:
        name = template.format(video=video, id=number)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Only {{video}} and {{id}} are filled in in a name. Received: {argument}={template!r}"
        ) from error
    if not name or name[0] == "." or set(name) & set("/\\\0"):
        raise ValueError(
            "A name is that of a folder: not empty, without slashes, and not hidden by a point in front. "
            f"Received: {argument}={template!r}, which gives {name!r}"
        )
    return name
