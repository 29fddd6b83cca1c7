"""Tracklets cut out of a video into the folder layout."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kreid._files import printable, replacing
from kreid.data.readers.listing import is_system_name
from kreid.tracks.crops import crops, lasting, names_of
from kreid.tracks.cuts import Cuts, TrackLimits, counts_text, plan_cuts
from kreid.tracks.mot import Tracks
from kreid.tracks.source import FrameSource
from kreid.tracks.video import open_video

# PNG holds the video's own pixels; JPEG is smaller and nearly the same.
_FORMATS: dict[str, dict[str, Any]] = {"png": {}, "jpg": {"quality": 95, "subsampling": 0}}
_SPLITS = ("train", "query", "gallery")
_SKIPPED_LINES = 5  # in the summary


@dataclasses.dataclass(frozen=True)
class CutTracklets:
    """The result of `cut_tracklets`.

    Args:
        folder: path, as str.
        lengths: dict from a tracklet's name, `person/camera/tracklet`, to its frames.
        dropped: dict from a reason, in words, to the boxes left out for it.
        damage: a sentence on the frames lost in a damaged video; the empty string if none.
        unreadable: names of the tracklets left out because of that damage.
        skipped_lines: lines of the tracks that were skipped, each with its reason.
    """

    folder: str
    lengths: dict[str, int]
    dropped: dict[str, int]
    damage: str = ""
    unreadable: tuple[str, ...] = ()
    skipped_lines: tuple[str, ...] = ()

    def summary(self) -> str:
        """Write the counts as text."""
        lines = [f"{self.folder}: {len(self.lengths)} tracklets, {sum(self.lengths.values())} frames"]
        if self.skipped_lines:
            more = len(self.skipped_lines) - _SKIPPED_LINES
            lines.append(f"lines of the tracks skipped: {len(self.skipped_lines)}")
            lines += [f"  {line}" for line in self.skipped_lines[:_SKIPPED_LINES]]
            lines += [f"  and {more} more"] if more > 0 else []
        if self.dropped:
            lines.append(f"boxes left out: {counts_text(self.dropped)}")
        if self.damage:
            lines.append(self.damage)
        if self.unreadable:
            lines.append(f"tracklets left out because of the damage: {', '.join(self.unreadable)}")
        return printable("\n".join(lines))


def cut_tracklets(
    video: str | os.PathLike[str],
    tracks: Tracks,
    out: str | os.PathLike[str],
    *,
    limits: TrackLimits | None = None,
    split: str = "gallery",
    person: str = "{video}-{id}",
    camera: str = "{video}",
    image_format: str = "png",
    progress: bool = True,
) -> CutTracklets:
    """Cut tracklets out of a video into `<out>/<split>/<person>/<camera>/<video>-<id>/<frame>.png`.

    `read_folder` reads it, and `read_tracklet_folders` one split of it. The video is decoded once, in order, a frame at
    a time. A new folder is written under another name and renamed when complete.

    Several videos may be cut into one folder, one after the other, such as those of several cameras into one gallery:
    their tracklets are kept apart by the video's name. A folder never gets half a video; one that holds anything but
    splits is refused, and so is a video of a name that it has already.

    A tracker does not know persons: by default each track is a person, named after the video and the track. Where two
    are the same person, move the tracklet folders of one into the folder of the other. Do so before training.

    A frame's name is its number in the video, counted from 1.

    Damage: of a video cut short all that can be decoded is kept, and a tracklet with fewer than `min_length` frames in
    it is left out. The result names what was lost.

    Args:
        video: path of any file that FFmpeg decodes, or of a folder with a picture for each frame, such as `img1` of a
            MOT Challenge sequence (the sequence's name then counts as the video's). Frames of a video are turned
            upright as the file says, as OpenCV does.
        tracks: a `Tracks`, see `read_tracks`.
        out: folder to make, or to add to.
        limits: a `TrackLimits`, by default its defaults.
        split: `"train"`, `"query"` or `"gallery"`.
        person: name of the persons' folders, in which `{video}` (the file's name without its ending) and `{id}` are
            filled in. A name without `{id}` is that of everybody in the video.
        camera: the same for the cameras' folders.
        image_format: `"png"`, the pixels as decoded, or `"jpg"`, of quality 95, smaller.
        progress: show a progress bar.

    Returns:
        A `CutTracklets`.

    Raises:
        FileExistsError: if `out` is a file, holds something else, or has tracklets or persons of these names already.
        FileNotFoundError: if there is no video.
        ImportError: if PyAV is not installed.
        ValueError: for a setting out of its range, a file that is no video, tracks that go on past the video's end, or
            if no tracklet is left.
    """
    limits, out = TrackLimits() if limits is None else limits, Path(out)
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(map(repr, _SPLITS))}. Received: split={split!r}")
    if image_format not in _FORMATS:
        raise ValueError(f"`image_format` must be 'png' or 'jpg'. Received: image_format={image_format!r}")
    adds = _has_content(out)
    with open_video(video) as opened:
        cuts = plan_cuts(tracks, opened.size, limits)
        names = names_of(opened.name, cuts.ids, person, camera)
        if adds:
            _check_new(out, split, names, by_track="{id}" in person)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(out, adds) as work:
            folders = [work.joinpath(split, *name) for name in names]
            lengths = _write(folders, crops(opened, cuts, progress), image_format)
            kept, damage = _drop_short(opened, cuts, limits.min_length, folders, work)
            if adds:
                _move_into([folder for folder, stays in zip(folders, kept, strict=True) if stays], work, out)
    paths = ["/".join(name) for name in names]
    return CutTracklets(
        str(out),
        {path: length for path, length, stays in zip(paths, lengths, kept, strict=True) if stays},
        cuts.dropped,
        damage,
        tuple(path for path, stays in zip(paths, kept, strict=True) if not stays),
        tracks.skipped,
    )


def _has_content(out: Path) -> bool:
    """Whether there are tracklets at the target already; refuses a target that is something else."""
    if not os.path.lexists(out):
        return False
    if not out.is_dir():
        raise FileExistsError(f"Give a new folder or one with tracklets; this is a file. Received: out={str(out)!r}")
    names = [name for name in os.listdir(out) if not is_system_name(name)]
    others = sorted(set(names) - set(_SPLITS))
    if others:
        raise FileExistsError(
            f"Give a new folder or one that holds {', '.join(_SPLITS)} alone; this one holds {others[0]}. "
            f"Received: out={str(out)!r}"
        )
    return bool(names)


def _check_new(out: Path, split: str, names: Sequence[tuple[str, str, str]], by_track: bool) -> None:
    """Refuse names of tracklets that are there already, and of persons where a track's number names them."""
    for name in names:
        if os.path.lexists(out.joinpath(split, *name)):
            raise FileExistsError(
                f"This video, or one of the same name, was cut into the folder before: give another folder, or rename "
                f"the video. Received: out={str(out)!r}, which holds {'/'.join((split, *name))}"
            )
        place = next((place for place in _SPLITS if by_track and os.path.lexists(out / place / name[0])), None)
        if place is not None:
            raise FileExistsError(
                "A track of another video has this person's name already, and would become one person with it: put "
                f"{{video}} into `person`, or rename the video. Received: out={str(out)!r}, which holds "
                f"{place}/{name[0]}"
            )


