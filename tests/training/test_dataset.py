"""The check before training: data sets that can be scored pass, others are refused."""

import pytest

from kreid.data import ReidDataset, Tracklet
from kreid.training import check_scorable

TRAIN = (Tracklet("train", 9, 1, ("a.jpg",) * 96),)


def dataset(test=((1, 1), (1, 2)), queries=(0,), **kwargs):
    """Test tracklets by person and camera."""
    tracklets = tuple(Tracklet(f"{row}", person, camera, ("b.jpg",)) for row, (person, camera) in enumerate(test))
    return ReidDataset("own", TRAIN, tracklets, tuple(queries), **kwargs)


def test_one_query_with_a_match_is_enough():
    check_scorable(None)
    check_scorable(dataset())
    check_scorable(dataset(test=((1, 1), (1, 2), (2, 1), (3, 1)), queries=(0, 2, 3)))
    check_scorable(dataset(test=(), queries=()))


@pytest.mark.parametrize(
    ("test", "queries", "complaint"),
    [
        (((1, 1), (1, 1)), (0,), "No query of own has its person in the gallery in another camera.*1 queries, 1 cam"),
        (((1, 1), (2, 2)), (0,), "No query of own"),
        # With the queries in the gallery these two find each other, without them neither does.
        (((1, 1), (1, 2)), (0, 1), "No query of own"),
        (((1, 1), (1, 2)), (), "test tracklets but no query.*Received: 2 test tracklets, 0 queries"),
    ],
)
def test_nothing_to_score(test, queries, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_scorable(dataset(test, queries))


def test_missing_frames():
    some = tuple(f"{number}.jpg" for number in range(5))
    check_scorable(dataset(missing=some))
    more = (*some, "5.jpg")
    with pytest.raises(ValueError, match=r"6 of the 104 frames .* missing, such as 0\.jpg.*: max_damaged=0\.05"):
        check_scorable(dataset(missing=more))
    check_scorable(dataset(missing=more), max_damaged=0.1)
