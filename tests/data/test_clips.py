import math
from fractions import Fraction

import numpy as np
import pytest

from kreid.data.clips import adjacent_clip, adjacent_clips, chunk_clip, evenly, random_clip

CLIPS = [random_clip, chunk_clip, adjacent_clip]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 100])
@pytest.mark.parametrize("num_frames", [1, 4, 7])
def test_positions_are_inside_sorted_and_repeat_only_when_they_must(clip, length, num_frames):
    rng = np.random.default_rng(3)
    for _ in range(20):
        positions = clip(length, num_frames, rng)
        assert positions.shape == (num_frames,)
        assert np.issubdtype(positions.dtype, np.integer)
        assert (np.diff(positions) >= 0).all()
        assert positions.min() >= 0
        assert positions.max() < length
        counts = np.bincount(positions, minlength=length)
        # Every frame of a short tracklet is shown, and about equally often; a long one repeats none.
        assert counts.max() <= -(-num_frames // length)
        if length <= num_frames:
            assert counts.min() >= num_frames // length


@pytest.mark.parametrize("clip", CLIPS)
def test_only_the_generator_decides(clip):
    draws = [[clip(50, 4, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert draws[0][0] == draws[0][1] != draws[0][2]


def test_random_clips_reach_every_frame_alike():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([random_clip(10, 4, rng) for _ in range(5_000)]), minlength=10)
    # 2,000 expected each; the standard deviation is below 35.
    assert np.abs(counts - 2_000).max() < 200


def test_chunk_clips_take_one_frame_from_each_chunk():
    rng = np.random.default_rng(0)
    drawn = np.stack([chunk_clip(10, 4, rng) for _ in range(500)])
    for column, chunk in enumerate([{0, 1}, {2, 3, 4}, {5, 6}, {7, 8, 9}]):
        assert set(drawn[:, column].tolist()) == chunk


def test_adjacent_clips_are_runs_with_every_start():
    rng = np.random.default_rng(0)
    drawn = np.stack([adjacent_clip(9, 4, rng) for _ in range(300)])
    assert (np.diff(drawn, axis=1) == 1).all()
    assert set(drawn[:, 0].tolist()) == set(range(6))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 7, 15, 16, 17, 18, 40, 101])
@pytest.mark.parametrize(("num_frames", "clip_length"), [(16, 4), (4, 4), (8, 4), (6, 1), (9, 3)])
def test_several_adjacent_clips_cover_short_tracklets_and_share_long_ones(length, num_frames, clip_length):
    rng = np.random.default_rng(4)
    for _ in range(20):
        positions = adjacent_clips(length, num_frames, clip_length, rng)
        assert positions.shape == (num_frames,)
        runs = positions.reshape(-1, clip_length)
        if length < clip_length:
            assert (runs == runs[0]).all()
            counts = np.bincount(runs[0], minlength=length)
            assert counts.max() - counts.min() <= 1
            assert (np.diff(runs[0]) >= 0).all()
            continue
        assert (np.diff(runs, axis=1) == 1).all()
        assert (np.diff(runs[:, 0]) >= 0).all()
        if length <= num_frames:
            assert set(positions.tolist()) == set(range(length))
        else:
            assert len(set(positions.tolist())) == num_frames
            parts = len(runs)
            for part, run in enumerate(runs):
                assert part * length // parts <= run[0]
                assert run[-1] < (part + 1) * length // parts


def test_several_adjacent_clips_start_everywhere_in_their_parts():
    rng = np.random.default_rng(0)
    drawn = np.stack([adjacent_clips(13, 6, 3, rng) for _ in range(300)])
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3}
    assert set(drawn[:, 3].tolist()) == {6, 7, 8, 9, 10}


@pytest.mark.parametrize(("length", "num_frames", "clip_length"), [(0, 4, 2), (4, 0, 2), (9, 4, 0), (9, 6, 4)])
def test_several_adjacent_clips_of_nothing(length, num_frames, clip_length):
    with pytest.raises(ValueError, match=f"Received: .*num_frames={num_frames}"):
        adjacent_clips(length, num_frames, clip_length, np.random.default_rng(0))


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("length", "num_frames"), [(0, 4), (4, 0)])
def test_a_clip_of_nothing(clip, length, num_frames):
    with pytest.raises(ValueError, match=f"Received: length={length}, num_frames={num_frames}"):
        clip(length, num_frames, np.random.default_rng(0))


@pytest.mark.parametrize("length", [0, 1, 2, 5, 9, 100, 101])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_evenly_takes_the_middles_of_equal_parts(length, count):
    positions = evenly(length, count)
    assert np.issubdtype(positions.dtype, np.integer)
    if length <= count:
        assert positions.tolist() == list(range(length))
    else:
        assert positions.tolist() == [math.floor(Fraction(2 * part + 1, 2) * length / count) for part in range(count)]


@pytest.mark.parametrize(("length", "count"), [(-1, 4), (4, 0)])
def test_evenly_of_nothing(length, count):
    with pytest.raises(ValueError, match=f"Received: length={length}, count={count}"):
        evenly(length, count)
