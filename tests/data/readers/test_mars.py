import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from kreid.data.readers import read_mars

# (person, camera, frames) of each tracklet, in published order.
TRAIN = [(1, 1, 3), (1, 2, 2), (3, 6, 4)]
TEST = [(-1, 1, 2), (0, 2, 3), (2, 1, 2), (2, 3, 4), (4, 5, 1), (4, 1, 2)]
QUERIES = [3, 5]


def names_and_tracks(tracklets):
    names, tracks = [], []
    for number, (person, camera, frames) in enumerate(tracklets, start=1):
        prefix = "00-1" if person == -1 else f"{person:04d}"
        tracks.append((len(names) + 1, len(names) + frames, person, camera))
        names += [f"{prefix}C{camera}T{number:04d}F{frame:03d}.jpg" for frame in range(1, frames + 1)]
    return names, np.array(tracks, np.int32)


def write_index(info, train=TRAIN, test=TEST, queries=QUERIES, packed=False):
    info.mkdir(parents=True, exist_ok=True)
    written = {}
    for split, tracklets in (("train", train), ("test", test)):
        names, tracks = names_and_tracks(tracklets)
        text = "".join(f"{name}\n" for name in names)
        if packed:
            (info / f"{split}_name.txt.xz").write_bytes(lzma.compress(text.encode()))
        else:
            (info / f"{split}_name.txt").write_text(text)
        key = "track_test_info" if split == "test" else "track_train_info"
        scipy.io.savemat(info / f"tracks_{split}_info.mat", {key: tracks})
        written[split] = names
    scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([queries], np.uint16)})
    return written


def edit_tracks(info, split, row, column, value):
    tracks = names_and_tracks(TRAIN if split == "train" else TEST)[1]
    tracks[row, column] = value
    scipy.io.savemat(info / f"tracks_{split}_info.mat", {"tracks": tracks})


@pytest.fixture
def root(tmp_path, write_frame):
    for split, names in write_index(tmp_path / "info").items():
        for name in names:
            write_frame(tmp_path / f"bbox_{split}/{name[:4]}/{name}")
    return tmp_path


def described(tracklets):
    return [(tracklet.person, tracklet.camera, len(tracklet)) for tracklet in tracklets]


def test_reads_the_published_layout(root):
    dataset = read_mars(root)
    assert described(dataset.train) == TRAIN
    assert described(dataset.test) == TEST
    assert described(dataset.queries) == [(2, 1, 2), (4, 5, 1)]
    assert described(dataset.gallery()) == [(0, 2, 3), (2, 3, 4), (4, 1, 2)]
    assert dataset.missing == dataset.empty == ()
    assert dataset.train[2].frames[1] == str(root / "bbox_train/0003/0003C6T0003F002.jpg")
    assert dataset.test[0].frames[0] == str(root / "bbox_test/00-1/00-1C1T0001F001.jpg")
    assert all(os.path.isfile(path) for tracklet in dataset.train + dataset.test for path in tracklet.frames)
    assert len({tracklet.id for tracklet in dataset.train + dataset.test}) == 9


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["info", "."])
def test_index_may_be_packed_and_may_lie_in_the_root(tmp_path, packed, place):
    write_index(tmp_path / place, packed=packed)
    assert described(read_mars(tmp_path, check_files=False).test) == TEST


def test_missing_frames_leave_their_tracklets_and_are_named(root):
    gone = ["bbox_train/0001/0001C1T0001F002.jpg", "bbox_test/0004/0004C5T0005F001.jpg"]
    for name in gone:
        (root / name).unlink()
    dataset = read_mars(root)
    assert dataset.missing == tuple(gone)
    assert [Path(path).name for path in dataset.train[0].frames] == ["0001C1T0001F001.jpg", "0001C1T0001F003.jpg"]
    # The second query's only frame is missing, so the tracklet is removed and the rows after it move up.
    assert dataset.empty == ("test/0004C5T0005",)
    assert described(dataset.test) == [track for track in TEST if track != (4, 5, 1)]
    assert described(dataset.queries) == [(2, 1, 2)]
    assert "missing in bbox_test: 1 frames, such as bbox_test/0004/0004C5T0005F001.jpg" in dataset.summary()
    assert len(read_mars(root, check_files=False).test) == len(TEST)


def test_a_query_after_a_removed_tracklet_keeps_pointing_at_its_tracklet(root):
    for path in (root / "bbox_test/00-1").iterdir():
        path.unlink()
    (root / "bbox_test/00-1").rmdir()
    dataset = read_mars(root)
    assert dataset.query_rows == (1, 3)
    assert described(dataset.queries) == [(2, 1, 2), (4, 5, 1)]


