"""Recognise the layout of a folder, for trees written by the readers' tests."""

import json

import pytest
import test_duke_video
import test_ilids_vid
import test_ls_vid
import test_mars

from kreid.data.readers import LAYOUTS, layout_of, read_dataset


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def mars(root):
    for split, names in test_mars.write_index(root / "info").items():
        touch(root, *(f"bbox_{split}/{name[:4]}/{name}" for name in names))


def prid2011(root):
    for camera in ("cam_a", "cam_b"):
        for person in range(1, 7):
            touch(root, *(f"multi_shot/{camera}/person_{person:04d}/{frame:04d}.png" for frame in range(person + 24)))


MAKE = {
    "mars": mars,
    "prid2011": prid2011,
    "ilids_vid": test_ilids_vid.make_tree,
    "ls_vid": test_ls_vid.make_tree,
    "duke_video": lambda root: test_duke_video.make_tree(root, test_duke_video.NEW),
    "folder": lambda root: touch(root, "train/1/1/a.jpg", "train/2/1/b.jpg", "query/3/1/c.jpg"),
    "images": lambda root: touch(root, "0002_c1s1_000451_03.jpg", "0003_c1s1_000451_03.jpg"),
}


@pytest.mark.parametrize("layout", MAKE)
def test_every_layout_is_recognised_and_read(tmp_path, layout):
    MAKE[layout](tmp_path)
    assert layout_of(tmp_path) == layout
    dataset = read_dataset(tmp_path)
    assert dataset == LAYOUTS[layout].read(tmp_path)
    assert dataset.train


def test_there_is_a_tree_for_every_layout():
    assert list(MAKE) == list(LAYOUTS)


def test_folders_of_persons_are_images(tmp_path):
    touch(tmp_path, "anna/1.jpg", "ben/2.jpg")
    assert layout_of(tmp_path) == "images"


@pytest.mark.parametrize("layout", [name for name in MAKE if name != "images"])
def test_every_layout_is_found_a_level_below(tmp_path, layout):
    MAKE[layout](tmp_path / "data/set")
    assert layout_of(tmp_path) == layout
    dataset, expected = read_dataset(tmp_path), read_dataset(tmp_path / "data/set")
    assert (dataset.train, dataset.test, dataset.query_rows) == (expected.train, expected.test, expected.query_rows)


def test_the_root_of_market_is_not_a_folder_of_persons(tmp_path):
    touch(tmp_path, "bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0003_c1s1_000451_03.jpg")
    assert layout_of(tmp_path) == "images"
    with pytest.raises(ValueError, match="bounding_box_train"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_a_set_without_train_is_a_folder_of_splits(tmp_path, split):
    touch(tmp_path, f"{split}/1/1/a.jpg")
    assert layout_of(tmp_path) == "folder"
    assert len(read_dataset(tmp_path).test) == 1


def test_a_split_and_the_persons_go_to_those_who_have_them(tmp_path):
    prid2011(tmp_path)
    assert len(read_dataset(tmp_path).train + read_dataset(tmp_path).test) == 8  # four persons have 27 frames
    everybody = read_dataset(tmp_path, split=2, persons=200)
    assert (len(everybody.train + everybody.test), everybody.split[:4]) == (12, "2 of")
    images = touch(tmp_path / "images", "0002_c1s1_1_03.jpg")
    assert read_dataset(images, split=2, persons=200) == read_dataset(images)


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder is missing\. Received: root="):
        layout_of(tmp_path / "gone")
    (tmp_path / "notes.json").write_text(json.dumps([]))
    with pytest.raises(FileNotFoundError) as refused:
        read_dataset(tmp_path)
    for layout in LAYOUTS.values():
        assert layout.title in str(refused.value)
    assert str(refused.value).endswith(f"Received: root={str(tmp_path)!r}")
    assert len(str(refused.value).splitlines()) == 1
