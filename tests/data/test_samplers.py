import numpy as np
import pytest

from kreid.data.samplers import PKSampler, ShuffledSampler

# Persons with 1, 2, 3, 5 and 8 tracklets.
COUNTS = {11: 1, 12: 2, 13: 3, 14: 5, 15: 8}
PERSONS = np.repeat(list(COUNTS), list(COUNTS.values()))


def test_every_batch_holds_p_persons_with_k_tracklets_each():
    for per_batch in (1, 2, 3, 5):
        for tracklets in (1, 2, 4, 8):
            batches = PKSampler(PERSONS, per_batch, tracklets).epoch(0)
            assert batches.shape == (-(-5 // per_batch), per_batch * tracklets)
            for batch in batches:
                persons = PERSONS[batch].reshape(per_batch, tracklets)
                assert (persons == persons[:, :1]).all()
                assert len(set(persons[:, 0].tolist())) == per_batch


def test_an_epoch_shows_each_identity_once_and_fills_the_last_batch():
    sampler = PKSampler(PERSONS, 2, 1)
    assert sampler.steps_per_epoch == 3
    for epoch in range(30):
        persons = PERSONS[sampler.epoch(epoch).ravel()]
        assert set(persons[:5].tolist()) == set(COUNTS)
        assert persons[5] != persons[4]


def test_tracklets_repeat_only_when_there_are_too_few():
    for epoch in range(10):
        for rows in PKSampler(PERSONS, 5, 4).epoch(epoch).reshape(5, 4):
            assert len(set(rows.tolist())) == min(4, COUNTS[PERSONS[rows[0]]])


def test_persons_with_fewer_tracklets_repeat_them_evenly():
    persons, cameras = np.repeat([1, 2, 3, 4], [2, 2, 2, 1]), np.array([1, 2, 1, 2, 1, 1, 1])
    sampler = PKSampler(persons, 4, 4, cameras_of_tracklets=cameras)
    for epoch in range(10):
        for rows in sampler.epoch(epoch).reshape(4, 4):
            own = np.flatnonzero(persons == persons[rows[0]])
            assert sorted(rows.tolist()) == sorted(own.tolist() * (4 // len(own)))
    assert PKSampler([1, 1, 2, 2], 2, 5).epoch(0).shape == (1, 10)


def test_epochs_depend_only_on_seed_and_number():
    first, again, other = (PKSampler(PERSONS, 3, 2, seed=seed) for seed in (5, 5, 6))
    first.epoch(0)
    np.testing.assert_array_equal(first.epoch(7), again.epoch(7))
    assert not np.array_equal(first.epoch(7), first.epoch(8))
    assert not np.array_equal(first.epoch(7), other.epoch(7))


def test_the_tracklets_of_a_person_come_from_different_cameras():
    persons = np.repeat([1, 2], 6)
    cameras = np.array([1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 5])
    sampler = PKSampler(persons, 2, 3, cameras_of_tracklets=cameras)
    drawn = set()
    for epoch in range(40):
        for rows in sampler.epoch(epoch).reshape(2, 3):
            expected = [1, 2, 3] if persons[rows[0]] == 1 else [4, 4, 5]
            assert sorted(cameras[rows].tolist()) == expected
            drawn.update(rows.tolist())
    assert drawn == set(range(12))


@pytest.mark.parametrize(
    ("persons", "per_batch", "tracklets", "message"),
    [
        (PERSONS, 6, 2, "There are 5 persons: lower `persons_per_batch`. Received: persons_per_batch=6"),
        ([1, 2, 3], 2, 2, "a single tracklet.*Received: tracklets_per_person=2"),
        (PERSONS, 0, 2, "at least 1. Received: persons_per_batch=0"),
        (PERSONS, 2, 0, "at least 1. .*tracklets_per_person=0"),
    ],
)
def test_p_and_k_are_checked_when_constructed(persons, per_batch, tracklets, message):
    with pytest.raises(ValueError, match=message):
        PKSampler(persons, per_batch, tracklets)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="Received: seed=-1"):
        PKSampler(PERSONS, 2, 2, seed=-1)
    with pytest.raises(ValueError, match=r"\(persons_of_tracklets\)=19, len\(cameras_of_tracklets\)=3"):
        PKSampler(PERSONS, 2, 2, cameras_of_tracklets=[1, 2, 3])


def test_single_tracklets_are_enough_for_one_per_person():
    assert sorted(PKSampler([1, 2, 3], 3, 1).epoch(0).ravel().tolist()) == [0, 1, 2]


@pytest.mark.parametrize(("items", "size"), [(12, 4), (13, 4), (13, 13), (5, 1), (7, 4)])
def test_a_shuffled_epoch_shows_each_item_once_and_fills_the_last_batch(items, size):
    sampler = ShuffledSampler(items, size)
    assert sampler.steps_per_epoch == -(-items // size)
    for epoch in range(10):
        batches = sampler.epoch(epoch)
        assert batches.shape == (sampler.steps_per_epoch, size)
        assert sorted(batches.ravel()[:items].tolist()) == list(range(items))
        assert all(len(set(batch.tolist())) == size for batch in batches)


def test_shuffled_epochs_depend_only_on_seed_and_number():
    first, again, other = (ShuffledSampler(20, 6, seed=seed) for seed in (5, 5, 6))
    first.epoch(0)
    np.testing.assert_array_equal(first.epoch(7), again.epoch(7))
    assert not np.array_equal(first.epoch(7), first.epoch(8))
    assert not np.array_equal(first.epoch(7), other.epoch(7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 5), "There are 4 items: lower `batch_size`. Received: batch_size=5"),
        ((4, 0), "at least 1. Received: batch_size=0"),
        ((4, 2, -1), "Received: seed=-1"),
    ],
)
def test_shuffled_batches_are_checked_when_constructed(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffledSampler(*arguments)
