import subprocess
import sys

import pytest

from kreid.data.tracklet import DISTRACTOR, JUNK, ReidDataset, Tracklet


def dataset(**changes):
    test = tuple(
        Tracklet(f"t{row}", person, 1, ("a", "b")) for row, person in enumerate([JUNK, DISTRACTOR, 5, 5, 6, 6])
    )
    settings = dict(name="toy", train=(Tracklet("x", 1, 1, ("c",)),), test=test, query_rows=(2, 4))
    return ReidDataset(**{**settings, **changes})


def test_importing_the_package_imports_neither_tensorflow_nor_keras():
    check = (
        "import sys, kreid.data as d; d.Tracklet; d.read_folder; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    ("convention", "junk", "expected"),
    [
        ("without_queries", False, ["t1", "t3", "t5"]),
        ("without_queries", True, ["t0", "t1", "t3", "t5"]),
        ("with_queries", False, ["t1", "t2", "t3", "t4", "t5"]),
        ("with_queries", True, ["t0", "t1", "t2", "t3", "t4", "t5"]),
    ],
)
def test_gallery_conventions(convention, junk, expected):
    assert [tracklet.id for tracklet in dataset().gallery(convention, junk)] == expected


def test_queries_come_in_the_order_of_their_rows():
    assert [tracklet.id for tracklet in dataset(query_rows=(4, 2)).queries] == ["t4", "t2"]


def test_unknown_convention_and_query_row_outside():
    with pytest.raises(ValueError, match="Received: convention='all'"):
        dataset().gallery("all")
    with pytest.raises(ValueError, match=r"6 test tracklets. Received: query_rows=\[6\]"):
        dataset(query_rows=(2, 6))


def test_summary_counts_and_names_what_is_missing():
    missing = tuple(f"bbox_train/0001/{number}.jpg" for number in range(5))
    lines = dataset(missing=missing, empty=("t9",)).summary().splitlines()
    assert lines[1].split() == ["train", "1", "1", "1", "1"]
    assert lines[2].split() == ["query", "2", "1", "2", "4"]
    assert lines[3].split() == ["gallery", "2", "1", "3", "6"]
    assert lines[4].split() == ["junk", "0", "1", "1", "2"]
    assert "missing in bbox_train: 5 frames, such as bbox_train/0001/0.jpg" in lines[6]
    assert lines[7] == "1 tracklets skipped, because none of their frames exists, such as t9"


def test_summary_compares_with_the_published_counts():
    counts = {"train persons": 1, "test tracklets": 6, "distractors": 1, "junk": 1, "cameras": 1, "frames": 13}
    assert dataset().counts().items() >= counts.items()
    assert dataset(published=counts).summary().splitlines()[-1] == "as published"
    other = dataset(published={**counts, "train persons": 2, "frames": 12}).summary()
    assert (
        other.splitlines()[-1]
        == "differs from the published counts: 1 train persons instead of 2, 13 frames instead of 12"
    )
    assert "published" not in dataset().summary()


def test_a_validation_set_is_counted_and_shown():
    validation = ReidDataset("other", (), (Tracklet("v", 9, 3, ("e",)),), (0,))
    counted = dataset(validation=validation)
    assert (counted.counts()["validation persons"], counted.counts()["cameras"]) == (1, 2)
    assert ["validation", "1", "1", "1", "1"] in [line.split() for line in counted.summary().splitlines()]
