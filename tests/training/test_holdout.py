"""Held-out persons: their choice, their queries, and the error if there are too few."""

import numpy as np
import pytest

from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.training import Config, check_scorable, fit_on_holdout, hold_out, split_holdout, train_and_holdout


def walks(persons=20, cameras=(1, 2, 3), each=2):
    return [
        Tracklet(f"{person}c{camera}t{number}", person, camera, ("a.jpg",))
        for person in range(1, persons + 1)
        for camera in cameras
        for number in range(each)
    ]


def test_every_tracklet_is_trained_on_or_held_out():
    tracklets = walks()
    train, holdout = split_holdout(tracklets, 0.25)
    assert not {t.person for t in train} & {t.person for t in holdout.test}
    assert len({t.person for t in holdout.test}) == 5
    assert sorted(t.id for t in [*train, *holdout.test]) == sorted(t.id for t in tracklets)
    # Order is kept, so that the train set depends on the choice alone.
    assert [t for t in tracklets if t in train] == list(train)
    assert holdout.train == ()


def test_one_query_per_person_and_camera_the_first():
    # Shuffled, with some persons in one camera twice over.
    tracklets = [walks()[i] for i in np.random.default_rng(0).permutation(len(walks()))]
    _, holdout = split_holdout(tracklets, 0.3)
    expected = []
    for row, tracklet in enumerate(holdout.test):
        before = holdout.test[:row]
        if not any((t.person, t.camera) == (tracklet.person, tracklet.camera) for t in before):
            expected.append(row)
    assert list(holdout.query_rows) == expected
    assert len(expected) == 6 * 3
    # Every query has a match in another camera of the gallery.
    for query in holdout.queries:
        assert any(t.person == query.person and t.camera != query.camera for t in holdout.gallery())


def test_a_person_with_one_tracklet_in_each_camera_has_one_of_the_last_in_the_gallery():
    mixed = walks(10) + [Tracklet(f"{p}c{c}", p, c, ("a.jpg",)) for p in range(11, 21) for c in (3, 1)]
    _, holdout = split_holdout(mixed, 0.6)
    check_scorable(holdout)
    single = [t for t in holdout.test if t.person > 10]
    assert single and {(t.id in {q.id for q in holdout.queries}, t.camera) for t in single} == {(True, 1), (False, 3)}
    assert len(holdout.queries) == len(single) // 2 + 3 * (12 - len(single) // 2)
    for query in holdout.queries:
        assert any(t.person == query.person and t.camera != query.camera for t in holdout.gallery())


def test_the_seed_decides_alone():
    tracklets = walks(40)
    assert split_holdout(tracklets, 0.2, seed=3) == split_holdout(tracklets, 0.2, seed=3)
    held = {frozenset(t.person for t in split_holdout(tracklets, 0.2, seed)[1].test) for seed in range(5)}
    assert len(held) == 5
    # The held-out persons do not depend on the order of the tracklets.
    backwards = split_holdout(tracklets[::-1], 0.2, seed=3)[1]
    assert {t.person for t in backwards.test} == {t.person for t in split_holdout(tracklets, 0.2, seed=3)[1].test}


def test_persons_of_one_camera_are_trained_on():
    tracklets = walks(4) + [Tracklet(f"alone{p}", p, 1, ("a.jpg",)) for p in range(50, 60)]
    for seed in range(10):
        _, holdout = split_holdout(tracklets, 0.2, seed)
        assert {t.person for t in holdout.test} <= {1, 2, 3, 4}


def test_at_least_two_persons_are_held_out():
    _, holdout = split_holdout(walks(10), 0.01)
    assert len({t.person for t in holdout.test}) == 2


def test_none_are_held_out():
    tracklets = walks(3)
    assert split_holdout(tracklets, 0) == (tuple(tracklets), None)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_shares_out_of_range(share):
    with pytest.raises(ValueError, match=r"\[0, 1\). Received: holdout="):
        split_holdout(walks(), share)


@pytest.mark.parametrize(
    ("tracklets", "share"),
    [(walks(3), 0.1), (walks(10), 0.95), (walks(10, cameras=(1,)), 0.2), ([], 0.1)],
)
def test_too_few_persons(tracklets, share):
    with pytest.raises(ValueError, match=rf"lower holdout, or choose and fit nothing: .*Received: holdout={share}"):
        split_holdout(tracklets, share)


def test_a_validation_set_stands_in_for_held_out_persons():
    validation = ReidDataset("validation", (), tuple(walks(2)), (0, 2))
    dataset = ReidDataset("all", tuple(walks()), (), (), validation=validation)
    assert train_and_holdout(dataset, 0.25) == (dataset.train, validation)
    assert train_and_holdout(dataset, 0) == (dataset.train, None)
    without = ReidDataset("all", tuple(walks()), (), ())
    assert train_and_holdout(without, 0.25, seed=3) == split_holdout(walks(), 0.25, seed=3)


class TestPurposes:
    DATASET = ReidDataset("all", tuple(walks(60)), (), ())

    @pytest.mark.parametrize("settings", [{}, {"holdout": 0.0}])
    def test_no_one_is_held_out_for_nothing(self, settings):
        train, holdout, line = hold_out(self.DATASET, Config("sta", **settings))
        assert (train, holdout) == (self.DATASET.train, None)
        assert line == "No train person is held out: nothing is chosen or fitted on held-out persons."

    @pytest.mark.parametrize(
        ("settings", "purpose"),
        [
            ({"select": "best"}, "To choose the checkpoint,"),
            ({"early_stopping": 3}, "To stop training early,"),
            ({"false_match_rate": 0.01}, "To fit the verification threshold,"),
            ({"select": "best", "early_stopping": 3}, "To choose the checkpoint and stop training early,"),
        ],
    )
    def test_the_line_names_persons_and_purpose(self, settings, purpose):
        train, holdout, line = hold_out(self.DATASET, Config("sta", holdout=0.2, seed=5, **settings))
        assert (train, holdout) == split_holdout(self.DATASET.train, 0.2, 5)
        persons = sorted({tracklet.person for tracklet in holdout.test})
        named = ", ".join(map(str, persons[:10]))
        assert line == f"{purpose} 12 of 60 train persons are held out: {named} and 2 more."

    def test_a_validation_set_is_watched_anyway(self):
        validation = ReidDataset("validation", (), tuple(walks(2)), (0, 2))
        dataset = ReidDataset("all", tuple(walks()), (), (), validation=validation)
        watched = hold_out(dataset, Config("sta"))
        assert watched[:2] == (dataset.train, validation)
        assert watched[2] == "To watch training, the 2 persons of the validation set are evaluated."
        assert hold_out(dataset, Config("sta", select="best"))[2].startswith("To choose the checkpoint, the 2 persons")
        assert hold_out(dataset, Config("sta", holdout=0.0))[1] is None

    def test_a_threshold_is_asked_for(self):
        fitted, words = fit_on_holdout(None, split_holdout(walks(), 0.2)[1], None)
        assert fitted is None
        assert words.startswith("No verification threshold is fitted; set false_match_rate")
