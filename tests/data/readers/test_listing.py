from pathlib import Path

import pytest

from kreid.data.readers.listing import find_below, image_files, inside, list_folder, look_up, subfolders
from kreid.data.tracklet import Tracklet


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_in_natural_order_without_hidden_and_system_entries(tmp_path):
    touch(tmp_path, "10.jpg", "2.JPEG", "3.png", "4.webp", ".5.jpg", "Thumbs.db", "b10/x", "b9/x", "@eaDir/x", ".git/x")
    listing = list_folder(tmp_path)
    assert listing.images == tuple(f"{tmp_path}/{name}" for name in ("2.JPEG", "3.png", "10.jpg"))
    assert listing.others == (f"{tmp_path}/4.webp",)
    assert listing.folders == (tmp_path / "b9", tmp_path / "b10")
    assert (image_files(tmp_path), subfolders(tmp_path)) == (listing.images, listing.folders)


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ("train/a/1.jpg", "train"),
        ("TRAIN/a/1.jpg", "TRAIN"),
        ("train/train/a/1.jpg", "train/train"),
        ("Train/train/TRAIN/a/1.jpg", "Train/train/TRAIN"),
        ("test/a/1.jpg", None),
    ],
)
def test_a_folder_by_its_name(tmp_path, tree, place):
    touch(tmp_path, tree)
    assert inside(tmp_path, "train") == (tmp_path / place if place else None)


def test_the_exact_name_comes_first_and_two_others_are_none(tmp_path):
    touch(tmp_path, "train/x", "Train/x", "Query/x", "QUERY/x")
    assert inside(tmp_path, "train") == tmp_path / "train"
    assert inside(tmp_path, "query") is None


def test_a_person_of_the_folders_name_among_others_is_a_person(tmp_path):
    touch(tmp_path, "train/train/c/1.jpg", "train/anna/c/1.jpg")
    assert inside(tmp_path, "train") == tmp_path / "train"


def test_the_only_subfolder_that_holds_something(tmp_path):
    def find(folder: Path):
        return folder if (folder / "index").is_file() else None

    touch(tmp_path, "other/x", "data/set/index")
    assert find_below(tmp_path, find) == tmp_path / "data/set"
    assert find_below(tmp_path, find, levels=1) is None
    touch(tmp_path, "copy/index")
    with pytest.raises(FileNotFoundError, match=r"choose one of copy, data\. Received: root="):
        find_below(tmp_path, find)


def test_frames_by_letter_case_and_by_name_if_their_folder_is_missing(tmp_path):
    touch(tmp_path, "0001/a.JPG", "0001/b.jpg", "deep/0002/c.jpg", "0001/notes.txt")
    paths = [f"{tmp_path}/{name}" for name in ("0001/a.jpg", "0001/b.jpg", "0001/gone.jpg", "0002/c.jpg", "0002/d.jpg")]
    lost = look_up([Tracklet("t", 1, 1, tuple(paths))], tmp_path)
    assert lost.moved == {paths[0]: f"{tmp_path}/0001/a.JPG", paths[3]: f"{tmp_path}/deep/0002/c.jpg"}
    assert lost.missing == {paths[2], paths[4]}
    assert lost.others == (f"{tmp_path}/0001/notes.txt",)