@contextlib.contextmanager
def _work_folder(out: Path, adds: bool) -> Iterator[Path]:
    """A folder to write into, which becomes the target at the end or, to add to it, is deleted."""
    if adds:
        with tempfile.TemporaryDirectory(prefix=f".{out.name[:100]}.", dir=out.parent) as work:
            yield Path(work)
    else:
        with replacing(out) as work:
            work.mkdir()
            yield work


def _write(folders: Sequence[Path], boxes: Iterable[tuple[int, int, np.ndarray]], image_format: str) -> list[int]:
    """Write crops; return how many each folder has."""
    from PIL import Image

    lengths = [0] * len(folders)
    for number, owner, crop in boxes:
        if not lengths[owner]:
            folders[owner].mkdir(parents=True)
        Image.fromarray(crop).save(folders[owner] / f"{number:06}.{image_format}", **_FORMATS[image_format])
        lengths[owner] += 1
    return lengths


def _drop_short(
    video: FrameSource, cuts: Cuts, min_length: int, folders: Sequence[Path], top: Path
) -> tuple[np.ndarray, str]:
    """Remove the folders of tracklets that damage left too short, and folders left empty above them."""
    kept, _, damage = lasting(video, cuts, min_length)
    for row in np.flatnonzero(~kept).tolist():
        folder = folders[row]
        shutil.rmtree(folder, ignore_errors=True)
        while (folder := folder.parent) != top:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return kept, damage


def _move_into(folders: Sequence[Path], work: Path, out: Path) -> None:
    """Move folders to their places below the target; if one cannot be moved, remove those that were."""
    targets = [out / folder.relative_to(work) for folder in folders]
    moved = 0
    try:
        for folder, target in zip(folders, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, target)
            moved += 1
    except BaseException:
        for target in targets[:moved]:
            shutil.rmtree(target, ignore_errors=True)
        for target in targets[: moved + 1]:
            for folder in list(target.relative_to(out).parents)[:-1]:
                with contextlib.suppress(OSError):
                    (out / folder).rmdir()
        raise
