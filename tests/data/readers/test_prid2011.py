import json
import os
import shutil

import pytest

from kreid.data.readers import layout_of, read_prid2011

SHORT = (2, "cam_b", 26)  # one frame too few for the 178
LONG = 27


def lengths():
    """Frames by person and camera: one person below 200 has too few, and person 201 differs between the cameras."""
    for person in (1, 2, 3, 10, 199, 200, 201):
        for camera in ("cam_a", "cam_b"):
            yield person, camera, 26 if (person, camera) == SHORT[:2] else LONG + person % 3
    yield 300, "cam_a", LONG


@pytest.fixture
def root(tmp_path):
    for person, camera, frames in lengths():
        folder = tmp_path / f"multi_shot/{camera}/person_{person:04d}"
        folder.mkdir(parents=True)
        for frame in range(1, frames + 1):
            (folder / f"{frame:04d}.png").touch()
    return tmp_path


def splits(train=("person_0200", "person_0003"), test=("person_0010", "person_0001")):
    return [{"train": list(train), "test": list(test)} for _ in range(10)]


def described(tracklets):
    return [(tracklet.person, tracklet.camera, len(tracklet)) for tracklet in tracklets]


def everybody(dataset):
    return {tracklet.person for tracklet in dataset.train + dataset.test}


def test_a_published_split(root):
    listed = splits()
    listed[6]["train"][0] = "person_0199"
    (root / "splits_prid2011.json").write_text(json.dumps(listed))
    dataset = read_prid2011(root, split=3)
    assert described(dataset.train) == [(3, 1, 27), (200, 1, 29), (3, 2, 27), (200, 2, 29)]
    assert described(dataset.queries) == [(1, 1, 28), (10, 1, 28)]
    assert described(dataset.gallery()) == [(1, 2, 28), (10, 2, 28)]
    assert dataset.camera_names == {1: "cam_a", 2: "cam_b"}
    first = dataset.train[0]
    assert first.id == "train/cam_a/person_0003"
    assert first.frames == tuple(f"{root}/multi_shot/cam_a/person_0003/{frame:04d}.png" for frame in range(1, 28))
    assert "split: 3 of splits_prid2011.json" in dataset.summary()
    assert {t.person for t in read_prid2011(root, split=7).train} == {3, 199}


@pytest.mark.parametrize("place", [".", "multi_shot"])
@pytest.mark.parametrize("name", ["splits.json", "prid_split.json", "Splits_PRID2011.JSON"])
def test_files_of_splits_under_other_names(root, place, name):
    (root / place / name).write_text(json.dumps(splits()))
    dataset = read_prid2011(root)
    assert (dataset.split, everybody(dataset)) == (f"1 of {name}", {1, 3, 10, 200})


