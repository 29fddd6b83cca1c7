"""Tracklets in which the tracker switched to another person: find them by their frames' vectors, and count the errors.

A frame's vector is a model's embedding of the frame alone, less the mean of many persons' (see
`kreid.gallery.embed_frames` and `centred_frames`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.data.bad_frames import bad_count, draw_bad_frames
from kreid.data.tracklet import Tracklet
from kreid.distances.arrays import check_finite

# Frames of a side: one alone has no other to be like.
_FEWEST = 2
# Fewer tracklets have a mean that is theirs, and not that of persons.
_TRACKLETS_OF_A_MEAN = 16


class Switch(NamedTuple):
    """A tracklet's frames fall into two persons.

    Args:
        other: bool `(frames,)`, True on frames of the smaller side; of equal sides, of the later one.
        difference: of the mean similarities, of pairs within a side and of pairs across.
    """

    other: NDArray[np.bool_]
    difference: float

    @property
    def ranges(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The first and last positions, from 0, of the runs of frames of the kept side, and of the other."""
        return frame_ranges(~self.other), frame_ranges(self.other)


def find_switch(vectors: ArrayLike, threshold: float = 0.35) -> Switch | None:
    """Find the run of frames that shows another person than the rest of a tracklet, if there is one.

    Of all runs of at least two frames that leave two others, the one whose mean vector is farthest from that of the
    rest, `n m / (n + m) |mean - mean|^2` for n and m frames (Ward, 1963), is taken, on vectors scaled to length 1. It
    is a switch if the mean similarity of pairs within both sides exceeds that of pairs across by more than `threshold`,
    as in `kreid.layers.MajorityPooling`, whose two sides need not be runs.

    Args:
        vectors: floats `(frames, D)`, in the order of the frames, less their mean over many persons.
        threshold: smallest difference of mean cosines.

    Returns:
        A `Switch`, or `None`; always `None` for fewer than four frames.

    Raises:
        ValueError: for another shape, a vector that is not finite, or a threshold outside 0..2.

    Example:

    >>> first, second = [1.0, 0.0], [0.0, 1.0]
    >>> found = kreid.evaluation.find_switch([first, first, first, second, second, first])
    >>> found.other.tolist(), found.ranges
    ([False, False, False, True, True, False], ([(0, 2), (5, 5)], [(3, 4)]))
    """
    vectors = np.asarray(vectors, float)
    if vectors.ndim != 2:
        raise ValueError(f"Give one row per frame, (frames, D). Received: vectors of shape {vectors.shape}")
    check_finite(vectors, "vectors")
    check_threshold(threshold)
    length = len(vectors)
    if length < 2 * _FEWEST:
        return None
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    run, difference = _farthest_run(units @ units.T)
    if difference <= threshold:
        return None
    inside = np.zeros(length, bool)
    inside[slice(*run)] = True
    is_smaller = 2 * inside.sum() < length or (2 * inside.sum() == length and run[0] > 0)
    return Switch(inside if is_smaller else ~inside, difference)


def _farthest_run(similarities: np.ndarray) -> tuple[tuple[int, int], float]:
    """Return the run `(start, end)` whose mean is farthest from the rest's, and its difference of similarities."""
    length = len(similarities)
    diagonal = np.concatenate([[0.0], np.diag(similarities).cumsum()])
    rows = np.concatenate([[0.0], similarities.sum(axis=1).cumsum()])
    square = np.zeros((length + 1, length + 1))
    square[1:, 1:] = similarities.cumsum(axis=0).cumsum(axis=1)
    best, found = -np.inf, ((0, 0), 0.0)
    # A run of the first frames is the rest of a run of the last ones.
    for start in range(length - _FEWEST + 1):
        ends = np.arange(start + _FEWEST, min(length, start + length - _FEWEST) + 1)
        n, m = ends - start, length - (ends - start)
        inside = square[ends, ends] - 2 * square[start, ends] + square[start, start]
        across = rows[ends] - rows[start] - inside
        outside = rows[-1] - inside - 2 * across
        distance = n * m / length * (inside / n**2 + outside / m**2 - 2 * across / (n * m))
        place = int(distance.argmax())
        if distance[place] > best + 1e-9:
            best = distance[place]
            pairs = (n * (n - 1) + m * (m - 1))[place]
            within = (inside[place] + outside[place] - diagonal[-1]) / pairs
            found = (start, int(ends[place])), float(within - across[place] / (n * m)[place])
    return found


def frame_ranges(frames: ArrayLike) -> list[tuple[int, int]]:
    """Return the runs of True in bools `(frames,)` as their first and last positions.

    Example:

    >>> frame_ranges([True, True, False, True])
    [(0, 1), (3, 3)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(frames, bool), [False]]).astype(int)))
    return [(int(start), int(end) - 1) for start, end in edges.reshape(-1, 2)]


def centred_frames(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Subtract the mean over tracklets, each the mean of its frames, from the vectors of frames.

    The mean of fewer than 16 tracklets is theirs more than that of persons, so nothing is subtracted: embeddings after
    batch normalisation, as the baseline's, have mean 0 already, and others then show few switches.

    Args:
        vectors: sequence of floats `(frames, D)`, one of each tracklet.

    Returns:
        A list of arrays of the same shapes.

    Example:

    >>> rows = [np.full((2, 1), value, float) for value in range(16)]
    >>> centred_frames(rows)[0].tolist(), centred_frames(rows[:3])[2].tolist()
    ([[-7.5], [-7.5]], [[2.0], [2.0]])
    """
    real = [one for one in vectors if len(one)]
    if len(real) < _TRACKLETS_OF_A_MEAN:
        return list(vectors)
    mean = np.mean([one.mean(axis=0, dtype=float) for one in real], axis=0)
    return [one - mean for one in vectors]


