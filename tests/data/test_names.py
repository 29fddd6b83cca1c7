import pytest

from kreid.data.names import (
    FrameName,
    name_key,
    naming_remarks,
    natural,
    number_cameras,
    number_persons,
    parse_frame_name,
    person_key,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", FrameName("Market-1501", "0002", 1)),
        ("-1_c3s2_1_00.jpg", FrameName("Market-1501", "-1", 3)),
        ("12_c11_f1.png", FrameName("Market-1501", "12", 11)),
        ("0065C1T0002F016.jpg", FrameName("MARS", "0065", 1)),
        ("00-1C1T0001F001.jpg", FrameName("MARS", "00-1", 1)),
        ("0001_C6_F0099_X30823.jpg", FrameName("DukeMTMC-VideoReID", "0001", 6)),
        ("0001C6F0099D30823.JPG", FrameName("DukeMTMC-VideoReID", "0001", 6)),
        ("000001.jpg", None),
        ("anna_c1.jpg", None),
        ("cam1_person001_00317.png", None),
    ],
)
def test_person_and_camera_in_the_name_of_a_frame(name, expected):
    assert parse_frame_name(name) == expected


@pytest.mark.parametrize(
    ("name", "key"),
    [("7", 7), ("0007", 7), ("-1", -1), ("00-1", -1), ("0-1", "0-1"), ("0000", 0), ("1.5", "1.5"), ("p7", "p7")],
)
def test_numbers_are_compared_as_numbers(name, key):
    assert name_key(name) == key


def test_words_for_persons_without_identity():
    assert [person_key(name) for name in ("distractor", "0000", "junk", "00-1", "Junk")] == [0, 0, -1, -1, "Junk"]


def test_cameras_have_no_reserved_numbers():
    assert sorted(number_cameras(["0", "-1"])[0].values()) == [1, 2]
    numbers, names = number_cameras(["c10", "c2", "0", "00"])
    assert numbers == {"0": 1, "00": 1, "c2": 2, "c10": 3}
    assert names == {1: "0", 2: "c2", 3: "c10"}


def test_persons_are_numbered_from_1_without_gaps():
    numbers, names = number_persons(["12", "0000", "7", "07", "junk", "b"])
    assert numbers == {"0000": 0, "7": 1, "07": 1, "12": 2, "b": 3, "junk": -1}
    assert names == {1: "7", 2: "12", 3: "b"}


def test_remarks():
    assert naming_remarks(["7", "8", "p1"], ["c1", "c2"]) == ()
    assert naming_remarks(["distractor", "0000"], []) == ("one person under several names: 0000 = distractor",)


def test_natural_order():
    assert sorted(["10", "2", "a10", "a9", "a09"], key=natural) == ["2", "10", "a09", "a9", "a10"]
