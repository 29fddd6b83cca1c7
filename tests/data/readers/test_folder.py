from pathlib import Path

import pytest

from kreid.data.readers import image_files, read_folder, read_tracklet_folders


@pytest.fixture
def root(tmp_path, write_frame):
    for name in (
        "train/anna/hall/2.jpg",
        "train/anna/hall/10.jpg",
        "train/anna/door/1.PNG",
        "train/p10/hall/a/1.jpg",
        "train/p10/hall/b/1.jpg",
        "query/p9/hall/1.jpeg",
        "gallery/p9/door/1.jpg",
        "gallery/distractor/door/1.jpg",
        "gallery/junk/hall/1.jpg",
    ):
        write_frame(tmp_path / name)
    (tmp_path / "train/anna/hall/notes.txt").write_text("not a frame")
    (tmp_path / "train/anna/hall/.hidden.jpg").write_text("not a frame")
    return tmp_path


def by_id(tracklets):
    return {tracklet.id: (tracklet.person, tracklet.camera, len(tracklet)) for tracklet in tracklets}


def test_persons_cameras_and_tracklets(root):
    dataset = read_folder(root)
    # Natural order: anna, p9, p10; door, hall.
    assert dataset.person_names == {1: "anna", 2: "p9", 3: "p10"}
    assert dataset.camera_names == {1: "door", 2: "hall"}
    assert by_id(dataset.train) == {
        "train/anna/door": (1, 1, 1),
        "train/anna/hall": (1, 2, 2),
        "train/p10/hall/a": (3, 2, 1),
        "train/p10/hall/b": (3, 2, 1),
    }
    assert by_id(dataset.queries) == {"query/p9/hall": (2, 2, 1)}
    assert by_id(dataset.gallery()) == {"gallery/p9/door": (2, 1, 1), "gallery/distractor/door": (0, 1, 1)}
    assert by_id(dataset.gallery(junk=True))["gallery/junk/hall"] == (-1, 2, 1)
    assert dataset.missing == ()


def test_frames_are_absolute_and_in_natural_order(root):
    hall = next(tracklet for tracklet in read_folder(root).train if tracklet.id == "train/anna/hall")
    assert hall.frames == (str(root / "train/anna/hall/2.jpg"), str(root / "train/anna/hall/10.jpg"))
    assert all(Path(path).is_absolute() for path in hall.frames)


def test_query_and_gallery_are_optional(tmp_path, write_frame):
    write_frame(tmp_path / "train/1/1/1.jpg")
    dataset = read_folder(tmp_path)
    assert len(dataset.train) == 1
    assert dataset.test == dataset.query_rows == ()


def test_an_empty_camera_folder_is_named(root):
    (root / "train/anna/yard").mkdir()
    assert read_folder(root).empty == ("train/anna/yard",)


def test_no_train_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no `train` folder\. Received: root="):
        read_folder(tmp_path)


def test_a_split_without_images(tmp_path):
    (tmp_path / "train/1/1").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="No image was found"):
        read_folder(tmp_path)


def test_images_beside_folders(root, write_frame):
    write_frame(root / "train/p10/hall/1.jpg")
    with pytest.raises(ValueError, match="not both"):
        read_folder(root)


def test_one_split_by_the_names_of_its_folders(root, monkeypatch):
    (root / "train/anna/yard").mkdir()
    monkeypatch.chdir(root)
    found = read_tracklet_folders("train")
    assert [(entry.name, entry.person, entry.camera, entry.frames) for entry in found] == [
        ("anna/door", "anna", "door", ("train/anna/door/1.PNG",)),
        ("anna/hall", "anna", "hall", ("train/anna/hall/2.jpg", "train/anna/hall/10.jpg")),
        ("anna/yard", "anna", "yard", ()),
        ("p10/hall/a", "p10", "hall", ("train/p10/hall/a/1.jpg",)),
        ("p10/hall/b", "p10", "hall", ("train/p10/hall/b/1.jpg",)),
    ]
    assert image_files("train/anna/hall") == found[1].frames
