"""Clips with unreadable frames: what replaces what, and which files are named."""

from pathlib import Path

import numpy as np
import pytest
from pipeline_samples import SIZE, sources

from kreid.data.cache import FrameCache
from kreid.data.damage import DamageLog
from kreid.data.damaged_clips import ClipRepair


def repaired(tracklets, clips, whole=(), clip_length=None, damage=None, cache=None, tried=100):
    """Repair a batch of one clip of each tracklet, from the times of the clips' frames."""
    clips = np.array(clips, np.int32)
    starts = np.cumsum([0, *map(len, tracklets)])[:-1, None].astype(np.int32)
    labels = np.unique([tracklet.person for tracklet in tracklets], return_inverse=True)[1].astype(np.int32)
    repair = ClipRepair(tracklets, SIZE, clip_length or clips.shape[1], damage or DamageLog(1.0), cache)
    rows, counts = np.arange(len(tracklets), dtype=np.int32), np.full(len(tracklets), tried, np.int32)
    return repair.repair(np.array(whole, np.int32), labels, rows, clips + starts, counts)


def spoil(tracklet, *times):
    for time in times or range(len(tracklet)):
        Path(tracklet.frames[time]).write_bytes(b"not an image")


def test_readable_frames_are_spread_evenly_over_the_clip(make_tracklets):
    tracklets = make_tracklets(persons=3, frames=4)
    for row, lost in enumerate([(0,), (2,), (1, 3), (0, 1, 2)]):
        spoil(tracklets[row], *lost)
    damage = DamageLog(1.0)
    frames, places, order, labels = repaired(tracklets, [range(4)] * 5 + [[2, 1, 1, 2]], damage=damage, tried=24)
    assert sources(frames)[2].tolist() == [
        [1, 1, 2, 3],
        [0, 0, 1, 3],
        [0, 0, 2, 2],
        [3, 3, 3, 3],
        [0, 1, 2, 3],
        [2, 1, 1, 2],
    ]
    assert places.tolist() == order.tolist() == [0, 1, 2, 3, 4, 5]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    lost = [(0, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 1), (3, 2)]
    assert damage.counts == {tracklets[row].frames[time]: 1 for row, time in lost}
    assert damage.tried == 24
    assert damage.tracklets == ()


def test_a_frame_that_a_clip_repeats_is_read_and_counted_once(make_tracklets):
    tracklets = make_tracklets(persons=1, tracklets=1, frames=3)
    spoil(tracklets[0], 1)
    damage = DamageLog(1.0)
    frames, *_ = repaired(tracklets, [[0, 1, 1, 2]], damage=damage)
    assert sources(frames)[2].tolist() == [[0, 0, 2, 2]]
    assert damage.counts == {tracklets[0].frames[1]: 1}


def test_damage_stays_within_its_run_of_frames(make_tracklets):
    tracklets = make_tracklets(persons=2, frames=6)
    for row, lost in enumerate([(1,), (3, 4, 5), (0, 1), (0, 1, 4, 5)]):
        spoil(tracklets[row], *lost)
    frames, *_ = repaired(tracklets, [range(6)] * 4, clip_length=2)
    assert sources(frames)[2].tolist() == [
        [0, 0, 2, 3, 4, 5],
        [0, 1, 2, 2, 2, 2],  # the last run has no frame left and repeats its neighbour
        [2, 3, 2, 3, 4, 5],
        [2, 3, 2, 3, 2, 3],
    ]


def test_a_clip_without_readable_frames_becomes_another_of_its_person_or_of_another_with_its_label(make_tracklets):
    tracklets = make_tracklets(persons=3, frames=2)
    for row in (0, 4, 5):
        spoil(tracklets[row])
    spoil(tracklets[3], 0)
    damage = DamageLog(1.0)
    frames, places, order, labels = repaired(tracklets, [range(2)] * 6, whole=(1, 2), damage=damage)
    assert sources(frames)[2].tolist() == [[1, 1]]
    assert places.tolist() == [3]
    # Positions in the batch of the two whole clips, then of the repaired one.
    assert np.array([1, 2, 3])[order].tolist() == [1, 1, 2, 3, 1, 1]
    assert labels.tolist() == [0, 0, 1, 1, 0, 0]
    assert damage.tracklets == tuple(tracklets[row].id for row in (0, 4, 5))


@pytest.mark.parametrize("cached", [False, True])
def test_only_a_tracklet_of_which_nothing_can_be_read_is_named(make_tracklets, cached):
    tracklets = make_tracklets(persons=2, tracklets=1, frames=3)
    spoil(tracklets[0], 2)
    spoil(tracklets[1])
    damage, cache = DamageLog(1.0), None
    if cached:
        cache = FrameCache([path for tracklet in tracklets for path in tracklet.frames], SIZE, "memory")
        cache.fill(progress=False)
    with pytest.raises(ValueError, match=r"No clip of a batch has a readable frame: see .* damage\.report\(\)"):
        repaired(tracklets, [[2], [0]], damage=damage, cache=cache)
    assert damage.tracklets == (tracklets[1].id,)
    assert damage.counts == {tracklets[0].frames[2]: 1, tracklets[1].frames[0]: 1}
    frames, *_ = repaired(tracklets, [[1, 2], [0, 1]], cache=cache)
    assert sources(frames)[2].tolist() == [[1, 1]]


def test_too_much_damage_is_refused_at_its_first_clip(make_tracklets):
    tracklets = make_tracklets(persons=2, frames=2)
    for row in (0, 3):
        spoil(tracklets[row], 1)
    repaired(tracklets, [range(2)] * 4, damage=DamageLog(2 / 8), tried=8)
    with pytest.raises(ValueError, match=r"(?s)2 of 8 frames.*1/1/1\.jpg.*Received: max_damaged"):
        repaired(tracklets, [range(2)] * 4, damage=DamageLog(1.9 / 8), tried=8)
