"""Batches to train on: their plan, samplers, workers, damage and refusals."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pipeline_samples import SIZE, sources, training

from kreid.data.augment import Augmentation
from kreid.data.bad_frames import BadFrames


def arrays(batches):
    return [
        (inputs["frames"].numpy(), inputs["lengths"].numpy(), {name: label.numpy() for name, label in labels.items()})
        for inputs, labels in batches
    ]


def take(pipeline, batches, first_epoch=0, first_step=0):
    return arrays(pipeline.dataset(first_epoch, first_step).take(batches))


def planned(pipeline, epochs):
    """Return the plans of epochs, one after the other, batch by batch."""
    parts = zip(*[pipeline.plan(epoch) for epoch in epochs], strict=True)
    return [np.concatenate(part).reshape(-1, pipeline.batch_size, *part[0].shape[1:]) for part in parts]


def assert_same(one, other):
    assert len(one) == len(other)
    for (frames, lengths, labels), (frames2, lengths2, labels2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(frames, frames2)
        np.testing.assert_array_equal(lengths, lengths2)
        assert labels.keys() == labels2.keys()
        for name in labels:
            np.testing.assert_array_equal(labels[name], labels2[name])


def shown(labels, frames):
    person, tracklet, _ = sources(frames)
    np.testing.assert_array_equal(person, np.broadcast_to(labels[:, None], person.shape))
    assert (tracklet == tracklet[:, :1]).all()
    return list(zip(person[:, 0].tolist(), tracklet[:, 0].tolist(), strict=True))


class TestTraining:
    def test_batches_have_fixed_shapes_and_contiguous_int32_labels(self, make_tracklets):
        pipeline = training(make_tracklets(persons=5), targets=("logits", "features", "frames"))
        assert pipeline.labels == {10: 0, 20: 1, 30: 2, 40: 3, 50: 4}
        assert pipeline.num_identities == 5
        assert pipeline.steps_per_epoch == 3
        dataset = pipeline.dataset()
        inputs, labels = dataset.element_spec
        assert inputs["frames"] == tf.TensorSpec((4, 4, *SIZE, 3), tf.uint8)
        assert inputs["lengths"] == tf.TensorSpec((4,), tf.int32)
        assert labels == dict.fromkeys(("logits", "features", "frames"), tf.TensorSpec((4,), tf.int32))
        seen = set()
        for frames, lengths, labels in arrays(dataset.take(3)):
            assert lengths.tolist() == [4] * 4
            for label in labels.values():
                np.testing.assert_array_equal(label, labels["logits"])
            clips = shown(labels["logits"], frames)
            assert len(set(clips)) == 4
            assert [person for person, _ in clips][::2] == [person for person, _ in clips][1::2]
            seen.update(person for person, _ in clips)
        assert seen == {0, 1, 2, 3, 4}
        assert pipeline.damage.counts == {}

    def test_frames_are_those_of_the_plan_in_time(self, make_tracklets):
        tracklets = make_tracklets(frames=8)
        pipeline = training(tracklets, steps_per_epoch=3)
        _, frames, _ = pipeline.plan(0)
        times = np.concatenate([sources(frames)[2] for frames, _, _ in take(pipeline, 3)])
        np.testing.assert_array_equal(times, frames % 8)
        _, frames, _ = training(tracklets, clips="adjacent").plan(0)
        assert (np.diff(frames, axis=1) == 1).all()
        _, frames, _ = training(tracklets, clips="chunks").plan(0)
        np.testing.assert_array_equal(frames % 8 // 2, np.broadcast_to(np.arange(4), frames.shape))

    def test_a_repeated_tracklet_shows_other_frames(self, make_tracklets):
        pipeline = training(make_tracklets(persons=3, tracklets=2, frames=8), tracklets_per_person=4, steps_per_epoch=8)
        rows, frames, _ = pipeline.plan(0)
        batches = zip(rows.reshape(8, 8), frames.reshape(8, 8, 4), strict=True)
        clips = [drawn[drawn_rows == row] for drawn_rows, drawn in batches for row in set(drawn_rows.tolist())]
        assert all(len(each) == 2 for each in clips), "each of two tracklets comes twice in a batch"
        same = [np.array_equal(*each) for each in clips]
        # Of 8 frames 4 are drawn: by chance one in 70 pairs is equal.
        assert np.mean(same) < 0.2
        assert take(pipeline, 1)[0][0].shape == (8, 4, *SIZE, 3)

    def test_a_tracklet_of_one_frame_repeats_it(self, make_tracklets):
        frames, _, labels = take(training(make_tracklets(frames=1)), 1)[0]
        shown(labels["logits"], frames)
        assert (sources(frames)[2] == 0).all()

    def test_cached_frames_give_the_same_batches(self, make_tracklets, truncate, tmp_path):
        # Every epoch reads all frames, so that batches loaded ahead count no new ones.
        tracklets = make_tracklets(frames=4)
        for path in (tracklets[0].frames[2], *tracklets[3].frames):
            truncate(path)
        rich = Augmentation(flip=0.5, crop_padding=2, erase=0.5)
        plain = training(tracklets, augmentation=rich)
        batches = take(plain, 6)
        for cache in ("memory", tmp_path / "cache"):
            cached = training(tracklets, augmentation=rich, cache=cache)
            assert_same(batches, take(cached, 6))
            assert plain.damage.counts.keys() == cached.damage.counts.keys() != set()
            assert plain.damage.tracklets == cached.damage.tracklets == (tracklets[3].id,)

    @pytest.mark.parametrize("sampler", ["persons", "sequences", "frames"])
    def test_workers_together_see_the_batches_of_a_single_worker(self, make_tracklets, sampler):
        tracklets = make_tracklets(persons=5)
        rich = Augmentation(flip=0.5, crop_padding=2, erase=0.5)
        settings = dict(augmentation=rich, sampler=sampler, batch_size=3)
        settings |= {"num_frames": 1} if sampler == "frames" else {}
        alone = planned(training(tracklets, steps_per_epoch=6, **settings), (0, 1))
        workers = [training(tracklets, steps_per_epoch=2, shard=(worker, 3), **settings) for worker in range(3)]
        for worker, pipeline in enumerate(workers):
            for one, other in zip(alone, planned(pipeline, (0, 1)), strict=True):
                np.testing.assert_array_equal(one[worker::3], other)
        if sampler == "persons":
            batches = take(training(tracklets, steps_per_epoch=6, **settings), 12)
            assert_same(batches[7::3], take(workers[1], 2, first_epoch=1))

    def test_an_epoch_is_shared_by_the_workers(self, make_tracklets):
        assert training(make_tracklets(persons=5)).steps_per_epoch == 3
        assert training(make_tracklets(persons=5), shard=(0, 2)).steps_per_epoch == 1

    def test_only_the_seed_decides(self, make_tracklets):
        tracklets = make_tracklets()
        rich = Augmentation(crop_padding=3, erase=0.5)
        expected = take(training(tracklets, augmentation=rich, seed=3), 5)
        for parallelism in (1, 3):
            assert_same(expected, take(training(tracklets, augmentation=rich, seed=3, parallelism=parallelism), 5))
        first = planned(training(tracklets, augmentation=rich, seed=3), (0,))
        other = planned(training(tracklets, augmentation=rich, seed=4), (0,))
        assert not any(np.array_equal(one, two) for one, two in zip(first, other, strict=True))

    def test_a_later_start_equals_an_uninterrupted_run(self, make_tracklets):
        tracklets, rich = make_tracklets(), Augmentation(crop_padding=3, erase=0.5)
        pipeline = training(tracklets, augmentation=rich, steps_per_epoch=3)
        whole = take(pipeline, 9)
        assert_same(whole[6:], take(pipeline, 3, first_epoch=2))
        assert_same(whole[5:], take(pipeline, 4, first_epoch=1, first_step=2))
        # An epoch of one step is part of a pass over the persons; the default is the whole pass.
        pipeline = training(tracklets, augmentation=rich, steps_per_epoch=1)
        assert_same(take(pipeline, 4)[3:], take(pipeline, 1, first_epoch=3))

    def test_the_first_clips_are_those_of_the_first_batch(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=4)
        rich = Augmentation(crop_padding=3, erase=0.5, brightness=0.3)
        pipeline = training(tracklets, augmentation=rich, persons_per_batch=4)
        clips = pipeline.plan(0)[0].tolist()
        truncate(tracklets[clips[1]].frames[2])
        (frames, lengths, _), *_ = take(pipeline, 1)
        for count in (3, 16):
            first = training(tracklets, augmentation=rich, persons_per_batch=4, cache="memory").first_clips(count)
            np.testing.assert_array_equal(first["frames"], frames[:count])
            np.testing.assert_array_equal(first["lengths"], lengths[:count])
        bad = training(
            tracklets, augmentation=rich, persons_per_batch=4, bad_frames=BadFrames(["another_person"], (1, 1))
        )
        np.testing.assert_array_equal(bad.first_clips(16)["frames"], take(bad, 1)[0][0])
        for path in tracklets[clips[1]].frames:
            truncate(path)
        pipeline = training(tracklets, augmentation=rich, persons_per_batch=4)
        np.testing.assert_array_equal(pipeline.first_clips(2)["frames"], frames[[0, 0]])
        assert pipeline.damage.counts.keys() == set(tracklets[clips[1]].frames)
        with pytest.raises(ValueError, match="4 of 32 frames cannot be read"):
            training(tracklets, persons_per_batch=4, max_damaged=0.1).first_clips(2)

    def test_the_frames_of_earlier_steps_are_not_read(self, make_tracklets):
        pipeline = training(make_tracklets(), num_frames=1, steps_per_epoch=2)
        # Some later batches are read ahead.
        later = {path for step in range(1, 8) for path in pipeline.batch_files(step // 2, step % 2)}
        earlier = set(pipeline.batch_files(0, 0)) - later
        assert earlier
        for path in earlier:
            os.remove(path)
        take(pipeline, 2, first_step=1)
        assert pipeline.damage.counts == {}

    @pytest.mark.parametrize("sampler", ["persons", "sequences", "frames"])
    def test_other_epoch_lengths_go_through_the_same_order(self, make_tracklets, sampler):
        tracklets = make_tracklets(persons=5, frames=4)
        settings = dict(sampler=sampler, batch_size=3, num_frames=1 if sampler == "frames" else 4)
        whole = training(tracklets, **settings)
        expected = planned(whole, range(4))
        for steps in (1, 3, whole.steps_per_epoch + 1):
            epochs = range(4 * whole.steps_per_epoch // steps)
            rows, frames, _ = planned(training(tracklets, steps_per_epoch=steps, **settings), epochs)
            np.testing.assert_array_equal(rows, expected[0][: len(rows)])
            if sampler == "frames":
                np.testing.assert_array_equal(frames, expected[1][: len(rows)])

    @pytest.mark.parametrize(("sampler", "frames"), [("sequences", 4), ("frames", 1)])
    def test_other_samplers_show_all_and_continue_after_an_epoch(self, make_tracklets, sampler, frames):
        tracklets = make_tracklets(persons=3, tracklets=3, frames=4)
        rich = Augmentation(crop_padding=3, erase=0.5)
        settings = dict(sampler=sampler, num_frames=frames, batch_size=5, augmentation=rich)
        settings.update(persons_per_batch=None, tracklets_per_person=None, targets=("logits",))
        pipeline = training(tracklets, **settings)
        items = 9 if sampler == "sequences" else 36
        assert pipeline.steps_per_epoch == -(-items // 5)
        dataset = pipeline.dataset()
        assert dataset.element_spec[0]["frames"] == tf.TensorSpec((5, frames, *SIZE, 3), tf.uint8)
        whole = arrays(dataset.take(3 * pipeline.steps_per_epoch))
        resumed = take(training(tracklets, **settings), pipeline.steps_per_epoch, first_epoch=2)
        assert_same(whole[2 * pipeline.steps_per_epoch :], resumed)
        other = training(tracklets, **{**settings, "seed": 1})
        assert not np.array_equal(pipeline.plan(0)[1], other.plan(0)[1])

    def test_sequences_come_once_each(self, make_tracklets):
        pipeline = training(make_tracklets(persons=4, tracklets=2), sampler="sequences", batch_size=4)
        rows = [name for frames, _, labels in take(pipeline, 2) for name in shown(labels["logits"], frames)]
        assert sorted(rows) == [(person, number) for person in range(4) for number in range(2)]
        assert rows != sorted(rows)

    def test_frames_come_once_each_with_the_label_of_their_tracklet(self, make_tracklets):
        whole = make_tracklets(persons=3, tracklets=2, frames=4)
        # Tracklets of 4, 1, 3, 4, 1 and 3 frames.
        tracklets = [
            type(one)(one.id, one.person, one.camera, one.frames[: (4, 1, 3)[row % 3]]) for row, one in enumerate(whole)
        ]
        pipeline = training(tracklets, sampler="frames", num_frames=1, batch_size=8)
        assert pipeline.steps_per_epoch == 2
        drawn = []
        for frames, lengths, labels in take(pipeline, 2):
            assert lengths.tolist() == [1] * 8
            times = sources(frames)[2][:, 0].tolist()
            drawn += [(*name, time) for name, time in zip(shown(labels["logits"], frames), times, strict=True)]
        expected = [(row // 2, row % 2, time) for row in range(6) for time in range((4, 1, 3)[row % 3])]
        assert sorted(drawn) == expected
        assert len({person for person, *_ in drawn[:8]}) > 1

    def test_a_damaged_frame_among_frames_is_replaced_by_another_of_the_batch(self, make_tracklets, truncate):
        tracklets = make_tracklets(persons=2, tracklets=2, frames=3)
        truncate(tracklets[0].frames[1])
        pipeline = training(tracklets, sampler="frames", num_frames=1, batch_size=12)
        (frames, _, labels), *_ = take(pipeline, 1)
        shown(labels["logits"], frames)
        assert sorted(np.bincount(labels["logits"]).tolist()) == [6, 6]
        assert list(pipeline.damage.counts) == [tracklets[0].frames[1]]

    def test_augmentation_is_that_of_the_plan_for_a_repaired_clip_too(self, make_tracklets, truncate):
        rich = Augmentation(crop_padding=3, erase=0.5)
        tracklets = make_tracklets(frames=4)
        truncate(tracklets[3].frames[1])
        _, _, numbers = training(tracklets, augmentation=rich).plan(0)
        plain, augmented = take(training(tracklets), 2), take(training(tracklets, augmentation=rich), 2)
        # Fewer draws are made without augmentation, but after the frames: those are the same.
        clips = np.concatenate([frames for frames, *_ in plain])
        expected = np.stack([rich.apply(clip, row) for clip, row in zip(clips, numbers, strict=True)])
        np.testing.assert_array_equal(np.concatenate([frames for frames, *_ in augmented]), expected)

    def test_a_damaged_frame_is_replaced_by_frames_of_its_clip(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=4)
        truncate(tracklets[0].frames[0])
        Path(tracklets[3].frames[2]).write_bytes(b"")
        Path(tracklets[4].frames[1]).unlink()
        Path(tracklets[4].frames[3]).unlink()
        pipeline = training(tracklets)
        times_by_tracklet = {}
        for frames, _, labels in take(pipeline, 2):
            times = sources(frames)[2].tolist()
            times_by_tracklet.update(zip(shown(labels["logits"], frames), times, strict=True))
        # Clips of four from four frames: the readable ones, spread evenly.
        assert times_by_tracklet.pop((0, 0)) == [1, 1, 2, 3]
        assert times_by_tracklet.pop((1, 1)) == [0, 0, 1, 3]
        assert times_by_tracklet.pop((2, 0)) == [0, 0, 2, 2]
        assert set(map(tuple, times_by_tracklet.values())) == {(0, 1, 2, 3)}
        lost = [tracklets[0].frames[0], tracklets[3].frames[2], tracklets[4].frames[1], tracklets[4].frames[3]]
        assert set(pipeline.damage.counts) == set(lost)
        assert pipeline.damage.tracklets == ()
        assert "4 damaged frames" in pipeline.damage.report()

    def test_several_clips_of_adjacent_frames_are_repaired_one_by_one(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=8)
        truncate(tracklets[0].frames[2])
        pipeline = training(tracklets, clips="adjacent_clips", clip_length=3, num_frames=6, steps_per_epoch=3)
        rows, frames, _ = pipeline.plan(0)
        expected = (frames % 8).reshape(-1, 2, 3)
        assert (np.diff(expected, axis=2) == 1).all()
        assert (expected[:, 0, 2] < 4).all()
        assert (expected[:, 1, 0] >= 4).all()
        assert 0 in rows
        # Frame 2 is in the first clip of three, whichever of the first four frames it has.
        for row in np.flatnonzero(rows == 0):
            expected[row, 0] = expected[row, 0][expected[row, 0] != 2][[0, 0, 1]]
        times = np.concatenate([sources(frames)[2] for frames, _, _ in take(pipeline, 3)])
        np.testing.assert_array_equal(times, expected.reshape(-1, 6))

    def test_a_person_without_readable_frames_is_replaced_with_its_label(self, make_tracklets):
        tracklets = make_tracklets()
        for path in tracklets[2].frames + tracklets[3].frames:
            Path(path).unlink()
        batches = take(training(tracklets), 2)
        clips = [clip for frames, _, labels in batches for clip in shown(labels["logits"], frames)]
        assert len(clips) == 8
        assert 1 not in {person for person, _ in clips}

    def test_too_much_damage_stops_the_run_and_is_listed(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=4)
        for tracklet in tracklets[:2]:
            truncate(tracklet.frames[1])
        # 2 of the 32 frames of an epoch.
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)2 of 32 frames.*0/0/1\.jpg.*Received: max_dam"):
            take(training(tracklets, max_damaged=1.9 / 32), 4)

    def test_distinct_frames_count_once_over_epochs_and_passes(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=4)
        truncate(tracklets[0].frames[1])
        pipeline = training(tracklets, max_damaged=1 / 32)
        take(pipeline, 8)
        take(pipeline, 2)
        assert pipeline.damage.tried == 32
        assert pipeline.damage.counts.keys() == {tracklets[0].frames[1]}
        assert pipeline.damage.counts[tracklets[0].frames[1]] >= 5

    def test_damage_changes_neither_other_clips_nor_the_order(self, make_tracklets, truncate):
        tracklets = make_tracklets(frames=4)
        before = take(training(tracklets, parallelism=4), 4)
        truncate(tracklets[5].frames[0])
        after = take(training(tracklets, parallelism=4), 4)
        for (frames, _, labels), (frames2, _, labels2) in zip(before, after, strict=True):
            np.testing.assert_array_equal(labels["logits"], labels2["logits"])
            for clip, other, name in zip(frames, frames2, shown(labels["logits"], frames), strict=True):
                assert np.array_equal(clip, other) == (name != (2, 1))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(clips="all"), "Received: clips='all'"),
            (dict(sampler="cameras"), "'persons', 'sequences', 'frames'. Received: sampler='cameras'"),
            (dict(sampler="frames", batch_size=2), "num_frames=1`. Received: num_frames=4"),
            (dict(sampler="sequences"), "'sequences' needs `batch_size`. Received: batch_size=None"),
            (dict(persons_per_batch=None), "'persons' needs `persons_per_batch`"),
            (dict(sampler="sequences", batch_size=9), "There are 8 items"),
            (dict(num_frames=0), "Received: num_frames=0"),
            (dict(clips="adjacent_clips", clip_length=3), "num_frames=4, clip_length=3"),
            (dict(steps_per_epoch=0), "Received: steps_per_epoch=0"),
            (dict(shard=(2, 2)), r"Received: shard=\(2, 2\)"),
            (dict(shard=2), "Received: shard=2"),
            (dict(targets="logits"), "Received: targets='logits'"),
            (dict(image_size=(24, 0)), r"Received: image_size=\(24, 0\)"),
            (dict(max_damaged=2), "Received: max_damaged=2"),
            (dict(persons_per_batch=5), "There are 4 persons"),
        ],
    )
    def test_settings_are_checked(self, make_tracklets, changes, message):
        with pytest.raises(ValueError, match=message):
            training(make_tracklets(frames=1), **changes)

    def test_tracklets_are_checked(self, make_tracklets):
        junk = [type(tracklet)(tracklet.id, 0, 1, tracklet.frames) for tracklet in make_tracklets(frames=1)]
        with pytest.raises(ValueError, match=r"leave out distractors and junk, .* Received: 8 tracklets"):
            training(junk)
        with pytest.raises(ValueError, match="at least one tracklet"):
            training([])
        with pytest.raises(ValueError, match="Received: first_epoch=-1"):
            training(make_tracklets(frames=1)).dataset(first_epoch=-1)
        for step in (-1, 2):
            with pytest.raises(ValueError, match=f"below the 2 steps of an epoch. Received: first_step={step}"):
                training(make_tracklets(frames=1), steps_per_epoch=2).dataset(first_step=step)


@pytest.mark.slow
def test_decoders_warn_neither_in_training_nor_in_embedding(make_tracklets, tmp_path):
    """Read the standard error of another process, because the decoders bypass Python's stream."""
    tracklets = make_tracklets(persons=2, frames=4)
    for tracklet in tracklets:
        path = Path(tracklet.frames[0])
        path.write_bytes(path.read_bytes()[:-40])
    code = (
        "import pickle, sys\n"
        "from kreid.data import EvaluationPipeline, TrainingPipeline\n"
        "tracklets = pickle.load(open(sys.argv[1], 'rb'))\n"
        "settings = dict(num_frames=4, persons_per_batch=2, tracklets_per_person=2, steps_per_epoch=3)\n"
        "for pipeline in (\n"
        "    TrainingPipeline(tracklets, image_size=(24, 12), max_damaged=1.0, **settings),\n"
        "    EvaluationPipeline(tracklets, (24, 12), max_damaged=1.0),\n"
        "):\n"
        "    with pipeline.damage.plainly():\n"
        "        for _ in pipeline.dataset().take(3):\n"
        "            pass\n"
        "    print(len(pipeline.damage.counts))\n"
    )
    (tmp_path / "tracklets.pickle").write_bytes(pickle.dumps(tracklets))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", code, str(tmp_path / "tracklets.pickle")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.stdout == "4\n4\n", ran.stderr
    assert "JPEG" not in ran.stderr
