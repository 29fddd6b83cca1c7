"""List the tracklets of a data set whose frames seem to show two persons."""

import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kreid._files import printable
from kreid.data.tracklet import JUNK, Tracklet
from kreid.evaluation.switches import centred_frames, check_threshold, find_switch, frame_ranges
from kreid.gallery.frame_vectors import embed_frames

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel


class SuspiciousTracklet(NamedTuple):
    """A tracklet whose frames seem to show two persons.

    Args:
        tracklet: the `Tracklet`.
        other: bool `(frames,)`, True on frames of the smaller side.
        difference: see `find_switch`.
    """

    tracklet: Tracklet
    other: NDArray[np.bool_]
    difference: float

    def text(self) -> str:
        """Return the tracklet and the frames of both sides as a line; frames count from 1."""
        kept, other = (ranges_text(frame_ranges(side)) for side in (~self.other, self.other))
        name = printable(self.tracklet.id)
        return f"{name}: {other} may show another person than {kept} (difference {self.difference:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; the ranges are the first and last frames, from 1."""
        sides = {"kept": ~self.other, "other": self.other}
        ranges = {name: [[first + 1, last + 1] for first, last in frame_ranges(side)] for name, side in sides.items()}
        return {"tracklet": self.tracklet.id, **ranges, "difference": round(self.difference, 4)}


def suspicious_tracklets(
    model: "TrackletModel",
    tracklets: Sequence[Tracklet],
    *,
    threshold: float = 0.35,
    most: int | None = None,
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> list[SuspiciousTracklet]:
    """Find the tracklets in which the tracker seems to have switched to another person.

    Each frame is embedded alone, the mean of all tracklets is subtracted (see `centred_frames`), and `find_switch`
    looks for a run of frames unlike the rest. It is a hint to look, not a proof: a person who turns or is covered may
    look like two.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`; junk is left out.
        threshold: smallest difference of mean cosines, see `find_switch`.
        most: most frames of a tracklet to embed, spread evenly; the frames between count as their nearest embedded one
            does. `None` for all.
        batch_frames: frames in memory at once.
        max_damaged: share of unreadable frames above which the run stops.
        progress: show a progress bar.

    Returns:
        A list of `SuspiciousTracklet`, the largest difference first.

    Raises:
        ValueError: for a threshold outside 0..2, no tracklets, or if too many frames are damaged.
    """
    check_threshold(threshold)
    tracklets = [tracklet for tracklet in tracklets if tracklet.person != JUNK]
    embedded = embed_frames(
        model, tracklets, most=most, batch_frames=batch_frames, max_damaged=max_damaged, progress=progress
    )
    found = []
    for tracklet, one, vectors in zip(tracklets, embedded, centred_frames([e.vectors for e in embedded]), strict=True):
        switch = find_switch(vectors, threshold)
        if switch is not None:
            nearest = np.abs(np.arange(len(tracklet))[:, None] - one.places).argmin(axis=1)
            found.append(SuspiciousTracklet(tracklet, switch.other[nearest], switch.difference))
    return sorted(found, key=lambda one: -one.difference)


def ranges_text(ranges: Sequence[tuple[int, int]]) -> str:
    """Return ranges of positions, from 0, as text of frames counted from 1.

    Example:

    >>> ranges_text([(0, 4), (7, 7)])
    'frames 1 to 5 and 8'
    """
    texts = [f"{first + 1} to {last + 1}" if last > first else f"{first + 1}" for first, last in ranges]
    joined = " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
    return f"frame{'s' if len(texts) > 1 or ' ' in joined else ''} {joined}"
