import json

import pytest

from kreid.data.readers.person_splits import check_number, drawn_split, find_split_file, listed_split, published_split


def test_drawn_splits_are_the_same_everywhere():
    names = [f"person{number:03}" for number in range(8)]
    split = drawn_split(reversed(names), 3)
    assert split == drawn_split(names, 3)
    assert split.test == ("person004", "person005", "person006", "person007")
    assert sorted(split.train + split.test) == names
    with pytest.raises(ValueError, match=r"two persons to train on and two to test on\. Received: persons="):
        drawn_split(names[:3], 1)


@pytest.mark.parametrize("number", [0, 11, True, 1.0])
def test_numbers_of_splits(number):
    with pytest.raises(ValueError, match="from 1 to 10"):
        check_number(number)


def test_known_names_come_before_others(tmp_path):
    (tmp_path / "other_split.json").touch()
    assert find_split_file([None, tmp_path, tmp_path], ["known.json"]) == tmp_path / "other_split.json"
    (tmp_path / "Known.json").touch()
    assert find_split_file([tmp_path], ["known.json"]) == tmp_path / "Known.json"
    assert find_split_file([tmp_path / "absent"], ["known.json"]) is None


def test_the_form_of_a_file_decides(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps([{"train": ["c", "a"], "test": ["b"]}] * 10))
    assert published_split(path, 2, []) == listed_split(path, 2) == (("a", "c"), ("b",), "2 of split.json")
    path.write_text(json.dumps({"ls_set": [[4, 2, 1, 3]] * 10, "person_dirs": list("abcd")}))
    assert published_split(path, 2, []) == (("a", "c"), ("b", "d"), "2 of split.json")
