import json
import os
import shutil

import numpy as np
import pytest
import scipy.io

from kreid.data.readers import layout_of, read_ilids_vid

# Sorted as text, with a gap: number 4 of the list is person 010.
PERSONS = ["person001", "person002", "person003", "person010", "person101", "person319"]
MAT = "train_test_splits_ilidsvid.mat"


def make_tree(root, persons=PERSONS, place="i-LIDS-VID/sequences"):
    for camera in ("cam1", "cam2"):
        for person in persons:
            folder = root / place / camera / person
            folder.mkdir(parents=True)
            for frame in (317, 1050):
                (folder / f"{camera}_{person}_{frame:05d}.png").touch()
    return root


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path)


def numbers():
    """Ten rows of 1 to 6, the third with persons 319, 001 and 010 first."""
    rows = np.array([np.random.default_rng(row).permutation(6) + 1 for row in range(10)], np.uint16)
    rows[2] = [6, 1, 4, 2, 3, 5]
    return rows


def write_mat(root, rows, folder="train-test people splits"):
    (root / folder).mkdir(exist_ok=True)
    scipy.io.savemat(root / folder / MAT, {"ls_set": rows})


def described(tracklets):
    return [(tracklet.person, tracklet.camera) for tracklet in tracklets]


def check_third_split(dataset):
    assert described(dataset.train) == [(2, 1), (3, 1), (101, 1), (2, 2), (3, 2), (101, 2)]
    assert described(dataset.queries) == [(1, 1), (10, 1), (319, 1)]
    assert described(dataset.gallery()) == [(1, 2), (10, 2), (319, 2)]


@pytest.mark.parametrize("folder", ["train-test people splits", "."])
def test_the_official_file_counts_sorted_folders_test_persons_first(root, folder):
    write_mat(root, numbers(), folder)
    dataset = read_ilids_vid(root, split=3)
    check_third_split(dataset)
    assert dataset.split == f"3 of {MAT}"
    frames = dataset.train[0].frames
    place = root / "i-LIDS-VID/sequences/cam1/person002"
    assert frames == (f"{place}/cam1_person002_00317.png", f"{place}/cam1_person002_01050.png")


def test_a_person_missing_in_one_camera_shifts_no_other_person(root):
    write_mat(root, numbers())
    shutil.rmtree(root / "i-LIDS-VID/sequences/cam1/person001")
    dataset = read_ilids_vid(root, split=3)
    assert described(dataset.queries) == [(10, 1), (319, 1)]
    assert dataset.empty == ("test/cam1/person001",)


def test_lists_made_from_the_official_file(root):
    rows = numbers()
    rebuilt = {"person_dirs": PERSONS, "ls_set": rows.tolist()}
    (root / "ilidsvid_splits_rebuilt.json").write_text(json.dumps(rebuilt))
    check_third_split(read_ilids_vid(root, split=3))
    (root / "ilidsvid_splits_rebuilt.json").unlink()
    named = [{"test": [PERSONS[i - 1] for i in row[:3]], "train": [PERSONS[i - 1] for i in row[3:]]} for row in rows]
    (root / "splits_ilids_vid.json").write_text(json.dumps(named))
    check_third_split(read_ilids_vid(root, split=3))


@pytest.mark.parametrize("folder", [".", "i-LIDS-VID", "train-test people splits"])
@pytest.mark.parametrize("name", ["splits.json", "Splits.json", "my_split_of_2019.json", "ilids_splits.mat"])
def test_files_of_splits_under_other_names(root, folder, name):
    (root / folder).mkdir(exist_ok=True)
    rows = numbers()
    if name.endswith(".mat"):
        scipy.io.savemat(root / folder / name, {"ls_set": rows})
    else:
        named = [
            {"test": [PERSONS[i - 1] for i in row[:3]], "train": [PERSONS[i - 1] for i in row[3:]]} for row in rows
        ]
        (root / folder / name).write_text("\ufeff" + json.dumps(named), encoding="utf-8")
    dataset = read_ilids_vid(root, split=3)
    check_third_split(dataset)
    assert dataset.split == f"3 of {name}"


