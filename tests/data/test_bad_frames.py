"""Draws of bad frames: whose frames, how many, where, and from which seed."""

import itertools

import numpy as np
import pytest

from kreid.data.bad_frames import (
    FAULT_WIDTH,
    KINDS,
    PARTS,
    SWITCHES,
    BadFrames,
    OtherPersons,
    bad_count,
    draw_bad_frames,
    draw_faults,
)
from kreid.data.tracklet import Tracklet


def tracklet(person, camera, number=0, length=8):
    name = f"p{person}_c{camera}_n{number}"
    return Tracklet(name, person, camera, tuple(f"{name}_f{time}.jpg" for time in range(length)))


@pytest.fixture(scope="module")
def tracklets():
    """Six persons with two tracklets in each of two cameras, and a distractor and junk in each."""
    rows = [tracklet(person, camera, number) for person in range(1, 7) for camera in (1, 2) for number in (0, 1)]
    return [*rows, *(tracklet(person, camera) for person in (0, -1) for camera in (1, 2))]


def owners(frames):
    """Return (person, camera, tracklet, time) of frame files."""
    return [tuple(part[1:] for part in name.removesuffix(".jpg").split("_")) for name in frames]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_k_frames_of_eight_are_bad(tracklets, kind, count):
    for clean, drawn in zip(tracklets, draw_bad_frames(tracklets, kind, count / 8), strict=True):
        assert drawn.bad.sum() == count
        assert (drawn.tracklet.id, drawn.tracklet.person, drawn.tracklet.camera) == (
            clean.id,
            clean.person,
            clean.camera,
        )
        changed = np.array(clean.frames) != np.array(drawn.tracklet.frames)
        np.testing.assert_array_equal(changed, drawn.bad if kind in SWITCHES else False)
        np.testing.assert_array_equal(drawn.faults[:, 0], np.where(drawn.bad, KINDS.index(kind) + 1, 0))
        assert not drawn.faults[~drawn.bad].any()


def test_another_person_is_one_tracklet_of_the_camera_in_a_run(tracklets):
    starts = set()
    for clean, drawn in zip(tracklets, draw_bad_frames(tracklets, "another_person", 3 / 8), strict=True):
        places = np.flatnonzero(drawn.bad)
        assert np.diff(places).tolist() == [1, 1]
        starts.add(places[0])
        persons, cameras, numbers, times = zip(*owners(np.array(drawn.tracklet.frames)[places]), strict=True)
        assert len(set(persons)) == 1 and len(set(numbers)) == 1
        assert set(cameras) == {str(clean.camera)}
        assert int(persons[0]) > 0 and int(persons[0]) != clean.person
        # Adjacent frames, the first of the tracklet after its last.
        assert (np.diff(np.array(times, int)) % 8).tolist() == [1, 1]
    assert starts == {0, 1, 2, 3, 4, 5}


def test_other_persons_are_all_different_and_of_the_camera(tracklets):
    scattered = 0
    for clean, drawn in zip(tracklets, draw_bad_frames(tracklets, "other_persons", 3 / 8), strict=True):
        places = np.flatnonzero(drawn.bad)
        scattered += np.diff(places).max() > 1
        persons, cameras, _, _ = zip(*owners(np.array(drawn.tracklet.frames)[places]), strict=True)
        assert len(set(persons)) == 3 and str(clean.person) not in persons
        assert not {"0", "-1"} & set(persons)
        assert set(cameras) == {str(clean.camera)}
    assert scattered > len(tracklets) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_bad_frames_of_a_smaller_share_stay_bad_in_the_same_way(tracklets, kind):
    drawn = [draw_bad_frames(tracklets, kind, count / 8) for count in (1, 2, 3, 7)]
    for fewer, more in itertools.pairwise(drawn):
        for one, other in zip(fewer, more, strict=True):
            np.testing.assert_array_equal(one.faults[one.bad], other.faults[one.bad])


@pytest.mark.parametrize("kind", ["another_person", "covered"])
def test_a_draw_depends_on_seed_and_id_alone(tracklets, kind):
    first = draw_bad_frames(tracklets, kind, 3 / 8, seed=5)
    for one, again in zip(first, draw_bad_frames(tracklets, kind, 3 / 8, seed=5), strict=True):
        np.testing.assert_array_equal(one.faults, again.faults)
        assert one.tracklet == again.tracklet
    other = draw_bad_frames(tracklets, kind, 3 / 8, seed=6)
    assert any((one.faults != two.faults).any() for one, two in zip(first, other, strict=True))
    if kind == "covered":
        # Faults of the picture do not depend on the other tracklets or their order.
        backwards = draw_bad_frames(tracklets[::-2], kind, 3 / 8, seed=5)
        by_id = {one.tracklet.id: one.faults for one in first}
        for one in backwards:
            np.testing.assert_array_equal(one.faults, by_id[one.tracklet.id])


def test_places_can_be_chosen(tracklets):
    for drawn in draw_bad_frames(tracklets, "dark", 3 / 8, places="run"):
        assert np.diff(np.flatnonzero(drawn.bad)).tolist() == [1, 1]
    scattered = draw_bad_frames(tracklets, "another_person", 3 / 8, places="scattered")
    assert any(np.diff(np.flatnonzero(drawn.bad)).max() > 1 for drawn in scattered)


