"""Cut crops out of a video, name their tracklets, and report the frames lost to damage."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from kreid._quiet import progress_bar
from kreid.data.names import person_key
from kreid.tracks.cuts import Cuts
from kreid.tracks.video import FrameSource

_TRACKLET = "{video}-{id}"
_FOLDER_NAME = "A name must be valid for a folder: not empty, without slashes, and without a leading dot."


def crops(video: FrameSource, cuts: Cuts, progress: bool) -> Iterator[tuple[int, int, np.ndarray]]:
    """Decode a video once and cut out the boxes.

    Args:
        video: a `FrameSource`, just opened.
        cuts: a `Cuts`.
        progress: show a progress bar.

    Yields:
        A tuple `(number, owner, crop)` for each box, in order of frames: the frame's number, the tracklet's row in
        `cuts.ids`, and uint8 RGB `(height, width, 3)`. A frame that cannot be decoded yields nothing.

    Raises:
        ValueError: if the tracks extend past the end of an undamaged video.
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
            f"The tracks extend past the video's end, to frame {cuts.last_frame} of {video.decoded}: they are of "
            "another video, of a longer version of this one, or count frames differently. "
            f"Received: tracks={cuts.source!r}, video={video.path!r}"
        )


def long_enough(video: FrameSource, cuts: Cuts, min_length: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], str]:
    """Find the tracklets that are long enough without the lost frames, and the lost frames.

    Args:
        video: the `FrameSource`, after decoding.
        cuts: the `Cuts` that the limits allow.
        min_length: fewest frames of a tracklet.

    Returns:
        A tuple: whether each tracklet is long enough, bool `(tracklets,)`; the lost frames' numbers, int `(frames,)`;
        and a sentence on the damage, empty if there is none.

    Raises:
        ValueError: if no tracklet is left.
    """
    lost = (cuts.frames > video.decoded) | np.isin(cuts.frames, video.corrupt)
    is_long_enough = np.bincount(cuts.owners[~lost], minlength=len(cuts.ids)) >= min_length
    numbers = np.unique(cuts.frames[lost])
    damage = []
    if video.decoded < cuts.last_frame:
        damage.append(f"ends after frame {video.decoded}, but the tracks extend to {cuts.last_frame} ({video.missing})")
    if video.corrupt:
        damage.append(f"has {len(video.corrupt)} corrupt frames")
    report = f"The video {' and '.join(damage)}: {len(numbers)} frames with boxes to cut are lost." if damage else ""
    if not is_long_enough.any():
        raise ValueError(f"{report} No tracklet is left: copy the video again. Received: video={video.path!r}")
    return is_long_enough, numbers, report


def names_of(video: str, ids: np.ndarray, person: str | Mapping[int, str], camera: str) -> list[tuple[str, str, str]]:
    """Name tracklets.

    Args:
        video: name of the video, see `FrameSource`.
        ids: the tracker's ids.
        person: name of the persons, with the fields `{video}` and `{id}`; or a dict from each id to its person's name.
        camera: name of the cameras, with the same fields.

    Returns:
        A list of tuples `(person, camera, tracklet)`, one per id.

    Raises:
        ValueError: if a name is not valid for a folder, or a field turns a person into a distractor or junk.
    """
    names = [
        (
            _filled("person", person, video, number) if isinstance(person, str) else _checked(person[number]),
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


def _filled(argument: str, template: str, video: str, number: int) -> str:
    try:
        name = template.format(video=video, id=number)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"A name may have only the fields {{video}} and {{id}}. Received: {argument}={template!r}"
        ) from error
    if not _is_folder_name(name):
        raise ValueError(f"{_FOLDER_NAME} Received: {argument}={template!r}, which gives {name!r}")
    return name


def _checked(person: str) -> str:
    if not _is_folder_name(person):
        raise ValueError(f"{_FOLDER_NAME} Received: person={person!r}")
    return person


def _is_folder_name(name: str) -> bool:
    return bool(name) and name[0] != "." and not set(name) & set("/\\\0")