def test_ambiguous_or_unreadable_files_of_splits(root):
    (root / "split_one.json").write_text(json.dumps({"train": PERSONS}))
    with pytest.raises(ValueError, match=r"split_one\.json must hold the table ls_set, or a list of 10 splits"):
        read_ilids_vid(root)
    (root / "i-LIDS-VID/split_two.json").write_text("[]")
    with pytest.raises(ValueError, match=r"several files of splits; .* Received: .*split_one\.json, .*split_two\.json"):
        read_ilids_vid(root)
    write_mat(root, numbers(), ".")
    check_third_split(read_ilids_vid(root, split=3))


def test_the_folder_above_and_other_letter_case(root, tmp_path_factory):
    write_mat(root, numbers())
    above = tmp_path_factory.mktemp("above")
    (root / "i-LIDS-VID/sequences").rename(root / "i-LIDS-VID/Sequences")
    (root / "i-LIDS-VID/Sequences/cam2").rename(root / "i-LIDS-VID/Sequences/Cam2")
    root.rename(above / "ilids")
    check_third_split(read_ilids_vid(above, split=3))
    assert layout_of(above) == "ilids_vid"


def test_drawn_splits(tmp_path):
    root = make_tree(tmp_path, place="sequences")
    datasets = [read_ilids_vid(root, split=split) for split in range(1, 11)]
    assert len({dataset.queries for dataset in datasets}) > 3
    for number, dataset in enumerate(datasets, start=1):
        assert sorted({t.person for t in dataset.train + dataset.test}) == [1, 2, 3, 10, 101, 319]
        assert len(dataset.query_rows) == 3
        assert dataset.split == f"{number} of 10 drawn by kreid"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:9], r"must have 10 rows with a number for each of the 6 persons.*shape=\(9, 6\)"),
        (lambda rows: rows[:, :5], r"unpack all persons' folders.*shape=\(10, 5\)"),
        (lambda rows: np.where(rows == 3, 7, rows), rf"Row 3 of ls_set in {MAT} must have each of 1 to 6.*person=7"),
        (lambda rows: np.where(rows == 3, 1, rows), r"Row 3 of ls_set .* once; download .* Received: person=1"),
    ],
)
def test_a_wrong_official_file(root, change, message):
    write_mat(root, change(numbers()))
    with pytest.raises(ValueError, match=message):
        read_ilids_vid(root, split=3)


def test_refusals(root, tmp_path):
    with pytest.raises(ValueError, match=r"from 1 to 10\. Received: split=11"):
        read_ilids_vid(root, split=11)
    with pytest.raises(FileNotFoundError, match=r"<root>/i-LIDS-VID/sequences/cam1"):
        read_ilids_vid(tmp_path / "i-LIDS-VID/sequences/cam1")
    scipy.io.savemat(root / MAT, {"other": numbers()})
    with pytest.raises(ValueError, match=rf"{MAT} must hold the table ls_set"):
        read_ilids_vid(root)


META = os.environ.get("KREID_ILIDS_VID_META")


@pytest.mark.skipif(META is None, reason="KREID_ILIDS_VID_META does not name the folder of iLIDS-VID's splits")
@pytest.mark.parametrize("file", ["ilidsvid_splits_rebuilt.json", "ilidsvid_splits_torchreid_style.json"])
def test_the_published_splits(tmp_path, file):
    with open(f"{META}/ilidsvid_splits_rebuilt.json") as opened:
        rebuilt = json.load(opened)
    make_tree(tmp_path, rebuilt["person_dirs"])
    shutil.copy(f"{META}/{file}", tmp_path)
    datasets = [read_ilids_vid(tmp_path, split=split) for split in range(1, 11)]
    assert len({dataset.queries for dataset in datasets}) == 10
    for dataset in datasets:
        assert (dataset.name, dataset.empty) == ("iLIDS-VID", ())
        assert "differs from the published counts: 1200 frames instead of 42460" in dataset.summary().splitlines()
    if file.endswith("rebuilt.json"):
        # The official form of the same splits.
        (tmp_path / file).unlink()
        write_mat(tmp_path, np.array(rebuilt["ls_set"]))
        assert [read_ilids_vid(tmp_path, split=split).test for split in range(1, 11)] == [d.test for d in datasets]
