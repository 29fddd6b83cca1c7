"""Cut tracklets out of a video into the folder layout."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kreid._files import check_place, printable, replacing
from kreid.data.readers.listing import is_system_name
from kreid.evaluation.switches import check_threshold
from kreid.tracks.crops import crops, long_enough, names_of
from kreid.tracks.cuts import Cuts, TrackLimits, counts_text, plan_cuts
from kreid.tracks.mot import Tracks
from kreid.tracks.source import FrameSource
from kreid.tracks.splitting import split_switches
from kreid.tracks.video import open_video

if TYPE_CHECKING:
    from kreid.models import TrackletModel

# PNG stores the pixels as decoded; JPEG is smaller and nearly the same.
_FORMATS: dict[str, dict[str, Any]] = {"png": {}, "jpg": {"quality": 95, "subsampling": 0}}
_SPLITS = ("train", "query", "gallery")
_SKIPPED_LINES = 5  # in the summary


@dataclasses.dataclass(frozen=True)
class CutTracklets:
    """The result of `cut_tracklets`.

    Args:
        folder: path, as str.
        lengths: dict from a tracklet's name, `person/camera/tracklet`, to its number of frames.
        dropped: dict from a reason to the number of boxes left out for it.
        damage: a sentence on the frames lost in a damaged video, or the empty string.
        unreadable: names of the tracklets left out because of the damage.
        skipped_lines: skipped lines of the tracks, each with its reason.
        switches: dict from the name of a tracklet that was cut in two, `{video}-{id}`, to its moved frames as text.
    """

    folder: str
    lengths: dict[str, int]
    dropped: dict[str, int]
    damage: str = ""
    unreadable: tuple[str, ...] = ()
    skipped_lines: tuple[str, ...] = ()
    switches: dict[str, str] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """Return the counts as text."""
        lines = [f"{self.folder}: {len(self.lengths)} tracklets, {sum(self.lengths.values())} frames"]
        if self.skipped_lines:
            more = len(self.skipped_lines) - _SKIPPED_LINES
            lines.append(f"skipped lines of the tracks: {len(self.skipped_lines)}")
            lines += [f"  {line}" for line in self.skipped_lines[:_SKIPPED_LINES]]
            lines += [f"  and {more} more"] if more > 0 else []
        if self.dropped:
            lines.append(f"boxes left out: {counts_text(self.dropped)}")
        if self.switches:
            lines.append(f"tracklets cut in two, as they may show two persons: {len(self.switches)}")
            lines += [f"  {name}: {other}" for name, other in self.switches.items()]
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
    person: str | Mapping[int, str] = "{video}-{id}",
    camera: str = "{video}",
    image_format: str = "png",
    switch_model: "TrackletModel | None" = None,
    switch_threshold: float = 0.35,
    progress: bool = True,
) -> CutTracklets:
    """Cut tracklets out of a video into `<out>/<split>/<person>/<camera>/<video>-<id>/<frame>.png`.

    `read_folder` reads the result, and `read_tracklet_folders` one split of it. The video is decoded once, frame by
    frame. A new folder is written under a temporary name and renamed when complete.

    Several videos can be cut into one folder, one at a time, such as those of several cameras into one gallery; their
    tracklets differ by the video's name. A video is added completely or not at all. A folder with other content than
    splits is refused, and so is a video whose name the folder already has.

    A tracker does not know persons: by default each track is a person, named after the video and the track. If two
    tracks are the same person, move the tracklet folders of one into the person's folder of the other before training.

    A frame's name is its number in the video, counted from 1.

    Damage: all decodable frames of a truncated video are used, and tracklets with fewer than `min_length` of them are
    left out. The result names the lost frames and tracklets.

    Args:
        video: path of a file that FFmpeg decodes, or of a folder with one image per frame, such as `img1` of a MOT
            Challenge sequence (the sequence's name is then the video's). Frames of a video are rotated as its metadata
            specifies, as in OpenCV.
        tracks: a `Tracks`, see `read_tracks`.
        out: new folder, or one to which the tracklets are added.
        limits: a `TrackLimits`; by default `TrackLimits()`.
        split: `"train"`, `"query"` or `"gallery"`.
        person: name of the persons' folders, with the fields `{video}` (the file's name without its extension) and
            `{id}`. Without `{id}` the whole video is one person. Or a dict from the tracker's ids to the names of the
            persons, where they are known; other tracks are left out.
        camera: name of the cameras' folders, with the same fields.
        image_format: `"png"`, the pixels as decoded, or `"jpg"`, smaller, of quality 95.
        switch_model: a model of `kreid.models`, or `None`. With it a tracklet whose frames may show two persons is cut
            in two (see `kreid.evaluation.suspicious_tracklets`): the frames of the smaller side become a tracklet of a
            new id, above the tracker's. A side of fewer frames than `min_length` of the limits is left out.
        switch_threshold: of `kreid.evaluation.find_switch`.
        progress: show a progress bar.

    Returns:
        A `CutTracklets`.

    Raises:
        FileExistsError: if `out` is a file, has other content, or already has tracklets or persons of these names.
        FileNotFoundError: if the video is missing.
        ImportError: if PyAV is not installed.
        OSError: if `out` cannot be made at its place.
        ValueError: if a setting is out of range, the file is not a video, the tracks extend past the video's end, or no
            tracklet is left.
    """
    limits, out = TrackLimits() if limits is None else limits, Path(out)
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(map(repr, _SPLITS))}. Received: split={split!r}")
    if image_format not in _FORMATS:
        raise ValueError(f"`image_format` must be 'png' or 'jpg'. Received: image_format={image_format!r}")
    if switch_model is not None:
        check_threshold(switch_threshold)
    by_track = isinstance(person, str) and "{id}" in person
    if not isinstance(person, str):
        tracks = tracks.renumbered({number: number for number in person})
    if switch_model is not None and not by_track:
        raise ValueError(
            f"Both sides of a switch would be one person: put {{id}} into `person`. Received: person={person!r}"
        )
    adds = _has_content(out)
    if not adds:
        check_place(out)
    with open_video(video) as opened:
        cuts = plan_cuts(tracks, opened.size, limits)
        names = names_of(opened.name, cuts.ids, person, camera)
        if adds:
            _check_new(out, split, names, by_track)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(out, adds) as work:
            folders = [work.joinpath(split, *name) for name in names]
            lengths = _write(folders, crops(opened, cuts, progress), image_format)
            usable, damage = _drop_short(opened, cuts, limits.min_length, folders, work)
            stay = {folder: length for folder, length, one in zip(folders, lengths, usable, strict=True) if one}
            switches: dict[str, str] = {}
            if switch_model is not None:

                def new_folders(count: int) -> list[Path]:
                    new = names_of(opened.name, int(tracks.ids.max()) + 1 + np.arange(count), person, camera)
                    if adds:
                        _check_new(out, split, new, by_track=True)
                    return [work.joinpath(split, *name) for name in new]

                stay, switches = split_switches(
                    switch_model,
                    stay,
                    new_folders,
                    threshold=switch_threshold,
                    min_length=limits.min_length,
                    progress=progress,
                )
            if adds:
                _move_into(list(stay), work, out)
            kept = {folder.relative_to(work / split).as_posix(): length for folder, length in stay.items()}
    paths = ["/".join(name) for name in names]
    return CutTracklets(
        str(out),
        kept,
        cuts.dropped,
        damage,
        tuple(path for path, stays in zip(paths, usable, strict=True) if not stays),
        tracks.skipped,
        switches,
    )


def _has_content(out: Path) -> bool:
    """Return whether the target has tracklets or hidden files; raise if it is a file or has other content."""
    if not os.path.lexists(out):
        return False
    if not out.is_dir():
        raise FileExistsError(f"Give a new folder or one with tracklets; this is a file. Received: out={str(out)!r}")
    names = [name for name in os.listdir(out) if not is_system_name(name)]
    others = sorted(set(names) - set(_SPLITS))
    if others:
        raise FileExistsError(
            f"Give a new folder or one that has only {', '.join(_SPLITS)}; this one has {others[0]}. "
            f"Received: out={str(out)!r}"
        )
    return bool(os.listdir(out))  # Hidden files stay where they are.


def _check_new(out: Path, split: str, names: Sequence[tuple[str, str, str]], by_track: bool) -> None:
    """Raise if the target already has a tracklet of these names or, if tracks name persons, one of the persons."""
    for name in names:
        if os.path.lexists(out.joinpath(split, *name)):
            raise FileExistsError(
                f"This video, or one of the same name, was cut into the folder before: give another folder, or rename "
                f"the video. Received: out={str(out)!r}, which has {'/'.join((split, *name))}"
            )
        place = next((place for place in _SPLITS if by_track and os.path.lexists(out / place / name[0])), None)
        if place is not None:
            raise FileExistsError(
                "A track of another video already has this person's name, so both would become one person: put "
                f"{{video}} into `person`, or rename the video. Received: out={str(out)!r}, which has "
                f"{place}/{name[0]}"
            )


@contextlib.contextmanager
def _work_folder(out: Path, adds: bool) -> Iterator[Path]:
    """Yield a folder to write to, which becomes the target at the end or, if the target exists, is deleted."""
    if adds:
        with tempfile.TemporaryDirectory(prefix=f".{out.name[:100]}.", dir=out.parent) as work:
            yield Path(work)
    else:
        with replacing(out) as work:
            work.mkdir()
            yield work


def _write(folders: Sequence[Path], boxes: Iterable[tuple[int, int, np.ndarray]], image_format: str) -> list[int]:
    """Write crops; return the number of frames of each folder."""
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
) -> tuple[NDArray[np.bool_], str]:
    """Remove the folders of tracklets that damage made too short, and empty folders above them."""
    usable, _, damage = long_enough(video, cuts, min_length)
    for row in np.flatnonzero(~usable).tolist():
        folder = folders[row]
        shutil.rmtree(folder, ignore_errors=True)
        while (folder := folder.parent) != top:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return usable, damage


def _move_into(folders: Sequence[Path], work: Path, out: Path) -> None:
    """Move folders to their places below the target; if one cannot be moved, remove the moved ones."""
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