def test_nothing_on_the_disk_is_an_error(tmp_path):
    write_index(tmp_path / "info")
    with pytest.raises(FileNotFoundError, match=r"unpack bbox_train\.zip"):
        read_mars(tmp_path)


def test_a_missing_path_and_the_content_of_its_folder_are_named(root):
    for path in (root / "bbox_train").rglob("*.jpg"):
        path.rename(path.with_name("x" + path.name))
    message = r"The first would be .*/bbox_train/0001/0001C1T0001F001\.jpg, but bbox_train/ holds 0001, 0003\. Received"
    with pytest.raises(FileNotFoundError, match=message):
        read_mars(root)


def test_no_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"<root>/info; .* holds nothing\. Received: root="):
        read_mars(tmp_path)


@pytest.mark.parametrize("name", ["train_name.txt", "tracks_test_info.mat", "query_IDX.mat"])
def test_an_index_file_missing(root, name):
    (root / "info" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_mars(root)


@pytest.mark.parametrize(
    ("split", "row", "column", "value", "message"),
    [
        ("train", 2, 1, 10, r"row 3 of tracks_train_info.mat points outside train_name.txt, which has 9 names"),
        ("train", 0, 0, 0, "row 1 of tracks_train_info.mat points outside"),
        ("test", 3, 1, 2, "row 4 of tracks_test_info.mat points outside"),
        ("test", 1, 2, 2, "row 2 of tracks_test_info.mat says person 2 in camera 2"),
        ("test", 5, 3, 2, "row 6 of tracks_test_info.mat says person 4 in camera 2"),
        ("test", 0, 2, -2, "row 1 of tracks_test_info.mat has an impossible person"),
    ],
)
def test_an_inconsistent_row_is_named(root, split, row, column, value, message):
    edit_tracks(root / "info", split, row, column, value)
    with pytest.raises(ValueError, match=message):
        read_mars(root)


@pytest.mark.parametrize("queries", [[0, 3], [3, 7]])
def test_a_query_row_out_of_range(root, queries):
    scipy.io.savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([queries])})
    with pytest.raises(ValueError, match=r"Query \d of query_IDX.mat must be .*, 1 to 6; download .* Received: query="):
        read_mars(root)


def test_a_matrix_of_another_shape(root):
    scipy.io.savemat(root / "info/tracks_train_info.mat", {"tracks": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="start, end, person, camera"):
        read_mars(root)


def cut(contents):
    return contents[: len(contents) * 2 // 3]


@pytest.mark.parametrize("name", ["tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda contents: contents[:140],
        lambda contents: contents[:3],
        lambda contents: b"",
        lambda contents: b"<html>Not found</html>" * 40,
        lambda contents: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512),
    ],
    ids=["cut", "cut in the matrix's header", "three bytes", "empty", "a web page", "version 7.3"],
)
def test_a_damaged_matrix_is_named(root, name, damage):
    path = root / "info" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{name} is damaged or of another format .*again. Received: path='{path}'$"):
        read_mars(root)


def test_a_matrix_of_text(root):
    scipy.io.savemat(root / "info/query_IDX.mat", {"query_IDX": "three"})
    with pytest.raises(ValueError, match=r"one matrix of numbers.*with none$"):
        read_mars(root)


def test_a_cut_list_of_names_is_named(tmp_path):
    write_index(tmp_path, packed=True)
    path = tmp_path / "test_name.txt.xz"
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match=f"test_name.txt.xz is damaged .*Received: path='{path}'"):
        read_mars(tmp_path, check_files=False)


