"""Tracklets cut out of a video into the folder layout."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

from kreid.tracks.crops import crops, lasting, names_of
from kreid.tracks.cuts import TrackLimits, plan_cuts, told
from kreid.tracks.video import Video

# PNG holds the video's own pixels; JPEG is smaller and nearly the same.
_FORMATS = {"png": {}, "jpg": {"quality": 95, "subsampling": 0}}
_SPLITS = ("train", "query", "gallery")


@dataclasses.dataclass(frozen=True)
class CutTracklets:
    """What `cut_tracklets` wrote.

    Args:
        folder: path, as str.
        lengths: dict from a tracklet's name, `person/camera/tracklet`, to its frames.
        dropped: dict from a reason, in words, to the boxes left out for it.
        damage: a sentence on what a damaged video cost; the empty string if nothing.
        unreadable: names of the tracklets left out for it.
    """

    folder: str
    lengths: dict[str, int]
    dropped: dict[str, int]
    damage: str = ""
    unreadable: tuple[str, ...] = ()

    def summary(self):
        """The counts as text."""
        lines = [f"{self.folder}: {len(self.lengths)} tracklets, {sum(self.lengths.values())} frames"]
        if self.dropped:
            lines.append(f"boxes left out: {told(self.dropped)}")
        if self.damage:
            lines.append(self.damage)
        if self.unreadable:
            lines.append(f"tracklets left out for it: {', '.join(self.unreadable)}")
        return "\n".join(lines)


def cut_tracklets(
    video,
    tracks,
    out,
    *,
    limits=None,
    split="gallery",
    person="{video}-{id}",
    camera="{video}",
    image_format="png",
    progress=True,
):
    """Cuts tracklets out of a video into `<out>/<split>/<person>/<camera>/<video>-<id>/<frame>.png`.

    `read_folder` and `read_tracklet_folders` read it. The video is decoded once, in order, a frame at a time. The
    folder is written beside its place and renamed when complete.

    A tracker knows no persons: by default each track is a person of its own, named after the video and the track.
    Where two are the same person, move the tracklet folders of one into the other's; they keep apart there, as do those
    of several videos, by the video's name. Before training on it somebody has to do that.

    A frame's name is its number in the video, counted from 1.

    Damage: of a video cut short what can be decoded is kept, and a tracklet with fewer than `min_length` frames in it
    is left out. The result says what was lost.

    Args:
        video: path; any file that FFmpeg decodes. Frames are turned upright as the file says, as OpenCV does.
        tracks: a `Tracks`, see `read_tracks`.
        out: folder to make; it must not exist.
        limits: a `TrackLimits`, by default its defaults.
        split: `"train"`, `"query"` or `"gallery"`.
        person: name of the persons' folders, in which `{video}` (the file's name without its ending) and `{id}` are
            filled in. A name without them is that of everybody in the video.
        camera: the same for the cameras' folders.
        image_format: `"png"`, the pixels as decoded, or `"jpg"`, of quality 95, smaller.
        progress: show a progress bar.

    Returns:
        A `CutTracklets`.

    Raises:
        FileExistsError: if `out` exists.
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
    if os.path.lexists(out):
        raise FileExistsError(f"Give a new folder or remove this one. Received: out={str(out)!r}")
    with Video(video) as opened:
        cuts = plan_cuts(tracks, opened.size, limits)
        names = names_of(video, cuts.ids, person, camera)
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            work.chmod(0o755)
            folders = [work.joinpath(split, *name) for name in names]
            lengths = _write(folders, crops(opened, cuts, progress), image_format)
            kept, _, damage = lasting(opened, cuts, limits.min_length)
            for row in (~kept).nonzero()[0]:
                _remove(folders[row], work)
            os.rename(work, out)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    paths = ["/".join(name) for name in names]
    return CutTracklets(
        str(out),
        {path: length for path, length, stays in zip(paths, lengths, kept, strict=True) if stays},
        cuts.dropped,
        damage,
        tuple(path for path, stays in zip(paths, kept, strict=True) if not stays),
    )


def _write(folders, found, image_format):
    """Writes crops; returns how many each folder has."""
    from PIL import Image

    lengths = [0] * len(folders)
    for number, owner, crop in found:
        if not lengths[owner]:
            folders[owner].mkdir(parents=True)
        Image.fromarray(crop).save(folders[owner] / f"{number:06}.{image_format}", **_FORMATS[image_format])
        lengths[owner] += 1
    return lengths


def _remove(folder, top):
    """Removes a tracklet's folder, and what it leaves empty above, below `top`."""
    shutil.rmtree(folder, ignore_errors=True)
    while (folder := folder.parent) != top:
        with contextlib.suppress(OSError):
            folder.rmdir()
