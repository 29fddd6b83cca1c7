"""Cut tracklets in two where a model finds that they may show two persons."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kreid.data.tracklet import Tracklet
from kreid.evaluation.suspicious import suspicious_tracklets
from kreid.evaluation.switches import frame_ranges

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def split_switches(
    model: "TrackletModel",
    lengths: Mapping[Path, int],
    new_folders: Callable[[int], Sequence[Path]],
    *,
    threshold: float,
    min_length: int,
    progress: bool,
) -> tuple[dict[Path, int], dict[str, str]]:
    """Move the frames of the smaller side of each switch into a new tracklet's folder.

    Args:
        model: a model of `kreid.models`.
        lengths: number of frames by the folder of a tracklet, with its frames as files.
        new_folders: function from the number of tracklets that are cut to as many folders to make.
        threshold: see `kreid.evaluation.find_switch`.
        min_length: sides of fewer frames are removed.
        progress: show a progress bar.

    Returns:
        A tuple: the numbers of frames by folder after the cuts; and a dict from the name of a tracklet that was cut to
        the moved frames and their new tracklet's name, or that a side was left out, as text.
    """
    folders = list(lengths)
    tracklets = [
        Tracklet(str(number), 1, 1, tuple(str(path) for path in sorted(folder.iterdir())))
        for number, folder in enumerate(folders)
    ]
    found = suspicious_tracklets(model, tracklets, threshold=threshold, progress=progress)
    found.sort(key=lambda one: int(one.tracklet.id))
    result, switches = dict(lengths), {}
    for one, new in zip(found, new_folders(len(found)), strict=True):
        old, frames = folders[int(one.tracklet.id)], [Path(frame) for frame in one.tracklet.frames]
        new.mkdir(parents=True)
        for place in np.flatnonzero(one.other).tolist():
            os.rename(frames[place], new / frames[place].name)
        numbers = [(int(frames[first].stem), int(frames[last].stem)) for first, last in frame_ranges(one.other)]
        text = ", ".join(f"{first} to {last}" if last > first else f"{first}" for first, last in numbers)
        text = f"frames {text} are now {new.name}"
        for folder, side in ((old, ~one.other), (new, one.other)):
            result[folder] = int(side.sum())
            if result[folder] < min_length:
                shutil.rmtree(folder)
                for parent in (folder.parent, folder.parent.parent):  # of camera and person
                    with contextlib.suppress(OSError):
                        parent.rmdir()
                del result[folder]
                text += f"; {folder.name} is left out with {int(side.sum())} frames"
        switches[old.name] = text
    return result, switches
