"""Scores of identities against the definitions, as loops over all pairs and all assignments."""

import itertools
import math

import numpy as np
import pytest

from kreid.identities import assigned_scores, identity_scores, pair_scores, score_tracks
from kreid.identities.scores import box_iou, true_persons
from kreid.tracks import Tracks


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_counted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.integers(1, 5, size=14), rng.integers(-1, 4, size=14)
    right = linked = true = 0
    for one, other in itertools.combinations(range(14), 2):
        if -1 in (truth[one], truth[other]) or truth[one] == truth[other] == 0:
            continue
        same = truth[one] == truth[other]
        linked += found[one] == found[other]
        true += same
        right += same and found[one] == found[other]
    scores = pair_scores(found, truth)
    assert (scores.right, scores.linked, scores.true) == (right, linked, true)
    assert scores.precision == pytest.approx(right / linked)
    assert scores.recall == pytest.approx(right / true)
    precision, recall = right / linked, right / true
    assert scores.f1 == pytest.approx(2 * precision * recall / (precision + recall) if right else 0)


def test_nothing_to_count():
    scores = pair_scores([1, 2], [7, 8])
    assert all(map(math.isnan, scores[:3]))
    assert pair_scores([1, 2], [7, 7])[1:3] == (0.0, 0.0)


def assignments(found, true):
    """All ways to assign each of the found to at most one of the true, one to one."""
    for choice in itertools.product([None, *true], repeat=len(found)):
        given = [one for one in choice if one is not None]
        if len(set(given)) == len(given):
            yield dict(zip(found, choice, strict=True))


def overlaps(one, other):
    """Whether the intersection of two boxes, left, top, width and height, is half of their union."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(across, 0) * max(down, 0)
    return shared >= 0.5 * (one[2] * one[3] + other[2] * other[3] - shared)


def trajectories(videos):
    """For each id, the boxes by video and frame."""
    found = {}
    for video, tracks in videos.items():
        for frame, number, box in zip(tracks.frames, tracks.ids, tracks.boxes, strict=True):
            found.setdefault(int(number), {})[video, int(frame)] = box
    return found


def plainly_scored(found, truth):
    """IDTP, IDFP and IDFN of the assignment with the fewest false positives and negatives."""
    found, truth = trajectories(found), trajectories(truth)
    best = None
    for assignment in assignments(list(found), list(truth)):
        wrong = missed = 0
        for number, boxes in found.items():
            true = truth.get(assignment[number], {})
            wrong += sum(place not in true or not overlaps(box, true[place]) for place, box in boxes.items())
        assigned = {true: number for number, true in assignment.items() if true is not None}
        for number, boxes in truth.items():
            given = found.get(assigned.get(number), {})
            missed += sum(place not in given or not overlaps(box, given[place]) for place, box in boxes.items())
        if best is None or wrong + missed < sum(best):
            best = (wrong, missed)
    boxes = sum(map(len, truth.values()))
    return boxes - best[1], *best


def draw_tracks(rng, persons):
    rows = [(frame, number) for number in persons for frame in range(1, 7) if rng.random() < 0.7]
    places = rng.integers(3, size=(len(rows), 2)) * 4.0 + rng.uniform(0, 2, size=(len(rows), 2))
    frames, ids = zip(*rows, strict=True)
    return Tracks(frames, ids, np.concatenate([places, np.full((len(rows), 2), 8.0)], axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_idf1_is_that_of_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    found = {"hall": draw_tracks(rng, [1, 2, 3]), "door": draw_tracks(rng, [1, 4])}
    truth = {"hall": draw_tracks(rng, [5, 6]), "door": draw_tracks(rng, [5, 6, 7])}
    scores = score_tracks(found, truth)
    right, wrong, missed = plainly_scored(found, truth)
    assert right > 0
    assert (scores.idtp, scores.idfp, scores.idfn) == (right, wrong, missed)
    assert scores.idf1 == pytest.approx(2 * right / (2 * right + wrong + missed))
    assert scores.idp == pytest.approx(right / (right + wrong))
    assert scores.idr == pytest.approx(right / (right + missed))


def test_a_switch_between_cameras_costs_a_camera():
    walk = Tracks([1, 2, 3], [7] * 3, [[0, 0, 10, 20]] * 3)
    as_one = {"hall": walk, "door": walk}
    as_two = {"hall": walk, "door": walk.renumbered({7: 8})}
    assert score_tracks(as_one, as_one).idf1 == 1.0
    assert score_tracks(as_two, as_one)[:3] == (0.5, 0.5, 0.5)
    missed = score_tracks({"hall": walk}, as_one)
    assert (missed.idp, missed.idr) == (1.0, 0.5)
    with pytest.raises(ValueError, match="Received: truth without 'door'"):
        score_tracks(as_one, {"hall": walk})
    with pytest.raises(ValueError, match="Received: min_iou=0"):
        score_tracks(as_one, as_one, min_iou=0)


@pytest.mark.parametrize("seed", range(4))
def test_tracklets_with_weights(seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.integers(1, 5, size=9), rng.integers(1, 4, size=9)
    weights = rng.integers(1, 30, size=9)
    best = 0
    for assignment in assignments(sorted(set(found.tolist())), sorted(set(truth.tolist()))):
        best = max(best, sum(w for f, t, w in zip(found.tolist(), truth, weights, strict=True) if assignment[f] == t))
    scores = identity_scores(found, truth, weights)
    assert (scores.idtp, scores.idfp, scores.idfn) == (best, weights.sum() - best, weights.sum() - best)
    assert scores.idf1 == pytest.approx(best / weights.sum())


def test_distractors_are_persons_of_their_own_and_junk_is_left_out():
    assert identity_scores([1, 1, 1], [0, 0, 0]).idtp == 1
    assert identity_scores([1, 1, 2], [5, -1, 5], [4, 100, 3]).idtp == 4
    with pytest.raises(ValueError, match=r"Received: weights.shape=\(2,\)"):
        identity_scores([1, 2, 3], [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"Received: found\.shape"):
        pair_scores([1, 2, 3], [1, 2])


def test_no_person_is_assigned():
    scores = assigned_scores(np.zeros((2, 0), int), [3, 4], [])
    assert (scores.idtp, scores.idfp, scores.idfn, scores.idf1) == (0, 7, 0, 0.0)


def test_boxes():
    rng = np.random.default_rng(0)
    boxes, others = (np.concatenate([rng.uniform(0, 9, (5, 2)), rng.uniform(1, 9, (5, 2))], axis=1) for _ in range(2))
    for (row, column), value in np.ndenumerate(box_iou(boxes, others)):
        one, other = boxes[row], others[column]
        across = max(0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
        down = max(0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))
        area = one[2] * one[3] + other[2] * other[3] - across * down
        assert value == pytest.approx(across * down / area)


def test_a_tracks_person_is_the_one_most_of_its_boxes_show():
    box, away = [0, 0, 10, 20], [50, 0, 10, 20]
    tracks = Tracks([1, 2, 3, 1, 2], [4, 4, 4, 9, 9], [box, box, away, [90, 0, 10, 20], [90, 0, 10, 20]])
    truth = Tracks([1, 2, 3], [1, 1, 2], [box, box, away])
    assert true_persons(tracks, truth, [9, 4]).tolist() == [-1, 1]
    far = Tracks([1], [4], [[90, 0, 10, 20]])
    assert true_persons(far, truth, [4]).tolist() == [-1]