def move_inside(folder, name):
    """Move a folder into a new folder of the same name, as when an archive is unpacked a level too deep."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    (folder / name).parent.mkdir(parents=True)
    aside.rename(folder / name)


def assert_whole(dataset):
    assert (described(dataset.train), described(dataset.test)) == (TRAIN, TEST)
    assert (dataset.missing, dataset.empty) == ((), ())
    assert all(os.path.isfile(path) for tracklet in dataset.train + dataset.test for path in tracklet.frames)


@pytest.mark.parametrize("name", ["bbox_train", "Bbox_Train", "another/name"])
def test_boxes_unpacked_a_level_too_deep(root, name):
    move_inside(root / "bbox_train", name)
    move_inside(root / "bbox_test", name)
    assert_whole(read_mars(root))


def test_boxes_unpacked_without_their_folder(root):
    for split in ("train", "test"):
        for folder in (root / f"bbox_{split}").iterdir():
            folder.rename(root / folder.name)
        (root / f"bbox_{split}").rmdir()
    assert_whole(read_mars(root))


def test_boxes_without_the_folders_of_persons(root):
    for path in sorted(root.glob("bbox_*/*/*.jpg")):
        path.rename(path.parent.parent / path.name)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    assert_whole(read_mars(root))


def test_other_letter_case(root):
    for path in sorted(root.glob("bbox_train/*/*.jpg")):
        path.rename(path.with_suffix(".JPG"))
    (root / "bbox_test").rename(root / "BBOX_TEST")
    (root / "info/train_name.txt").rename(root / "info/Train_Name.txt")
    (root / "info").rename(root / "Info")
    assert_whole(read_mars(root))


@pytest.mark.parametrize("levels", ["MARS", "MARS/mars"])
def test_the_folder_above_the_root(root, tmp_path_factory, levels):
    above = tmp_path_factory.mktemp("above")
    (above / levels).parent.mkdir(parents=True, exist_ok=True)
    root.rename(above / levels)
    assert_whole(read_mars(above))


def test_a_byte_order_mark(root):
    for split in ("train", "test"):
        path = root / f"info/{split}_name.txt"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert_whole(read_mars(root))


def test_folders_of_file_servers_and_files_of_other_kinds(root, write_frame):
    write_frame(root / "bbox_train/0001/@eaDir/0001C1T0001F001.jpg/thumbnail.jpg")
    write_frame(root / "bbox_train/0001/0001C1T0001F001.webp")
    dataset = read_mars(root)
    assert_whole(dataset)
    assert dataset.skipped_files == ("bbox_train/0001/0001C1T0001F001.webp",)


@pytest.mark.parametrize("row", [1, 2])
def test_a_query_of_junk_or_a_distractor(root, row):
    scipy.io.savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[4, row]])})
    with pytest.raises(ValueError, match=rf"names 1 rows of junk or distractors.*Received: query={row}$"):
        read_mars(root)


def full_size():
    """An index with MARS's published counts: tracklets, persons, queries, junk and distractors."""
    rng = np.random.default_rng(0)
    train = [(1 + row % 625, 1 + row // 625 % 6, 61) for row in range(8_298)]
    queried = [(2 + 2 * (row % 626), 1 + row // 626, 2) for row in range(1_980)]
    others = [(2 + 2 * (row % 620), 4 + row // 620 % 3, 2) for row in range(12_180 - 1_980 - 870 - 3_248)]
    test = [(-1, 1, 2)] * 870 + [(0, 2, 2)] * 3_248 + queried + others
    order = rng.permutation(len(test))
    queries = np.flatnonzero((order >= 870 + 3_248) & (order < 870 + 3_248 + 1_980)) + 1
    return train, [test[row] for row in order], queries


def assert_published_counts(dataset):
    assert len(dataset.train) == 8_298
    assert len({tracklet.person for tracklet in dataset.train}) == 625
    assert len(dataset.test) == 12_180
    assert len(dataset.queries) == 1_980
    assert len({tracklet.person for tracklet in dataset.queries}) == 626
    assert len(dataset.gallery()) == 9_330
    assert len(dataset.gallery("with_queries")) == 11_310
    assert len({tracklet.id for tracklet in dataset.train + dataset.test}) == 8_298 + 12_180


def test_counts_of_a_full_size_index(tmp_path):
    train, test, queries = full_size()
    # A name has four digits for the tracklet and ten thousand tracklets need five, so ids cannot depend on it.
    write_index(tmp_path / "info", train, test, queries)
    dataset = read_mars(tmp_path, check_files=False)
    assert_published_counts(dataset)
    # The frames are fewer than MARS has.
    assert (
        "differs from the published counts: 506178 train frames instead of 509914, 24360 test frames instead of 681089"
        in dataset.summary()
    )


@pytest.mark.skipif("KREID_MARS_META" not in os.environ, reason="KREID_MARS_META does not name MARS's index files")
def test_counts_of_the_published_index():
    dataset = read_mars(os.environ["KREID_MARS_META"], check_files=False)
    assert_published_counts(dataset)
    assert dataset.name == "MARS"
    assert sum(len(tracklet) for tracklet in dataset.train) == 509_914
    assert sum(tracklet.person == -1 for tracklet in dataset.test) == 870
    assert sum(tracklet.person == 0 for tracklet in dataset.test) == 3_248
    assert "as published" in dataset.summary().splitlines()
