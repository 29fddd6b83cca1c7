"""Score identities against the truth: pairs of tracklets, and IDF1."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.tracks.mot import Tracks


class PairScores(NamedTuple):
    """How many pairs of tracklets are linked rightly.

    Args:
        precision: share of the linked pairs that show one person; NaN if none is linked.
        recall: share of the pairs of one person that are linked; NaN if there is none.
        f1: their harmonic mean; NaN if both are NaN.
        right: number of linked pairs of one person.
        linked: number of linked pairs.
        true: number of pairs of one person.
    """

    precision: float
    recall: float
    f1: float
    right: int
    linked: int
    true: int


class IdentityScores(NamedTuple):
    """Scores of identities by their best assignment to true persons.

    Args:
        idf1: 2 IDTP / (2 IDTP + IDFP + IDFN), the F1 of the next two.
        idp: identification precision, IDTP / (IDTP + IDFP).
        idr: identification recall, IDTP / (IDTP + IDFN).
        idtp: boxes (or tracklets) of a true person that are in the found person assigned to it.
        idfp: other found boxes.
        idfn: other true boxes.
    """

    idf1: float
    idp: float
    idr: float
    idtp: int
    idfp: int
    idfn: int


def pair_scores(found: ArrayLike, truth: ArrayLike) -> PairScores:
    """Compare the pairs of tracklets that are one person in the result with those that are in truth.

    Args:
        found: integers `(tracklets,)`, the persons of the result.
        truth: integers `(tracklets,)`, the true persons. Two distractors (0) may be one person, so pairs of distractors
            are not counted. Junk (-1) is not counted.

    Returns:
        A `PairScores`.

    Raises:
        ValueError: if sizes differ.

    Example:

    >>> kreid.identities.pair_scores([1, 1, 1, 2], [7, 7, 8, 8])
    PairScores(precision=0.333..., recall=0.5, f1=0.4, right=1, linked=3, true=2)
    """
    found, truth = _checked_labels(found, truth)
    table = _contingency(found, truth)
    in_distractors = _contingency(found[truth == DISTRACTOR], truth[truth == DISTRACTOR])
    linked = _pairs(table.sum(axis=1)) - _pairs(in_distractors)
    known = truth != DISTRACTOR
    table = _contingency(found[known], truth[known])
    right, true = _pairs(table), _pairs(table.sum(axis=0))
    return PairScores(_share(right, linked), _share(right, true), _share(2 * right, linked + true), right, linked, true)


def identity_scores(found: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> IdentityScores:
    """Assign found persons to true ones so that most tracklets, or most of their frames, agree; and count these.

    Args:
        found: integers `(tracklets,)`, the persons of the result.
        truth: integers `(tracklets,)`, the true persons. Each distractor (0) is a person of its own. Junk (-1) is not
            counted.
        weights: integers `(tracklets,)`, such as numbers of frames; by default each tracklet counts as one.

    Returns:
        An `IdentityScores`.

    Raises:
        ValueError: if sizes differ.

    Example:

    >>> kreid.identities.identity_scores([1, 1, 1, 2], [7, 7, 8, 8]).idf1
    0.75

    Reference: Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016,
    equations 2 to 7; with tracklets in place of frames by default.
    """
    weights = np.ones(np.shape(found), np.int64) if weights is None else np.asarray(weights)
    if weights.shape != np.shape(found):
        raise ValueError(f"Give one weight for each tracklet. Received: weights.shape={weights.shape}")
    weights = weights[np.asarray(truth) != JUNK] if np.shape(truth) == np.shape(found) else weights
    found, truth = _checked_labels(found, truth)
    distractors = np.flatnonzero(truth == DISTRACTOR)
    truth = truth.copy()
    truth[distractors] = -2 - np.arange(len(distractors))
    overlap = _contingency(found, truth, weights)
    return assigned_scores(overlap, overlap.sum(axis=1), overlap.sum(axis=0))


def assigned_scores(overlap: ArrayLike, found_sizes: ArrayLike, true_sizes: ArrayLike) -> IdentityScores:
    """Return the scores of the best assignment of found persons to true ones.

    Each found person is assigned to at most one true one, and the reverse, such that IDFP + IDFN is smallest, which is
    where IDTP is largest.

    Args:
        overlap: integers `(found, true)`, boxes that the two have in common.
        found_sizes: integers `(found,)`, boxes of each found person.
        true_sizes: integers `(true,)`, boxes of each true person.

    Returns:
        An `IdentityScores`.

    Example:

    >>> kreid.identities.assigned_scores([[5, 1], [4, 0]], [8, 4], [9, 3])
    IdentityScores(idf1=0.416..., idp=0.416..., idr=0.416..., idtp=5, idfp=7, idfn=7)

    Reference: as `identity_scores`.
    """
    overlap = np.asarray(overlap)
    rows, columns = scipy.optimize.linear_sum_assignment(overlap, maximize=True)
    right = int(overlap[rows, columns].sum())
    found, true = int(np.sum(found_sizes)), int(np.sum(true_sizes))
    return IdentityScores(
        _share(2 * right, found + true), _share(right, found), _share(right, true), right, found - right, true - right
    )


def score_tracks(found: Mapping[str, Tracks], truth: Mapping[str, Tracks], min_iou: float = 0.5) -> IdentityScores:
    """Score the boxes of persons in several videos, with one id per person in all of them.

    Args:
        found: dict from the name of a video to its `Tracks`; their ids are the persons of the result.
        truth: the same for the true persons. A video without found boxes may lack in `found`.
        min_iou: smallest intersection over union at which a found box counts as a true one.

    Returns:
        An `IdentityScores`.

    Raises:
        ValueError: if `found` has a video that `truth` lacks, or `min_iou` is out of range.

    Example:

    >>> walk = kreid.tracks.Tracks([1, 2], [7, 7], [[10, 20, 30, 60], [12, 20, 30, 60]])
    >>> other = kreid.tracks.Tracks([1, 2], [1, 2], walk.boxes)
    >>> kreid.identities.score_tracks({"hall": other}, {"hall": walk}).idf1
    0.5

    Reference: as `identity_scores`; a box of a found person matches a true one where they overlap by half, as in the
    MOT Challenge.
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f"`min_iou` is above 0, at most 1. Received: min_iou={min_iou!r}")
    lacking = sorted(set(found) - set(truth))
    if lacking:
        raise ValueError(f"Give the truth of every video. Received: truth without {lacking[0]!r}")
    found_ids, found_sizes = _sizes(found)
    true_ids, true_sizes = _sizes(truth)
    overlap = np.zeros((len(found_ids), len(true_ids)), np.int64)
    for video, tracks in found.items():
        rows, columns = overlapping_boxes(tracks, truth[video], min_iou)
        np.add.at(
            overlap,
            (
                np.searchsorted(found_ids, tracks.ids[rows]),
                np.searchsorted(true_ids, truth[video].ids[columns]),
            ),
            1,
        )
    return assigned_scores(overlap, found_sizes, true_sizes)


