"""Switches of constructed vectors, against all runs in plain loops; scores of drawn switches; refusals."""

import itertools

import numpy as np
import pytest

from kreid.data import Tracklet
from kreid.data.bad_frames import draw_bad_frames
from kreid.evaluation import centred_frames, find_switch, switch_scores
from kreid.evaluation.switches import frame_ranges


def frames(labels, noise=0.3, seed=0):
    """Vectors of persons, by number: (frames, 16)."""
    rng = np.random.default_rng((seed, len(labels)))
    return np.eye(16)[labels] + noise * rng.normal(size=(len(labels), 16)) / 4


def by_loops(vectors):
    """The run farthest from the rest and its difference of mean similarities, pair by pair."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    length, best = len(units), (-1.0,)
    for start, end in itertools.combinations(range(length + 1), 2):
        inside = [i for i in range(length) if start <= i < end]
        outside = [i for i in range(length) if not start <= i < end]
        if min(len(inside), len(outside)) < 2:
            continue
        gap = units[inside].mean(axis=0) - units[outside].mean(axis=0)
        distance = len(inside) * len(outside) / length * (gap @ gap)
        if distance > best[0] + 1e-9:
            best = distance, inside, outside
    within = [units[i] @ units[j] for side in best[1:] for i in side for j in side if i != j]
    across = [units[i] @ units[j] for i in best[1] for j in best[2]]
    return best[1], np.mean(within) - np.mean(across)


@pytest.mark.parametrize("seed", range(6))
def test_the_run_against_loops(seed):
    labels = np.zeros(4 + 2 * seed, int)
    labels[1 + seed : 3 + seed] = 1
    vectors = frames(labels, noise=1.5, seed=seed)
    inside, difference = by_loops(vectors)
    found = find_switch(vectors, threshold=0.0)
    assert set(np.flatnonzero(found.other)) in (set(inside), set(range(len(labels))) - set(inside))
    np.testing.assert_allclose(found.difference, difference, rtol=1e-9)
    assert find_switch(vectors, threshold=difference + 1e-6) is None


@pytest.mark.parametrize(
    ("labels", "kept", "other"),
    [
        ([0, 0, 0, 0, 0, 1, 1, 1], [(0, 4)], [(5, 7)]),
        ([1, 1, 0, 0, 0], [(2, 4)], [(0, 1)]),
        ([0, 0, 1, 1, 1, 0, 0], [(0, 1), (5, 6)], [(2, 4)]),
        ([1, 0, 0, 0, 0, 0, 1], [(1, 5)], [(0, 0), (6, 6)]),
        ([0, 0, 0, 1, 1, 1], [(0, 2)], [(3, 5)]),
    ],
)
def test_ranges_of_both_sides(labels, kept, other):
    assert find_switch(frames(labels)).ranges == (kept, other)


def test_one_person_and_short_tracklets_have_no_switch():
    assert find_switch(frames([0] * 12)) is None
    assert find_switch(np.ones((8, 3))) is None
    assert find_switch(np.zeros((8, 3))) is None
    for length in range(4):
        assert find_switch(frames([0, 0, 1][:length])) is None


def test_ranges_of_frames():
    assert frame_ranges([]) == frame_ranges([False]) == []
    assert frame_ranges([True, False, True, True]) == [(0, 0), (2, 3)]


def test_centred_frames_have_mean_zero_over_tracklets():
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(count, 3)) + 5 for count in (1, 9, *[2] * 14)]
    centred = centred_frames([*vectors, np.zeros((0, 3))])
    np.testing.assert_allclose(np.mean([one.mean(axis=0) for one in centred[:-1]], axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(centred[1] - centred[0], vectors[1] - vectors[0], rtol=1e-9)
    assert centred_frames(vectors[:15])[3] is vectors[3]


def drawn(persons, length=8):
    tracklets = [Tracklet(f"t{row}", person, 1, tuple("abcdefghijkl"[:length])) for row, person in enumerate(persons)]
    return tracklets, [frames([max(person, 0)] * length, seed=row) for row, person in enumerate(persons)]


def test_scores_of_drawn_switches():
    tracklets, vectors = drawn([1, 2, 3, 4, 5, 0, -1])
    # The tracker switched in one of them.
    vectors[4] = frames([5, 5, 5, 5, 6, 6, 6, 6])
    scores = switch_scores(vectors, tracklets, seed=3)
    found = []
    for row, one in enumerate(draw_bad_frames(tracklets, "another_person", 3 / 8, seed=3)[:5]):
        mixed = np.array(vectors[row])
        for place in np.flatnonzero(one.bad):
            mixed[place] = vectors[one.faults[place, 1]][one.faults[place, 2]]
        switch = find_switch(mixed)
        found += [] if switch is None else [(switch.other == one.bad).mean()]
    assert scores.tracklets == 5
    assert scores.recall == len(found) / 5 >= 0.8
    assert scores.false_alarms == 1 / 5
    assert scores.precision == len(found) / (len(found) + 1)
    np.testing.assert_allclose(scores.right_frames, np.mean(found))
    assert "found in 20.0% of the same tracklets" in scores.text()


@pytest.mark.parametrize("count", range(2, 7))
def test_the_side_that_stands_apart_may_be_the_tracklets_own(count):
    tracklets, vectors = drawn([1, 2, 3, 4, 5])
    scores = switch_scores(vectors, tracklets, share=count / 8)
    assert (scores.recall, scores.right_frames) == (1.0, 1.0)


def test_nothing_is_found_above_every_difference():
    tracklets, vectors = drawn([1, 2, 3])
    scores = switch_scores(vectors, tracklets, threshold=2.0)
    assert (scores.recall, scores.false_alarms) == (0.0, 0.0)
    assert np.isnan([scores.precision, scores.right_frames]).all()
    expected = {"precision": None, "recall": 0.0, "false_alarms": 0.0, "right_frames": None, "tracklets": 3}
    assert scores.numbers() == expected


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: find_switch(np.zeros(3)), r"\(frames, D\). Received: vectors of shape \(3,\)"),
        (lambda: find_switch([[0.0], [np.nan]]), r"vectors\[1, 0\]=nan"),
        (lambda: find_switch(np.zeros((8, 2)), threshold=3), "from 0 to 2. Received: threshold=3"),
        (lambda: switch_scores([np.zeros((2, 3))], drawn([1])[0]), "Received: 2 vectors for 8 frames"),
        (lambda: switch_scores([np.zeros((3, 2))] * 2, drawn([1, 2], 3)[0]), "four frames or more.*2 tracklets"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
