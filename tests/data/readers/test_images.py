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
    entries = rows(dataset)
    assert (entries["0/2/a.jpg"], entries["0/2/b.png"], entries["0/10/a.jpg"]) == ((1, 1), (1, 1), (2, 1))
    assert entries["1/market/0007_c1_9.jpg"] == (4, 2)
    assert entries["2/2/a.jpg"] == (5, 4)
    assert len(entries) == len(dataset.train) == 9


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


@pytest.mark.parametrize("folder", ["bounding_box_train", "Bounding_Box_Train"])
def test_the_root_of_market_is_refused_with_the_folder_to_give(tmp_path, write_frame, folder):
    for part in (folder, "query", "gt_bbox"):
        for person in (1, 2):
            write_frame(tmp_path / part / f"{person:04}_c1s1_000451_01.jpg")
    with pytest.raises(ValueError, match=rf"root of Market-1501 .* give '.*/{folder}'\. Received: root="):
        read_images(tmp_path)
    assert read_images(tmp_path / folder).person_names == {1: "0001", 2: "0002"}


def test_other_folders_whose_images_are_of_several_persons(tmp_path, write_frame):
    for name in ("morning/0001_c1s1_1.jpg", "morning/0002_c1s1_1.jpg", "evening/0001_c1s1_2.jpg"):
        write_frame(tmp_path / name)
    with pytest.raises(ValueError, match=r"The images in morning/ are of other persons .*one folder per person"):
        read_images(tmp_path)


def test_the_image_of_another_person_is_named(tmp_path, write_frame):
    for name in ("5/4_c1_1.jpg", "5/5_c1_1.jpg"):
        write_frame(tmp_path / name)
    with pytest.raises(ValueError, match=r"images in 5/ are of other persons by their names, such as 4_c1_1\.jpg"):
        read_images(tmp_path)


def test_folders_of_persons_take_cameras_from_names_that_say_them(tmp_path, write_frame):
    for name in ("0001/0001C1T0001F001.jpg", "0001/0001C3T0001F001.jpg", "0002/0002C3T0001F001.jpg"):
        write_frame(tmp_path / name)
    assert [(tracklet.person, tracklet.camera) for tracklet in read_images(tmp_path).train] == [(1, 1), (1, 2), (2, 2)]


def test_names_of_persons_are_compared_as_numbers(tmp_path, write_frame):
    for name in ("7/a.jpg", "0007/b.jpg", "8/a.jpg", "-1/a.jpg", "0000/a.jpg", "junk/a.jpg"):
        write_frame(tmp_path / "own" / name)
    dataset = read_images(tmp_path / "own")
    assert dataset.person_names == {1: "7", 2: "8"}
    assert [tracklet.person for tracklet in dataset.train] == [1, 1, 2]
    assert "distractors and junk left out of own: -1, 0000, junk" in dataset.summary()


def test_only_junk_is_refused(tmp_path, write_frame):
    write_frame(tmp_path / "-1_c1s1_1_00.jpg")
    with pytest.raises(FileNotFoundError, match=r"All images are of distractors or junk\. Received: root="):
        read_images(tmp_path)


def test_files_that_are_not_read_are_named(persons, write_frame):
    write_frame(persons / "2/c.webp")
    write_frame(persons / "@eaDir/c.jpg")
    dataset = read_images(persons)
    assert dataset.skipped_files == ("own/2/c.webp",)
    assert dataset.person_names == {1: "2", 2: "10"}
