import shutil
import unicodedata
from pathlib import Path

import pytest

from kreid.data.readers import image_files, layout_of, read_folder, read_tracklet_folders


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


@pytest.mark.parametrize("missing", [["train"], ["train", "query"], ["query", "gallery"]])
def test_any_split_is_enough(root, missing):
    everything = read_folder(root)
    for split in missing:
        shutil.rmtree(root / split)
    dataset = read_folder(root)
    assert len(dataset.train) == ("train" not in missing) * len(everything.train)
    assert len(dataset.queries) == ("query" not in missing) * len(everything.queries)
    assert len(dataset.gallery()) == ("gallery" not in missing) * len(everything.gallery())


def test_no_split(tmp_path, write_frame):
    write_frame(tmp_path / "anna/hall/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"no folder `train`, .*/ holds anna\. Received: root="):
        read_folder(tmp_path)


def test_persons_with_numbers_are_compared_as_numbers(tmp_path, write_frame):
    for name in ("train/10/1/a.jpg", "train/p07/1/a.jpg", "train/p7/1/a.jpg", "query/7/1/a.jpg", "query/8/01/a.jpg"):
        write_frame(tmp_path / name)
    for person in ("0007", "008", "-1", "00-1", "0000", "0", "junk", "distractor"):
        write_frame(tmp_path / "gallery" / person / "2/a.jpg")
    dataset = read_folder(tmp_path)
    assert dataset.person_names == {1: "7", 2: "8", 3: "10", 4: "p7", 5: "p07"}
    assert dataset.camera_names == {1: "1", 2: "2"}
    assert by_id(dataset.queries) == {"query/7/1": (1, 1, 1), "query/8/01": (2, 1, 1)}
    persons = {tracklet.id.split("/")[1]: tracklet.person for tracklet in dataset.gallery(junk=True)}
    assert persons == {
        **{"0007": 1, "008": 2, "0": 0, "0000": 0, "distractor": 0},
        **{"-1": -1, "00-1": -1, "junk": -1},
    }
    lines = dataset.summary().splitlines()
    assert (
        "warning: one person under several names: 0 = 0000 = distractor, 00-1 = -1 = junk, 7 = 0007, 8 = 008" in lines
    )
    assert "warning: one camera under several names: 1 = 01" in lines
    assert "warning: different persons with names that differ only in zeros: p7, p07" in lines


def test_one_name_in_two_forms_of_unicode_is_one_person(tmp_path, write_frame):
    write_frame(tmp_path / "query" / unicodedata.normalize("NFD", "José") / "1/a.jpg")
    write_frame(tmp_path / "gallery" / unicodedata.normalize("NFC", "José") / "2/a.jpg")
    assert [tracklet.person for tracklet in read_folder(tmp_path).test] == [1, 1]


def test_a_person_in_train_and_in_test_is_named(root, write_frame):
    assert read_folder(root).persons_in_both == ()
    write_frame(root / "gallery/anna/door/1.jpg")
    dataset = read_folder(root)
    assert dataset.persons_in_both == (1,)
    assert "warning: 1 persons are both in train and in test, such as anna: scores on" in dataset.summary()


def test_distractors_and_junk_are_no_queries(root, write_frame):
    write_frame(root / "query/distractor/hall/1.jpg")
    write_frame(root / "query/-1/hall/1.jpg")
    dataset = read_folder(root)
    assert [tracklet.id for tracklet in dataset.queries] == ["query/p9/hall"]
    assert "2 tracklets in query are of distractors or junk" in dataset.summary()
    assert {"query/distractor/hall", "query/-1/hall"} <= {tracklet.id for tracklet in dataset.test}


def test_files_that_are_not_read_are_named(root, write_frame):
    write_frame(root / "train/anna/door/2.webp")
    write_frame(root / "train/anna/door/3.WEBP")
    write_frame(root / "gallery/p9/lost.jpg")
    write_frame(root / "lost.jpg")
    dataset = read_folder(root)
    assert dataset.skipped_files == (
        "train/anna/door/2.webp",
        "train/anna/door/3.WEBP",
        "train/anna/hall/notes.txt",
        "gallery/p9/lost.jpg",
    )
    assert "4 files are not read" in dataset.summary()
    assert "2 with .webp such as train/anna/door/2.webp" in dataset.summary()


def test_only_files_that_are_not_read(tmp_path, write_frame):
    write_frame(tmp_path / "train/anna/door/2.webp")
    with pytest.raises(FileNotFoundError, match=r"there are 1 other files, such as .*train/anna/door/2\.webp"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", ".thumbnails", "@Recycle", "lost+found"])
def test_folders_of_file_servers_are_skipped_at_every_level(root, write_frame, name):
    before = read_folder(root)
    for place in (".", "train", "train/anna", "train/anna/hall", "train/p10/hall/a"):
        write_frame(root / place / name / "1.jpg/thumbnail.jpg")
    write_frame(root / "train/anna/hall/Thumbs.db")
    assert read_folder(root) == before


@pytest.mark.parametrize("place", ["data", "my data/own", "train"])
def test_splits_a_level_or_two_below_the_root(root, tmp_path_factory, place):
    above = tmp_path_factory.mktemp("above")
    (above / place).parent.mkdir(parents=True, exist_ok=True)
    root.rename(above / place)
    dataset = read_folder(above)
    assert {tracklet.id for tracklet in dataset.queries} == {"query/p9/hall"}
    assert layout_of(above) == "folder"


def test_a_split_unpacked_a_level_too_deep_and_in_capitals(root):
    before = read_folder(root)
    (root / "train").rename(root / "unpacked")
    (root / "Train").mkdir()
    (root / "unpacked").rename(root / "Train/train")
    (root / "query").rename(root / "QUERY")
    dataset = read_folder(root)
    assert by_id(dataset.train) == by_id(before.train)
    assert by_id(dataset.test) == by_id(before.test)


def test_several_data_sets_below_the_root(root, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    root.rename(above / "one")
    shutil.copytree(above / "one", above / "two")
    with pytest.raises(FileNotFoundError, match=r"Several data sets are in this folder; choose one of one, two\."):
        read_folder(above)


@pytest.mark.parametrize(
    ("convention", "name"),
    [
        ("DukeMTMC-VideoReID", "{person:04}_C{camera}_F{frame:04}_X1.jpg"),
        ("MARS", "{person:04}C{camera}T0001F{frame:03}.jpg"),
        ("Market-1501", "{person:04}_c{camera}s1_{frame:06}_01.jpg"),
    ],
)
class TestNamesOfFrames:
    def write(self, root, name, layout):
        for split, persons in (("train", (1, 2)), ("query", (3,)), ("gallery", (3,))):
            for person in persons:
                for number, camera in enumerate((2, 5), start=1):
                    for frame in (1, 2):
                        folder = layout.format(person=person, camera=camera, tracklet=2 * person + number)
                        path = root / split / folder / name.format(person=person, camera=camera, frame=frame)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.touch()

    @pytest.mark.parametrize(
        "layout", ["{person:04}/{camera}", "p{person}/c{camera}", "{person}/c{camera}/t{tracklet}"]
    )
    def test_that_agree_with_the_folders(self, tmp_path, convention, name, layout):
        self.write(tmp_path, name, layout)
        dataset = read_folder(tmp_path)
        assert (len(dataset.train), len(dataset.camera_names), dataset.remarks) == (4, 2, ())

    @pytest.mark.parametrize("layout", ["{person:04}/{tracklet:04}", "{tracklet:04}/{camera}", "all/{camera}"])
    def test_that_show_another_layout(self, tmp_path, convention, name, layout):
        self.write(tmp_path, name, layout)
        with pytest.raises(ValueError, match=rf"contradict .* {convention}: .*Received: root="):
            read_folder(tmp_path)


def test_a_few_frames_that_were_moved_to_another_person_are_named(tmp_path):
    for person in range(1, 13):
        path = tmp_path / f"train/{person}/1/{person:04}_c1_1.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "train/1/1/0001_c1_1.jpg").rename(tmp_path / "train/2/1/0001_c1_1.jpg")
    assert "frames of 1 tracklets are named after another person" in read_folder(tmp_path).summary()


def test_a_split_without_images(tmp_path):
    (tmp_path / "train/1/1").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="No image was found"):
        read_folder(tmp_path)


def test_images_next_to_folders(root, write_frame):
    write_frame(root / "train/p10/hall/1.jpg")
    with pytest.raises(ValueError, match="not both"):
        read_folder(root)


def test_one_split_by_the_names_of_its_folders(root, monkeypatch):
    (root / "train/anna/yard").mkdir()
    monkeypatch.chdir(root)
    entries = read_tracklet_folders("train")
    assert [(entry.name, entry.person, entry.camera, entry.frames) for entry in entries] == [
        ("anna/door", "anna", "door", ("train/anna/door/1.PNG",)),
        ("anna/hall", "anna", "hall", ("train/anna/hall/2.jpg", "train/anna/hall/10.jpg")),
        ("anna/yard", "anna", "yard", ()),
        ("p10/hall/a", "p10", "hall", ("train/p10/hall/a/1.jpg",)),
        ("p10/hall/b", "p10", "hall", ("train/p10/hall/b/1.jpg",)),
    ]
    assert image_files("train/anna/hall") == entries[1].frames