class SwitchScores(NamedTuple):
    """How well switches are found, on tracklets as they are and with a drawn switch each.

    Args:
        precision: share of the found switches that were drawn; NaN if none is found.
        recall: share of the drawn switches that are found.
        false_alarms: share of the tracklets as they are in which a switch is found. Some may be the tracker's.
        right_frames: share of the frames of found switches that are on the right side; NaN if none is found.
        tracklets: number of tracklets.
    """

    precision: float
    recall: float
    false_alarms: float
    right_frames: float
    tracklets: int

    def text(self) -> str:
        """Return the scores as a line."""
        return (
            f"Switches drawn in {self.tracklets} tracklets: {100 * self.recall:.1f}% found, "
            f"{100 * self.right_frames:.1f}% of their frames on the right side; found in "
            f"{100 * self.false_alarms:.1f}% of the same tracklets as they are; precision {100 * self.precision:.1f}%."
        )

    def numbers(self) -> dict[str, float | None]:
        """Return the scores as data that `json` can write; NaN as `None`."""
        return {name: None if value != value else value for name, value in self._asdict().items()}


def switch_scores(
    vectors: Sequence[np.ndarray],
    tracklets: Sequence[Tracklet],
    *,
    share: float = 3 / 8,
    threshold: float = 0.35,
    seed: int = 0,
) -> SwitchScores:
    """Draw a switch in each tracklet, by `kreid.data.draw_bad_frames`, and count which are found.

    Args:
        vectors: sequence of floats `(frames, D)`, of the frames of each tracklet, see `find_switch`.
        tracklets: sequence of `Tracklet`, with these frames. Those of fewer than four frames cannot be cut and are
            left out, and so are distractors and junk.
        share: of the frames that show another person.
        threshold: see `find_switch`.
        seed: int, of the draw.

    Returns:
        A `SwitchScores`.

    Raises:
        ValueError: if numbers of vectors and frames differ, or no tracklet is left.

    Example:

    >>> tracklets = [Tracklet(f"t{person}", person, 1, tuple("abcdefgh")) for person in (1, 2, 3)]
    >>> vectors = [np.repeat(np.eye(3)[[row]], 8, axis=0) for row in range(3)]
    >>> print(kreid.evaluation.switch_scores(vectors, tracklets).text())
    Switches drawn in 3 tracklets: 100.0% found, 100.0% of their frames on the right side; found in 0.0% of the same
    tracklets as they are; precision 100.0%.
    """
    if [len(one) for one in vectors] != [len(tracklet) for tracklet in tracklets]:
        raise ValueError(
            "Give the vectors of every frame of each tracklet. Received: "
            f"{sum(map(len, vectors))} vectors for {sum(map(len, tracklets))} frames, or in another order"
        )
    drawn = draw_bad_frames(tracklets, "another_person", share, seed=seed)
    rows = [row for row, one in enumerate(tracklets) if can_switch(one, share)]
    if not rows:
        raise ValueError(
            "Switches need tracklets of four frames or more, two of another person. "
            f"Received: {len(tracklets)} tracklets, share={share!r}"
        )
    found, alarms, right, frames = 0, 0, 0, 0
    for row in rows:
        alarms += find_switch(vectors[row], threshold) is not None
        switched = np.array(vectors[row], float)
        for place in np.flatnonzero(drawn[row].bad).tolist():
            switched[place] = vectors[drawn[row].faults[place, 1]][drawn[row].faults[place, 2]]
        switch = find_switch(switched, threshold)
        if switch is not None:
            found += 1
            bad = drawn[row].bad
            same = int((switch.other == bad).sum())
            # Where the bad frames are half or more, the tracklet's own may be the side that stands apart.
            right += max(same, len(bad) - same) if 2 * bad.sum() >= len(bad) else same
            frames += len(switched)
    return SwitchScores(
        precision=found / (found + alarms) if found + alarms else float("nan"),
        recall=found / len(rows),
        false_alarms=alarms / len(rows),
        right_frames=right / frames if frames else float("nan"),
        tracklets=len(rows),
    )


def can_switch(tracklet: Tracklet, share: float) -> bool:
    """Return whether a tracklet is of a person, and long enough for the switch of a share of its frames to be found.

    Example:

    >>> [can_switch(Tracklet("t", 1, 1, ("f",) * length), 3 / 8) for length in (3, 4, 8)]
    [False, True, True]
    """
    count = bad_count(len(tracklet), share)
    return tracklet.person > 0 and _FEWEST <= count <= len(tracklet) - _FEWEST


def check_threshold(threshold: float) -> None:
    """Raise `ValueError` unless the threshold is a difference of cosines."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 2:
        raise ValueError(f"The threshold is a difference of cosines, from 0 to 2. Received: threshold={threshold!r}")
