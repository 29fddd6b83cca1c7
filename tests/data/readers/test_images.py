import re

import pytest

from kreid.data.readers import read_images


@pytest.fixture
def market(tmp_path, write_frame):
    for name in (
        "0002_c1s1_000451_03.jpg",
        "0002_c3s1_1_00.jpg",
        "0007_c1_9.jpg",
        "-1_c1s1_1_00.jpg",
        "0000_c2s1_1_00.jpg",
    ):
        write_frame(tmp_path / "market" / name)
    return tmp_path / "market"


@pytest.fixture
def persons(tmp_path, write_frame):
    for name in ("10/a.jpg", "2/b.png", "2/a.jpg"):
        write_frame(tmp_path / "own" / name)
    return tmp_path / "own"


def rows(dataset):
    return {tracklet.id: (tracklet.person, tracklet.camera) for tracklet in dataset.train}


def test_market_names_without_junk_and_distractors(market):
    dataset = read_images(market)
    assert rows(dataset) == {
        "0/market/0002_c1s1_000451_03.jpg": (1, 1),
        "0/market/0002_c3s1_1_00.jpg": (1, 2),
        "0/market/0007_c1_9.jpg": (2, 1),
    }
    assert dataset.person_names == {1: "0002", 2: "0007"}
    assert all(tracklet.frames == (str(market / tracklet.id.split("/")[-1]),) for tracklet in dataset.train)
    assert dataset.test == dataset.query_rows == ()


def test_merged_folders_have_disjoint_persons_and_cameras(market, persons):
    dataset = read_images([persons, market, persons])
    assert dataset.name == "own+market+own"
    found = rows(dataset)
    assert (found["0/2/a.jpg"], found["0/2/b.png"], found["0/10/a.jpg"]) == ((1, 1), (1, 1), (2, 1))
    assert found["1/market/0007_c1_9.jpg"] == (4, 2)
    assert found["2/2/a.jpg"] == (5, 4)
    assert len(found) == len(dataset.train) == 9


def test_refusals(tmp_path, market, write_frame):
    with pytest.raises(ValueError, match=r"at least one folder.*roots=\[\]"):
        read_images([])
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "gone"))):
        read_images([market, tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty"):
        read_images(tmp_path / "empty")
    write_frame(market / "holiday.jpg")
    with pytest.raises(ValueError, match="holiday"):
        read_images(market)