def test_the_folder_above(root, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    root.rename(above / "prid_2011")
    assert everybody(read_prid2011(above)) == {1, 3, 10, 199, 200}
    assert layout_of(above) == "prid2011"


def test_files_of_splits_outside_the_root_are_not_read(root, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    (above / "splits.json").write_text(json.dumps(splits()))
    (root / "multi_shot").rename(above / "prid")
    assert "drawn by kreid" in read_prid2011(above / "prid").split


def test_drawn_splits_halve_those_who_are_long_enough(root):
    datasets = [read_prid2011(root, split=split) for split in range(1, 11)]
    for dataset in datasets:
        assert everybody(dataset) == {1, 3, 10, 199, 200}
        assert not {t.person for t in dataset.train} & {t.person for t in dataset.test}
        assert (len(dataset.train), len(dataset.queries), len(dataset.gallery())) == (6, 2, 2)
        assert "drawn by kreid" in dataset.summary()
    assert len({dataset.queries for dataset in datasets}) > 3
    assert everybody(read_prid2011(root, persons=200)) == {1, 2, 3, 10, 199, 200}


def test_drawn_splits_do_not_depend_on_the_order_of_the_folders(root, monkeypatch):
    before = read_prid2011(root, split=4)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            with scandir(self.path) as entries:
                return reversed(list(entries))

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert read_prid2011(root, split=4) == before


def test_the_file_of_the_178_is_not_for_the_200(root):
    (root / "multi_shot/splits_prid2011.json").write_text(json.dumps(splits()))
    assert everybody(read_prid2011(root)) == {1, 3, 10, 200}
    assert everybody(read_prid2011(root, persons=200)) == {1, 2, 3, 10, 199, 200}


def test_persons_without_images_are_named(root):
    (root / "splits_prid2011.json").write_text(json.dumps(splits()))
    shutil.rmtree(root / "multi_shot/cam_b/person_0200")
    for path in (root / "multi_shot/cam_a/person_0001").iterdir():
        path.unlink()
    dataset = read_prid2011(root)
    assert dataset.empty == ("train/cam_b/person_0200", "test/cam_a/person_0001")
    assert described(dataset.queries) == [(10, 1, 28)]
    skipped = "2 tracklets skipped, because none of their frames exists, such as train/cam_b/person_0200"
    assert skipped in dataset.summary()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda listed: listed.pop(),
            r"splits_prid2011.json must hold a list of 10 splits; download .* Received: path=",
        ),
        (lambda listed: listed[1].pop("test"), r"Split 2 of splits_prid2011.json .*'test'; download .*test=None"),
        (lambda listed: listed[1]["test"].append(7), r"Split 2 of .* a list of folder names as 'test'"),
        (lambda listed: listed[1]["test"].append("person_0003"), r"Split 2 of .* twice.*person='person_0003'"),
        (lambda listed: listed[1]["test"].append("person_0201"), r"Split 2 of .* both cameras.*person='person_0201'"),
    ],
)
def test_a_wrong_file_of_splits(root, change, message):
    listed = splits()
    change(listed)
    (root / "splits_prid2011.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match=message):
        read_prid2011(root, split=2)


def test_refusals(root, tmp_path):
    with pytest.raises(ValueError, match=r"from 1 to 10\. Received: split=0"):
        read_prid2011(root, split=0)
    with pytest.raises(ValueError, match=r"must be 178 or 200\. Received: persons=89"):
        read_prid2011(root, persons=89)
    (root / "splits_prid2011.json").write_text('[{"train": ')
    with pytest.raises(ValueError, match=r"splits_prid2011\.json is damaged"):
        read_prid2011(root)
    with pytest.raises(FileNotFoundError, match=r"multi_shot/cam_a/person_0001/0001\.png, and cam_b"):
        read_prid2011(tmp_path / "multi_shot/cam_a")


def test_persons_with_few_frames(tmp_path):
    for camera in ("cam_a", "cam_b"):
        for person in range(1, 5):
            folder = tmp_path / f"multi_shot/{camera}/person_{person:04d}"
            folder.mkdir(parents=True)
            (folder / "0001.png").touch()
    with pytest.raises(FileNotFoundError, match=r"27 frames or more .* persons=200 also"):
        read_prid2011(tmp_path)
    dataset = read_prid2011(tmp_path, persons=200)
    assert (len(dataset.train), dataset.name, dataset.published) == (4, tmp_path.name, {})


META = os.environ.get("KREID_PRID2011_META")


@pytest.mark.skipif(META is None, reason="KREID_PRID2011_META does not name the folder of PRID2011's splits")
def test_the_published_splits(tmp_path):
    shutil.copy(f"{META}/splits_prid2011.json", tmp_path)
    for camera in ("cam_a", "cam_b"):
        for person in range(1, 201):
            folder = tmp_path / f"multi_shot/{camera}/person_{person:04d}"
            folder.mkdir(parents=True)
            (folder / "0001.png").touch()
    datasets = [read_prid2011(tmp_path, split=split) for split in range(1, 11)]
    assert len({dataset.queries for dataset in datasets}) == 10
    for dataset in datasets:
        assert (dataset.name, dataset.empty) == ("PRID2011", ())
        assert "as published" in dataset.summary().splitlines()
    assert (
        "differs from the published counts: 400 frames instead of 40033"
        in read_prid2011(tmp_path, persons=200).summary()
    )
