"""Bad frames in the batches of the training pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from pipeline_samples import SIZE, sources, training

from kreid.data.augment import Augmentation
from kreid.data.bad_clips import BadClips
from kreid.data.bad_frames import FAULT_WIDTH, KINDS, PARTS, BadFrames
from kreid.data.spoil import spoil


def take(pipeline, batches):
    taken = [
        (inputs["frames"].numpy(), labels["logits"].numpy()) for inputs, labels in pipeline.dataset().take(batches)
    ]
    return [np.concatenate(arrays) for arrays in zip(*taken, strict=True)]


def test_batches_hold_frames_of_another_person_and_dark_ones(make_tracklets):
    pipeline = training(make_tracklets(), bad_frames=BadFrames(["another_person", "dark"], (2, 2)))
    frames, labels = take(pipeline, 4)
    rows, _, numbers = (np.concatenate(parts) for parts in zip(pipeline.plan(0), pipeline.plan(1), strict=True))
    np.testing.assert_array_equal(labels, rows // 2)
    is_dark = numbers[..., 0] == KINDS.index("dark") + 1
    is_switched = numbers[..., 0] == KINDS.index("another_person") + 1
    assert (is_dark.sum(axis=1) + is_switched.sum(axis=1)).tolist() == [2] * 16
    assert is_dark.any() and is_switched.any()
    persons, tracklets, _ = sources(np.where(is_dark[..., None, None, None], 0, frames))
    assert ((persons != labels[:, None]) | is_dark)[is_switched].all()
    own = ~is_dark & ~is_switched
    np.testing.assert_array_equal(persons[own], np.broadcast_to(labels[:, None], own.shape)[own])
    # A tracklet's number is its camera's.
    np.testing.assert_array_equal(tracklets[~is_dark], np.broadcast_to(rows[:, None] % 2, own.shape)[~is_dark])
    for clip in np.flatnonzero(is_switched.any(axis=1)):
        first, second = np.flatnonzero(is_switched[clip])
        assert second == first + 1
        assert persons[clip, first] == persons[clip, second]
    shade = 8 * (4 * labels + rows % 2)[:, None] + np.arange(6)
    brightest = np.floor(shade.max() * numbers[is_dark][:, 1] / PARTS + 0.5)
    assert (frames[is_dark].max(axis=(1, 2, 3)) <= brightest).all()


def test_faults_leave_clips_and_augmentation_as_they_are(make_tracklets):
    tracklets = make_tracklets()
    augmentation = Augmentation(flip=0.5, crop_padding=2, erase=0.5)
    bad, clean = (
        training(tracklets, bad_frames=one, augmentation=augmentation) for one in (BadFrames(frames=(1, 3)), None)
    )
    rows, frames, numbers = bad.plan(0)
    own_rows, own_frames, own_numbers = clean.plan(0)
    np.testing.assert_array_equal(rows, own_rows)
    np.testing.assert_array_equal(numbers[:, :1, FAULT_WIDTH:], own_numbers)
    good = numbers[..., 0] == 0
    assert set((~good).sum(axis=1)) <= {1, 2, 3} and good.any(axis=1).all()
    np.testing.assert_array_equal(frames[good], own_frames[good])
    seen = {KINDS[code - 1] for epoch in range(5) for code in np.unique(bad.plan(epoch)[2][..., 0]) if code}
    assert seen == set(KINDS)


def test_faults_come_before_the_augmentation(make_tracklets):
    augmentation = Augmentation(flip=1.0, crop_padding=3)
    clips = BadClips(BadFrames(["half_out", "dark"], (3, 3)), make_tracklets(), augmentation, 4, seed=2)
    drawn = augmentation.draw(6, 4, SIZE, np.random.default_rng(0))
    _, numbers = clips.plan(np.zeros(6, int), np.zeros((6, 4), int), drawn, epoch=0)
    assert numbers.shape == (6, clips.draws(4), clips.width)
    frames = tf.constant(np.random.default_rng(1).integers(0, 256, (4, *SIZE, 3), np.uint8))
    for own, of_augmentation in zip(numbers, drawn, strict=True):
        spoiled = spoil(frames, own[:, :FAULT_WIDTH])
        assert (spoiled.numpy() != frames.numpy()).any(axis=(1, 2, 3)).sum() == 3
        expected = augmentation.apply(spoiled, tf.constant(of_augmentation))
        np.testing.assert_array_equal(clips.apply(frames, tf.constant(own)), expected)


def test_plans_depend_on_seed_and_epoch_and_are_shared_by_workers(make_tracklets):
    tracklets = make_tracklets()
    plans = {
        key: training(tracklets, bad_frames=BadFrames(), seed=key[0]).plan(key[1]) for key in ((3, 0), (3, 1), (4, 0))
    }
    for one, again in zip(plans[3, 0], training(tracklets, bad_frames=BadFrames(), seed=3).plan(0), strict=True):
        np.testing.assert_array_equal(one, again)
    assert (plans[3, 0][2][..., 0] != plans[3, 1][2][..., 0]).any()
    assert (plans[3, 0][2][..., 0] != plans[4, 0][2][..., 0]).any()
    for one, own in zip(
        plans[3, 0], training(tracklets, bad_frames=BadFrames(), seed=3, shard=(1, 2)).plan(0), strict=True
    ):
        np.testing.assert_array_equal(one[4:], own)


def test_a_clip_with_an_unreadable_frame_has_no_other_person(make_tracklets, truncate):
    tracklets = make_tracklets(persons=2, tracklets=2, frames=4)
    for one in tracklets:
        if one.person == 10:
            for path in one.frames[:2]:
                truncate(path)
    frames, labels = take(training(tracklets, bad_frames=BadFrames(["another_person"], (1, 1)), cache="memory"), 2)
    persons, _, times = sources(frames)
    # One of person 10's two unreadable frames always stays, so its readable ones repeat, without a switch.
    np.testing.assert_array_equal(persons[labels == 0], 0)
    assert set(times[labels == 0].ravel()) == {2, 3}
    # Person 20's clips have a frame of person 10 if that can be read.
    foreign = persons[labels == 1] == 0
    assert set(foreign.sum(axis=1)) <= {0, 1}
    assert set(times[labels == 1][foreign]) <= {2, 3}


def test_clips_that_keep_no_good_frame_are_refused(make_tracklets):
    with pytest.raises(ValueError, match="lower the most bad frames to 3"):
        training(make_tracklets(), bad_frames=BadFrames(frames=(0, 4)))