def test_without_another_person_in_the_camera_any_camera_gives_one():
    drawn = draw_bad_frames([tracklet(1, 1), tracklet(2, 2)], "another_person", 1 / 8)
    assert {owner[0] for owner in owners(np.array(drawn[0].tracklet.frames)[drawn[0].bad])} == {"2"}
    with pytest.raises(ValueError, match="no other person than that of 'p1_c1_n0'"):
        draw_bad_frames([tracklet(1, 1), tracklet(1, 2), tracklet(0, 1)], "another_person", 1 / 8)
    assert len(draw_bad_frames([tracklet(1, 1)], "dark", 3 / 8)) == 1


def test_persons_come_again_only_if_there_are_too_few(tracklets):
    others = OtherPersons(tracklets)
    drawn = others.each(0, 12, np.random.default_rng(0))
    persons = [tracklets[row].person for row in drawn[:, 0].tolist()]
    assert sorted(persons[:5]) == [2, 3, 4, 5, 6] and persons[5:10] == persons[:5]
    assert drawn[:, 1].min() >= 0 and drawn[:, 1].max() < 8


@pytest.mark.parametrize(
    ("length", "share", "count"),
    [
        (8, 0, 0),
        (8, 1 / 8, 1),
        (8, 3 / 8, 3),
        (4, 1 / 8, 1),
        (4, 3 / 8, 2),
        (1, 3 / 8, 0),
        (2, 0.9, 1),
        (100, 0.25, 25),
    ],
)
def test_bad_count_is_the_nearest_that_leaves_a_good_frame(length, share, count):
    assert bad_count(length, share) == count


def test_faults_of_the_picture_are_in_their_ranges(tracklets):
    others, rng = OtherPersons(tracklets), np.random.default_rng(1)
    drawn = {kind: draw_faults(others, 0, 400, kind, 400, "scattered", rng) for kind in KINDS[2:]}
    for kind, faults in drawn.items():
        assert faults.shape == (400, FAULT_WIDTH) and faults.dtype == np.int32
        assert (faults[:, 0] == KINDS.index(kind) + 1).all()
    top, left, tall, wide, first, second, stripe = drawn["covered"][:, 1:].T
    assert tall.min() >= 0.6 * PARTS - 1 and (top + tall).max() <= PARTS + 1 and top.min() >= 0
    assert wide.min() >= 0.75 * PARTS - 1 and (left + wide).max() <= PARTS + 1 and left.min() >= 0
    assert first.max() < 1 << 24 and second.max() < 1 << 24
    assert 150 < (stripe > 0).sum() < 250
    down, right = drawn["half_out"][:, 1:3].T
    assert ((down == 0) != (right == 0)).all()
    assert ((np.abs(down + right) >= 0.4 * PARTS - 1) & (np.abs(down + right) <= 0.6 * PARTS + 1)).all()
    assert len({(np.sign(one), np.sign(two)) for one, two in zip(down, right, strict=True)}) == 4
    reach, across = drawn["blurred"][:, 1:3].T
    assert reach.min() >= PARTS / 24 - 1 and reach.max() <= PARTS / 12 + 1
    assert np.abs(across - 2 * reach).max() <= 1
    assert drawn["dark"][:, 1].min() >= 0.05 * PARTS - 1 and drawn["dark"][:, 1].max() <= 0.2 * PARTS + 1


@pytest.mark.parametrize(
    ("settings", "num_frames", "counts"),
    [
        ({}, 4, (0, 3)),
        ({"frames": [1, 2]}, 8, (1, 2)),
        ({"frames": [0, 0.375]}, 8, (0, 3)),
        ({"frames": [0, 0.9]}, 2, (0, 1)),
    ],
)
def test_counts_are_numbers_or_shares(settings, num_frames, counts):
    assert BadFrames.from_settings(settings).counts(num_frames) == counts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ["darc"]}, "some of another_person, other_persons, covered, .* Received: kinds=\\('darc',\\)"),
        ({"kinds": []}, "Received: kinds=\\(\\)"),
        ({"kinds": "dark"}, "Received: kinds='dark'"),
        ({"kind": ["dark"]}, "keys kinds, frames, places. Received: kind=\\['dark'\\]"),
        ({"frames": [3, 1]}, "Received: frames=\\(3, 1\\)"),
        ({"frames": [0, 1.5]}, "two shares below 1"),
        ({"frames": [0, float("inf")]}, "Received: frames=\\(0, inf\\)"),
        ({"frames": [0, float("nan")]}, "Received: frames=\\(0, nan\\)"),
        ({"frames": 3}, "Received: frames=3"),
        ({"frames": ["a", 3]}, "two whole numbers"),
        ({"places": "here"}, "by_kind, run, scattered. Received: places='here'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        BadFrames.from_settings(settings)


def test_a_clip_keeps_a_good_frame():
    with pytest.raises(ValueError, match="lower the most bad frames to 3 or less"):
        BadFrames(frames=(0, 4)).counts(4)
    with pytest.raises(ValueError, match="Received: num_frames=1"):
        BadFrames().counts(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("darc", 0.1), "kinds"), (("dark", 1.0), "share=1.0"), (("dark", -0.1), "share=-0.1")],
)
def test_draws_are_checked(tracklets, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_bad_frames(tracklets, *arguments)
    with pytest.raises(ValueError, match="seed=-1"):
        draw_bad_frames(tracklets, "dark", 0.1, seed=-1)
