"""Choose the boxes of a tracker's output that become tracklets."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from kreid.data.clips import evenly
from kreid.tracks.mot import Tracks


@dataclasses.dataclass(frozen=True)
class TrackLimits:
    """Limits on the boxes that are cut out of a video, applied in the order of the arguments.

    Args:
        min_confidence: smallest confidence of a box; `None` for any. Some trackers write -1 instead of a confidence. In
            the benchmark's ground truth the confidence is a flag, and 1 leaves out the boxes that do not count.
        stride: int, cut every `stride`-th frame of the video, from the first on.
        min_inside: smallest share of a box's area inside the image. The part outside is cut off.
        min_size: smallest `(height, width)` of a box inside the image, in pixels.
        min_length: fewest frames of a track, after the limits above.
        max_length: longer tracks are thinned evenly to this many frames; `None` for no thinning.

    Raises:
        ValueError: if a limit is out of range.

    Example:

    >>> TrackLimits(min_confidence=0.5, stride=5)
    TrackLimits(min_confidence=0.5, stride=5, min_inside=0.5, min_size=(32, 16), min_length=8, max_length=None)
    """

    min_confidence: float | None = None
    stride: int = 1
    min_inside: float = 0.5
    min_size: tuple[int, int] = (32, 16)
    min_length: int = 8
    max_length: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_size", tuple(self.min_size))
        if self.min_confidence is not None and not np.isfinite(self.min_confidence):
            raise ValueError(
                f"`min_confidence` must be a finite number. Received: min_confidence={self.min_confidence!r}"
            )
        for name in ("stride", "min_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)!r}")
        if not 0 <= self.min_inside <= 1:
            raise ValueError(f"`min_inside` must be from 0 to 1. Received: min_inside={self.min_inside!r}")
        if len(self.min_size) != 2 or min(self.min_size) < 1:
            raise ValueError(
                f"`min_size` must be (height, width), both at least 1. Received: min_size={self.min_size!r}"
            )
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(
                f"`max_length` must be at least `min_length`, {self.min_length}. "
                f"Received: max_length={self.max_length!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Cuts:
    """The boxes to cut out of a video, by frame.

    Args:
        ids: the tracker's ids of the tracklets, ascending.
        frames: int `(boxes,)`, ascending.
        owners: int `(boxes,)`, rows of `ids`.
        corners: int `(boxes, 4)`: top, bottom, left and right, inside the image.
        dropped: description of a limit to the number of boxes that it left out, if any.
        last_frame: the last frame with any box, cut or not.
        source: of the tracks, for messages.
    """

    ids: NDArray[np.int64]
    frames: NDArray[np.int64]
    owners: NDArray[np.int64]
    corners: NDArray[np.int64]
    dropped: dict[str, int]
    last_frame: int
    source: str

    @property
    def last_frames(self) -> NDArray[np.int64]:
        """The last frame of each tracklet, int `(tracklets,)`."""
        _, from_the_end = np.unique(self.owners[::-1], return_index=True)
        return self.frames[::-1][from_the_end]

    def thinned(self, positions: Callable[[int], np.ndarray]) -> "Cuts":
        """Return the cuts with some frames of each tracklet.

        Args:
            positions: function from a tracklet's length to ascending positions of the frames.

        Returns:
            A `Cuts`.
        """
        order = np.argsort(self.owners, kind="stable")
        starts = np.searchsorted(self.owners[order], np.arange(len(self.ids) + 1))
        pairs = itertools.pairwise(starts)
        rows = np.sort(np.concatenate([order[start + positions(int(end - start))] for start, end in pairs]))
        return dataclasses.replace(self, frames=self.frames[rows], owners=self.owners[rows], corners=self.corners[rows])

    @property
    def most_at_once(self) -> int:
        """Largest number of frames in memory if those of each tracklet stay there until its last frame."""
        count = len(self.owners)
        _, from_the_end = np.unique(self.owners[::-1], return_index=True)
        freed = np.zeros(count, np.int64)
        freed[count - 1 - from_the_end] = np.bincount(self.owners)
        return int((np.arange(1, count + 1) - np.cumsum(freed) + freed).max())


def plan_cuts(tracks: Tracks, size: tuple[int, int], limits: TrackLimits) -> Cuts:
    """Apply limits to a tracker's boxes, and round their edges to whole pixels.

    Args:
        tracks: a `Tracks`.
        size: `(height, width)` of the image.
        limits: a `TrackLimits`.

    Returns:
        A `Cuts`.

    Raises:
        ValueError: if no tracklet is left, or `min_confidence` is set and the tracks have no confidence.
    """
    if limits.min_confidence is not None and tracks.confidences is None:
        raise ValueError(
            "The tracks have no confidence (the seventh column): leave out `min_confidence`. "
            f"Received: min_confidence={limits.min_confidence}, tracks={tracks.source!r}"
        )
    corners, inside = _clipped(tracks.boxes, size)
    remaining = np.ones(len(tracks), bool)
    dropped: dict[str, int] = {}

    def leave_out(reason: str, refused: NDArray[np.bool_]) -> None:
        nonlocal remaining
        if (remaining & refused).any():
            dropped[reason] = int((remaining & refused).sum())
        remaining = remaining & ~refused

    if limits.min_confidence is not None and tracks.confidences is not None:
        leave_out(f"of confidence below {limits.min_confidence:g}", tracks.confidences < limits.min_confidence)
    leave_out(f"outside the stride of {limits.stride}", (tracks.frames - 1) % limits.stride != 0)
    # The share of a box that is entirely inside may be below 1 by a rounding error.
    leave_out(f"with less than {limits.min_inside:g} of their area inside", inside < limits.min_inside - 1e-9)
    heights, widths = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 2]
    smallest = limits.min_size
    leave_out(f"smaller than {smallest[0]}x{smallest[1]}", (heights < smallest[0]) | (widths < smallest[1]))
    _, owners = np.unique(tracks.ids, return_inverse=True)
    lengths = np.bincount(owners, weights=remaining)
    leave_out(f"in tracks of fewer than {limits.min_length} frames", lengths[owners] < limits.min_length)
    if not remaining.any():
        raise ValueError(
            f"No tracklet is left after the limits: loosen them, or track another video. {counts_text(dropped)}. "
            f"Received: {len(tracks)} boxes in tracks={tracks.source!r}"
        )
    rows = np.flatnonzero(remaining)
    rows = rows[np.lexsort((tracks.ids[rows], tracks.frames[rows]))]
    ids, owners = np.unique(tracks.ids[rows], return_inverse=True)
    cuts = Cuts(ids, tracks.frames[rows], owners, corners[rows], dropped, tracks.last_frame, tracks.source)
    if limits.max_length is None:
        return cuts
    most = limits.max_length
    thinned = cuts.thinned(lambda length: evenly(length, most))
    excess = len(cuts.frames) - len(thinned.frames)
    if excess:
        dropped[f"thinned out of tracks of more than {limits.max_length} frames"] = excess
    return thinned


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts of boxes by reason as text."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _clipped(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return corners in whole pixels inside the image, and the share of each box's area inside it."""
    height, width = size
    left, top = boxes[:, 0], boxes[:, 1]
    with np.errstate(over="ignore"):
        right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    across = np.clip(right, 0, width) - np.clip(left, 0, width)
    down = np.clip(bottom, 0, height) - np.clip(top, 0, height)
    inside = across / boxes[:, 2] * (down / boxes[:, 3])
    edges = np.stack([np.clip(top, 0, height), np.clip(bottom, 0, height)], axis=1)
    sides = np.stack([np.clip(left, 0, width), np.clip(right, 0, width)], axis=1)
    return np.floor(np.concatenate([edges, sides], axis=1) + 0.5).astype(np.int64), inside
