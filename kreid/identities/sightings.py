"""Embed the tracklets of several cameras' videos, and keep small pictures of them."""

import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from kreid.data.clips import evenly
from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.embeddings import TrackletEmbeddings, joined
from kreid.plots.strips import draw_frames, tile_of
from kreid.tracks.crops import names_of
from kreid.tracks.cuts import TrackLimits, plan_cuts
from kreid.tracks.embedding import embed_tracks
from kreid.tracks.mot import Tracks
from kreid.tracks.video import open_video

if TYPE_CHECKING:
    from PIL.Image import Image

    from kreid.models import TrackletModel
    from kreid.runtimes import ExportedModel

_TILE = (96, 48)
_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class CameraVideo:
    """A video, the tracks in it, and its camera.

    Args:
        video: path, see `kreid.tracks.cut_tracklets`.
        tracks: a `kreid.tracks.Tracks`.
        camera: name of the camera; by default the video's. Several videos may be of one camera.
        name: of the video, which its tracklets are named after; `check_cameras` fills it in.
    """

    video: str
    tracks: Tracks
    camera: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Sightings:
    """The embedded tracklets of several videos.

    Args:
        videos: the `CameraVideo` records, complete.
        embeddings: a `kreid.gallery.TrackletEmbeddings` of unknown persons (0). An id is `{video}-{id}` of the tracker;
            see `kreid.tracks.embed_tracks` for sources and tags. `tags` also have the name of the `camera`.
        pictures: dict from an id to a JPEG file of a few frames, side by side.
        limits: with which the tracklets were cut.
    """

    videos: tuple[CameraVideo, ...]
    embeddings: TrackletEmbeddings
    pictures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    limits: TrackLimits = dataclasses.field(default_factory=TrackLimits)


def check_cameras(videos: Sequence[CameraVideo], limits: TrackLimits) -> list[CameraVideo]:
    """Open every video, and check names and tracks, before the first is embedded for hours.

    Args:
        videos: at least one `CameraVideo`.
        limits: a `kreid.tracks.TrackLimits`.

    Returns:
        The videos, each with its name and its camera.

    Raises:
        FileNotFoundError: if a video is missing.
        ValueError: if a file is not a video, two videos have one name, a camera's name is not valid for a folder, or no
            tracklet of a video is left after the limits.
    """
    checked = []
    for each in videos:
        with open_video(each.video) as opened:
            cuts = plan_cuts(each.tracks, opened.size, limits)
            camera = each.camera or opened.name
            names_of(opened.name, cuts.ids[:1], "{video}-{id}", plain(camera))
            checked.append(dataclasses.replace(each, camera=camera, name=opened.name))
    for name, times in Counter(each.name for each in checked).items():
        if times > 1:
            same = [each.video for each in checked if each.name == name]
            raise ValueError(
                f"{times} videos have the name {name!r}, which tracklets are named after: rename one, or give a link "
                f"of another name. Received: video={same[0]!r}, video={same[1]!r}"
            )
    return checked


def embed_cameras(
    model: "TrackletModel | ExportedModel",
    videos: Sequence[CameraVideo],
    *,
    limits: TrackLimits | None = None,
    pictures: int = 4,
    progress: bool = True,
) -> Sightings:
    """Cut tracklets out of the videos of several cameras and embed them, without writing files.

    Args:
        model: a model of `kreid.models`, or a `kreid.runtimes.ExportedModel`.
        videos: at least one `CameraVideo`.
        limits: a `kreid.tracks.TrackLimits`; by default `TrackLimits()`.
        pictures: frames in the picture of a tracklet; 0 for no pictures.
        progress: show progress bars.

    Returns:
        A `Sightings`; its tracklets are in order of the videos and the tracker's ids.

    Raises:
        FileNotFoundError: see `check_cameras`.
        ValueError: see `check_cameras` and `kreid.tracks.embed_tracks`.
    """
    limits = TrackLimits() if limits is None else limits
    videos = check_cameras(videos, limits)
    cameras = {name: number for number, name in enumerate(dict.fromkeys(each.camera for each in videos), start=1)}
    records: list[TrackletEmbeddings] = []
    strips: dict[str, bytes] = {}
    for each in videos:
        kept = Pictures(pictures)
        record = embed_tracks(
            cast("TrackletModel", model),
            each.video,
            each.tracks,
            limits=limits,
            camera=plain(each.camera),
            watch=kept.add if pictures else None,
            progress=progress,
        )
        ids = [name.rpartition("/")[2] for name in record.ids.tolist()]
        records.append(
            dataclasses.replace(
                record,
                ids=np.array(ids, str),
                persons=np.full(len(record), DISTRACTOR),
                cameras=np.full(len(record), cameras[each.camera]),
                tags=tuple({**tags, "camera": each.camera} for tags in record.tags),
            )
        )
        strips |= {
            name: kept.strip(int(tags["track"])) for name, tags in zip(ids, record.tags, strict=True) if pictures
        }
    together = dataclasses.replace(
        joined(records),
        data="",
        damaged_frames=np.concatenate([record.damaged_frames for record in records]),
        unreadable=np.concatenate([record.unreadable for record in records]),
    )
    return Sightings(tuple(videos), together, strips, limits)


def plain(name: str) -> str:
    """Return a name as a template without fields."""
    return name.replace("{", "{{").replace("}", "}}")


class Pictures:
    """A few frames of each track, spread evenly, although it is not known how many will come.

    Args:
        count: most frames of a track.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._tiles: dict[int, list[Image]] = {}
        self._steps: dict[int, int] = {}
        self._seen: Counter[int] = Counter()

    def add(self, track: int, frame: int, crop: np.ndarray) -> None:
        """Look at the next frame of a track."""
        tiles, step = self._tiles.setdefault(track, []), self._steps.setdefault(track, 1)
        if self._seen[track] % step == 0:
            tiles.append(tile_of(crop, _TILE[::-1]))
            if len(tiles) > 2 * self._count:
                del tiles[1::2]
                self._steps[track] = 2 * step
        self._seen[track] += 1

    @property
    def tracks(self) -> list[int]:
        """The tracks with a frame."""
        return list(self._tiles)

    def strip(self, track: int) -> bytes:
        """Return the frames of a track side by side, as a JPEG file."""
        tiles = self._tiles[track]
        chosen = [np.asarray(tiles[place]) for place in evenly(len(tiles), self._count).tolist()]
        content = io.BytesIO()
        draw_frames(chosen, tile=_TILE).save(content, "JPEG", quality=_QUALITY, optimize=True)
        return content.getvalue()
