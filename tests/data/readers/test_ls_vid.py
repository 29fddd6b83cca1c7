import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from kreid.data.readers import layout_of, ls_vid, read_ls_vid

# (person, camera, frames) of each tracklet, in the lists' order.
TRAIN = [(1, 1, 2), (1, 15, 3), (7, 2, 1)]
TEST = [(2, 3, 2), (2, 11, 1), (2, 1, 2), (12, 4, 3), (12, 5, 1)]
VALIDATION = [(5, 1, 2), (5, 2, 2)]
LAYOUTS = [("list_sequence", "test/data"), ("info/list_sequence", "info/data")]


def tracks(tracklets):
    ends = np.cumsum([frames for *_, frames in tracklets])
    starts = ends - [frames for *_, frames in tracklets] + 1
    return np.array([(s, e, p, c) for s, e, (p, c, _) in zip(starts, ends, tracklets, strict=True)], float)


def write_mat73(path, **matrices):
    """Write a MATLAB 7.3 file: 512 bytes of MATLAB's header, then HDF5 with each matrix transposed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, matrix in matrices.items():
            file.create_dataset(name, data=np.asarray(matrix, float).T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_list(root, lists, part, tracklets):
    lines = []
    for number, (person, camera, frames) in enumerate(tracklets, start=1):
        prefix = f"tracklet_{part}/{person:04d}/{person:04d}_{number:04d}"
        lines.append(f"{prefix} {person}\n")
        (root / prefix).parent.mkdir(parents=True, exist_ok=True)
        for frame in range(frames):
            (root / f"{prefix}_{camera:02d}_{8 * frame + 3:04d}.jpg").touch()
    (root / lists).mkdir(parents=True, exist_ok=True)
    (root / lists / f"list_seq_{part}.txt").write_text("".join(lines))


def make_tree(root, lists="list_sequence", tables="test/data", validation=True):
    write_list(root, lists, "train", TRAIN)
    write_list(root, lists, "test", TEST)
    write_mat73(root / tables / "info_test.mat", info_test=tracks(TEST), query=[[1], [4]])
    if validation:
        write_list(root, lists, "val", VALIDATION)
        scipy.io.savemat(root / tables / "info_val.mat", {"info_val": tracks(VALIDATION), "query": [[2]]})
    return root


def described(tracklets, names):
    """Person by its number in the list, camera, frames."""
    return [(int(names[track.person].split()[1]), track.camera, len(track)) for track in tracklets]


@pytest.mark.parametrize(("lists", "tables"), LAYOUTS)
def test_the_published_layouts(tmp_path, lists, tables):
    dataset = read_ls_vid(make_tree(tmp_path, lists, tables))
    assert described(dataset.train, dataset.person_names) == TRAIN
    assert described(dataset.test, dataset.person_names) == TEST
    assert described(dataset.queries, dataset.person_names) == [TEST[0], TEST[3]]
    assert described(dataset.validation.test, dataset.validation.person_names) == VALIDATION
    assert described(dataset.validation.queries, dataset.validation.person_names) == [VALIDATION[1]]
    assert dataset.train[1].frames == tuple(
        f"{tmp_path}/tracklet_train/0001/0001_0002_15_{frame:04d}.jpg" for frame in (3, 11, 19)
    )
    assert ["validation", "1", "2", "2", "4"] in [line.split() for line in dataset.summary().splitlines()]


def test_without_the_validation_list(tmp_path):
    assert read_ls_vid(make_tree(tmp_path, validation=False)).validation is None


def test_tracklets_without_frames_are_named_and_queries_keep_pointing_at_theirs(tmp_path):
    make_tree(tmp_path)
    for path in (tmp_path / "tracklet_test/0002").iterdir():
        if path.name.startswith("0002_0002"):
            path.unlink()
    dataset = read_ls_vid(tmp_path)
    assert dataset.empty == ("tracklet_test/0002/0002_0002",)
    assert described(dataset.queries, dataset.person_names) == [TEST[0], TEST[3]]


def rewrite(path, change):
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines.pop(),
            r"list_seq_test.txt and info_test.mat must have equally many rows.*4 lines, 5 rows",
        ),
        (lambda lines: lines.__setitem__(1, "tracklet_test/x"), r"Row 2 of list_seq_test.txt must be `prefix person`"),
        (lambda lines: lines.__setitem__(1, lines[0]), r"Row 2 of list_seq_test.txt repeats an earlier row"),
        (
            lambda lines: lines.__setitem__(1, lines[1][:-1] + "3"),
            r"Row 2 of list_seq_test.txt .* person=3 and person=2",
        ),
    ],
)
def test_a_wrong_list(tmp_path, change, message):
    make_tree(tmp_path)
    rewrite(tmp_path / "list_sequence/list_seq_test.txt", change)
    with pytest.raises(ValueError, match=message):
        read_ls_vid(tmp_path)


def test_a_wrong_table(tmp_path):
    make_tree(tmp_path)
    path = tmp_path / "test/data/info_test.mat"
    table = tracks(TEST)
    table[3, 3] = 14
    write_mat73(path, info_test=table, query=[[1], [4]])
    with pytest.raises(
        ValueError, match=r"Row 4 of info_test.mat .* Received: camera=14 for '.*0012_0004_04_0003.jpg'"
    ):
        read_ls_vid(tmp_path)
    table[3, 3] = 4.5
    write_mat73(path, info_test=table, query=[[1], [4]])
    with pytest.raises(ValueError, match=r"Row 4 of info_test in info_test.mat must hold whole numbers.*info_test=4.5"):
        read_ls_vid(tmp_path)
    for query, message in (([[1], [6]], r"Query 2 of info_test.mat .* 1 to 5; .*query=6"), ([[1], [1]], "twice")):
        write_mat73(path, info_test=tracks(TEST), query=query)
        with pytest.raises(ValueError, match=message):
            read_ls_vid(tmp_path)
    write_mat73(path, info_test=tracks(TEST))
    with pytest.raises(ValueError, match=r"must hold the matrix query and one table"):
        read_ls_vid(tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"info_test.mat is damaged or of another format"):
        read_ls_vid(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"info_test.mat is missing"):
        read_ls_vid(tmp_path)


def test_a_name_without_a_camera(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "tracklet_train/0001/0001_0001_00.jpg").touch()
    with pytest.raises(ValueError, match=r"row 1 of list_seq_train.txt must have the camera as their third part"):
        read_ls_vid(tmp_path)


def test_no_lists_and_no_frames(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list_seq_train.txt and list_seq_test.txt into <root>/list_sequence"):
        read_ls_vid(tmp_path)
    make_tree(tmp_path)
    (tmp_path / "tracklet_train").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"None of the tracklets that list_seq_train.txt names is on the disk"):
        read_ls_vid(tmp_path)


def test_the_folder_above_another_letter_case_and_a_level_too_deep(tmp_path):
    make_tree(tmp_path / "LS-VID")
    expected = read_ls_vid(tmp_path / "LS-VID")
    (tmp_path / "LS-VID/tracklet_train").rename(tmp_path / "aside")
    (tmp_path / "LS-VID/tracklet_train").mkdir()
    (tmp_path / "aside").rename(tmp_path / "LS-VID/tracklet_train/tracklet_train")
    (tmp_path / "LS-VID/tracklet_test").rename(tmp_path / "LS-VID/Tracklet_Test")
    (tmp_path / "LS-VID/list_sequence").rename(tmp_path / "LS-VID/List_Sequence")
    dataset = read_ls_vid(tmp_path)
    assert described(dataset.train, dataset.person_names) == TRAIN
    assert described(dataset.test, dataset.person_names) == TEST
    assert dataset.query_rows == expected.query_rows
    assert all(os.path.isfile(path) for tracklet in dataset.train + dataset.test for path in tracklet.frames)
    assert layout_of(tmp_path) == "ls_vid"


def test_each_part_numbers_its_persons_from_0(tmp_path):
    for part, tracklets in (("train", [(0, 1, 1), (3, 1, 1)]), ("test", [(0, 1, 1), (0, 2, 1), (3, 1, 1)])):
        write_list(tmp_path, "list_sequence", part, tracklets)
    table = tracks([(0, 1, 1), (0, 2, 1), (3, 1, 1)])
    write_mat73(tmp_path / "test/data/info_test.mat", info_test=table, query=[[1]])
    dataset = read_ls_vid(tmp_path)
    assert [tracklet.person for tracklet in dataset.train] == [1, 4]
    assert [tracklet.person for tracklet in dataset.test] == [5, 5, 8]
    assert dataset.person_names == {1: "train 0", 4: "train 3", 5: "test 0", 8: "test 3"}
    assert (len(dataset.queries), dataset.persons_in_both) == (1, ())
    assert dataset.counts()["distractors"] == 0


META = os.environ.get("KREID_LS_VID_META")


@pytest.mark.skipif(META is None, reason="KREID_LS_VID_META does not name the folder of LS-VID's tables")
@pytest.mark.parametrize(
    ("name", "persons", "tracklets", "frames", "queries", "cameras"),
    [("info_test.mat", 2_730, 11_333, 2_277_075, 3_504, 15), ("info_val.mat", 200, 779, 155_191, 252, 15)],
)
def test_the_published_tables(name, persons, tracklets, frames, queries, cameras):
    table, rows = ls_vid.read_table(Path(META) / name)
    assert table.shape == (tracklets, 4)
    assert len(set(table[:, 2].tolist())) == persons
    assert (table[:, 1] - table[:, 0] + 1).sum() == frames
    assert len(rows) == queries
    assert table[:, 3].max() == cameras
