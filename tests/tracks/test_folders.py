import os

import numpy as np
import pytest
from track_samples import ALL, FRAMES, WALKERS, box_of, crops_in, look, picture_of, there, write_video

from kreid.data import check_dataset, read_folder
from kreid.tracks import TrackLimits, Tracks, cut_tracklets


def test_crops_are_the_boxes_of_their_frames(video, tracks, tmp_path):
    result = cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = crops_in(tmp_path / "out/gallery")
    expected = {(f"hall-{n}/hall/hall-{n}", f): look(n, f, *box_of(n, f)[2:]) for n in WALKERS for f in there(n)}
    assert cut.keys() == expected.keys()
    for key, crop in cut.items():
        np.testing.assert_array_equal(crop, expected[key], err_msg=str(key))
    assert result.lengths == {f"hall-{n}/hall/hall-{n}": len(there(n)) for n in WALKERS}
    assert (result.dropped, result.damage, result.unreadable) == ({}, "", ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hall.mkv", "out"]


def test_jpeg_is_near(video, tracks, tmp_path):
    for ending in ("png", "jpg"):
        cut_tracklets(video, tracks, tmp_path / ending, limits=ALL, image_format=ending, progress=False)
    exact, near = crops_in(tmp_path / "png/gallery"), crops_in(tmp_path / "jpg/gallery")
    assert exact.keys() == near.keys()
    assert max(np.abs(exact[key].astype(int) - near[key]).mean() for key in exact) < 3


def test_no_tracklet_left(video, tracks, tmp_path):
    message = (
        r"No tracklet is left after the limits.* 4 smaller than 9x9, 19 in tracks of fewer than 13 frames\. Received"
    )
    with pytest.raises(ValueError, match=message):
        cut_tracklets(video, tracks, tmp_path / "out", limits=TrackLimits(min_size=(9, 9), min_length=13))
    assert [entry.name for entry in tmp_path.iterdir()] == [video.name]


def test_a_second_camera_is_added_to_the_gallery(video, tracks, tmp_path):
    door = write_video(tmp_path / "door.mkv", [picture_of(frame) for frame in range(1, FRAMES + 1)])
    cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    result = cut_tracklets(door, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert result.lengths.keys() == {f"door-{number}/door/door-{number}" for number in WALKERS}
    dataset = read_folder(tmp_path / "out")
    assert len(dataset.gallery()) == 2 * len(WALKERS)
    assert sorted(dataset.camera_names.values()) == ["door", "hall"]
    assert (dataset.train, dataset.query_rows) == ((), ())
    report = check_dataset(tmp_path / "out", progress=False)
    assert (report.damaged, report.tracklets) == (False, 2 * len(WALKERS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.mkv", "hall.mkv", "out"]


def test_a_second_split_is_added(video, tracks, tmp_path):
    cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    door = write_video(tmp_path / "door.mkv", [picture_of(frame) for frame in range(1, FRAMES + 1)])
    cut_tracklets(door, tracks, tmp_path / "out", limits=ALL, split="query", progress=False)
    dataset = read_folder(tmp_path / "out")
    assert (len(dataset.queries), len(dataset.gallery())) == (len(WALKERS), len(WALKERS))


def test_videos_that_must_not_share_a_folder_are_refused(video, tracks, tmp_path):
    out = tmp_path / "out"
    cut_tracklets(video, tracks, out, limits=ALL, progress=False)
    before = crops_in(out / "gallery").keys()
    with pytest.raises(FileExistsError, match=r"was cut into the folder before.*which has gallery/hall-.*/hall/hall-"):
        cut_tracklets(video, tracks, out, limits=ALL, progress=False)
    with pytest.raises(FileExistsError, match=r"would become one person.*which has gallery/hall-"):
        cut_tracklets(video, tracks, out, limits=ALL, camera="door", progress=False)
    with pytest.raises(FileExistsError, match=r"would become one person"):
        cut_tracklets(video, tracks, out, limits=ALL, split="query", progress=False)
    assert crops_in(out / "gallery").keys() == before
    (out / "notes").mkdir()
    with pytest.raises(FileExistsError, match=r"this one has notes\. Received: out="):
        cut_tracklets(video, tracks, out, limits=ALL, progress=False)
    with pytest.raises(FileExistsError, match=r"this is a file\. Received: out="):
        cut_tracklets(video, tracks, video, limits=ALL, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hall.mkv", "out"]


def test_a_second_video_that_fails_adds_nothing(video, tracks, tmp_path, monkeypatch):
    out = tmp_path / "out"
    cut_tracklets(video, tracks, out, limits=ALL, progress=False)
    before = sorted(out.rglob("*"))
    door = write_video(tmp_path / "door.mkv", [picture_of(frame) for frame in range(1, FRAMES + 1)])
    late = Tracks([FRAMES, FRAMES + 1], [1, 1], [[0, 0, 20, 40]] * 2)
    with pytest.raises(ValueError, match="past the video's end"):
        cut_tracklets(door, late, out, limits=ALL, progress=False)
    moves, real_rename = [], os.rename

    def rename(source, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError("no space left")
        real_rename(source, target)

    monkeypatch.setattr("kreid.tracks.folders.os.rename", rename)
    with pytest.raises(OSError, match="no space left"):
        cut_tracklets(door, tracks, out, limits=ALL, progress=False)
    assert sorted(out.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.mkv", "hall.mkv", "out"]


def test_an_empty_folder_is_filled(video, tracks, tmp_path):
    (tmp_path / "out").mkdir()
    cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert len(read_folder(tmp_path / "out").gallery()) == len(WALKERS)


def test_a_folder_of_hidden_files_is_filled(video, tracks, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitkeep").touch()
    result = cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert result.lengths.keys() == {f"hall-{number}/hall/hall-{number}" for number in WALKERS}
    assert sorted(os.listdir(tmp_path / "out")) == [".gitkeep", "gallery"]


def test_a_place_that_cannot_be_written_to_is_refused_before_the_video_is_read(tracks, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file"):
        cut_tracklets(tmp_path / "none.mkv", tracks, tmp_path / "file" / "out")


def test_known_persons_have_their_names(video, tracks, tmp_path):
    names = {3: "anna", 7: "anna", -2: "bert"}
    result = cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, person=names, progress=False)
    assert list(result.lengths) == ["bert/hall/hall--2", "anna/hall/hall-3", "anna/hall/hall-7"]
    result = cut_tracklets(video, tracks, tmp_path / "some", limits=ALL, person={7: "anna"}, progress=False)
    assert list(result.lengths) == ["anna/hall/hall-7"]
    for wrong, received in (({7: ".anna"}, "person='.anna'"), ({7: "0"}, "person=")):
        with pytest.raises(ValueError, match=f"Received: {received}"):
            cut_tracklets(video, tracks, tmp_path / "wrong", limits=ALL, person=wrong, progress=False)
    with pytest.raises(ValueError, match="Both sides of a switch"):
        cut_tracklets(video, tracks, tmp_path / "wrong", limits=ALL, person=names, switch_model=object())