def overlapping_boxes(tracks: Tracks, others: Tracks, min_iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of boxes of a frame whose intersection over union is large enough: rows of each.

    Args:
        tracks: a `Tracks`.
        others: a `Tracks` of the same video.
        min_iou: smallest intersection over union.

    Returns:
        Two int64 arrays `(pairs,)`.
    """
    order, other_order = np.argsort(tracks.frames, kind="stable"), np.argsort(others.frames, kind="stable")
    numbers, starts = np.unique(tracks.frames[order], return_index=True)
    parts = zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)
    firsts = np.searchsorted(others.frames[other_order], numbers, side="left")
    ends = np.searchsorted(others.frames[other_order], numbers, side="right")
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for (_, part), first, end in zip(parts, firsts.tolist(), ends.tolist(), strict=True):
        if first == end:
            continue
        there = other_order[first:end]
        one, other = np.nonzero(box_iou(tracks.boxes[part], others.boxes[there]) >= min_iou)
        rows.append(part[one])
        columns.append(there[other])
    return np.concatenate(rows), np.concatenate(columns)


def box_iou(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of all pairs of boxes.

    Args:
        boxes: float `(n, 4)`: left, top, width and height.
        others: float `(m, 4)`.

    Returns:
        float64 `(n, m)`, from 0 to 1.

    Example:

    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 2, 2], [5, 5, 1, 1]]).round(3).tolist()
    [[0.333, 0.0]]
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    ends = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    shared = np.clip(ends - starts, 0, None).prod(axis=2)
    return shared / (boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None] - shared)


def true_persons(tracks: Tracks, truth: Tracks, ids: ArrayLike, min_iou: float = 0.5) -> NDArray[np.int64]:
    """Return the true person of each track: the one that most of its boxes overlap.

    Args:
        tracks: a tracker's `Tracks`.
        truth: the true `Tracks` of the video, whose ids are persons.
        ids: integers, of the tracks.
        min_iou: smallest intersection over union.

    Returns:
        int64, one for each of `ids`; junk (-1) where no box overlaps a true one.
    """
    rows, columns = overlapping_boxes(tracks, truth, min_iou)
    numbers, persons = tracks.ids[rows], truth.ids[columns]
    most = _contingency(numbers, persons).argmax(axis=1) if len(rows) else rows
    person_of = dict(zip(np.unique(numbers).tolist(), np.unique(persons)[most].tolist(), strict=True))
    return np.array([person_of.get(number, JUNK) for number in np.asarray(ids).tolist()], np.int64)


def _checked_labels(found: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both without junk."""
    found, truth = np.asarray(found), np.asarray(truth)
    if found.ndim != 1 or found.shape != truth.shape:
        raise ValueError(
            f"Give a found and a true person for each tracklet. Received: found.shape={found.shape}, "
            f"truth.shape={truth.shape}"
        )
    real = truth != JUNK
    return found[real].astype(np.int64), truth[real].astype(np.int64)


def _contingency(found: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> NDArray[np.int64]:
    """Return the number of tracklets of each found and each true person, or the sum of their weights."""
    found_names, rows = np.unique(found, return_inverse=True)
    true_names, columns = np.unique(truth, return_inverse=True)
    table = np.zeros((len(found_names), len(true_names)), np.int64)
    np.add.at(table, (rows, columns), 1 if weights is None else weights)
    return table


def _sizes(tracks: Mapping[str, Tracks]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.unique(
        np.concatenate([np.zeros(0, np.int64), *(each.ids for each in tracks.values())]), return_counts=True
    )


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
