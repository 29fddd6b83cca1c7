"""`kreid identify` from videos to files, and what users get wrong."""

import json
import shutil

import pytest
from identity_samples import LIMITS, PERSONS, WALKS, found_persons, write_camera

from kreid.identities.__main__ import main
from kreid.tracks import read_tracks


def test_the_table_has_the_persons(identities):
    persons, rows = found_persons(identities)
    assert sorted(map(sorted, persons.values())) == sorted(map(sorted, PERSONS.values()))
    assert list(persons) == [1, 2, 3]
    assert rows["hall-5"]["camera"] == "hall"
    assert (rows["door-7"]["first_frame"], rows["door-7"]["last_frame"]) == ("3", "9")
    # Every other person was in the other camera too, at the same time as this one.
    assert (rows["door-2"]["margin"], rows["door-2"]["certainty"]) == ("", "1")
    others = [row for name, row in rows.items() if name != "door-2"]
    assert all(float(row["margin"]) > 0 and 0.5 < float(row["certainty"]) <= 1 for row in others)


def test_tracks_have_one_id_per_person_in_all_cameras(identities):
    persons, _ = found_persons(identities)
    person_of = {name: person for person, names in persons.items() for name in names}
    for camera, walks in WALKS.items():
        tracks = read_tracks(identities / "tracks" / f"{camera}.txt")
        expected = {
            (frame, person_of[f"{camera}-{track}"], left)
            for track, (_, first, last, left) in walks.items()
            for frame in range(first, last + 1)
        }
        assert (
            set(zip(tracks.frames.tolist(), tracks.ids.tolist(), tracks.boxes[:, 0].tolist(), strict=True)) == expected
        )
        assert tracks.confidences.tolist() == [0.9] * len(expected)


def test_embeddings_on_the_disk_give_the_same(identities, tmp_path, capsys):
    stored = ["--embeddings", str(identities / "embeddings.npz")]
    assert main([*stored, "--truth", "labels", "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    assert "F1 1.000" in output.out and ", model, for pairs)" in output.out
    assert "no threshold for groups of tracklets, and its one for pairs mostly links too few" in output.err
    assert json.loads((tmp_path / "out/identities.json").read_text())["threshold_from"] == "model, for pairs"
    assert (tmp_path / "out/identities.csv").read_text() == (identities / "identities.csv").read_text()
    assert not (tmp_path / "out/review.html").exists()
    assert main([*stored, "--out", str(tmp_path / "few"), "--threshold", "1e9"]) == 0
    output = capsys.readouterr()
    assert "(threshold 1e+09, given)" in output.out and "for pairs" not in output.err
    # Three tracklets of each camera; hall-4 overlaps the other two, and door-2 and door-7 overlap too.
    assert "All tracklets are linked that do not overlap, 6 to 3 persons: if that is wrong, lower" in output.err
    assert main([*stored, "--out", str(tmp_path / "many"), "--threshold", "1e-9"]) == 0
    assert "No two tracklets are linked: raise --threshold. Received: threshold=1e-09" in capsys.readouterr().err
    assert main([*stored, "--out", str(tmp_path / "k"), "--linking", "k-reciprocal"]) == 2
    assert "--threshold" in capsys.readouterr().err
    assert main([*stored, "--out", str(tmp_path / "k"), "--linking", "k-reciprocal", "--threshold", "0.5"]) == 0
    assert "compare 20 neighbours, and 6 tracklets have fewer" in capsys.readouterr().err


@pytest.mark.usefixtures("eagerly")
def test_a_model_without_a_threshold_needs_one(without_threshold, cameras, tmp_path, capsys):
    arguments = [str(without_threshold), *cameras, *LIMITS, "--quiet", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "give a threshold (--threshold)" in capsys.readouterr().err
    assert main([*arguments, "--threshold", "0.001", "--camera", "a", "--camera", "a"]) == 0
    assert "All tracklets are of one camera" in capsys.readouterr().err
    assert all(row["certainty"] == "" and row["camera"] == "a" for row in found_persons(tmp_path / "out")[1].values())


def test_wrong_usage(cameras, identities, tmp_path, capsys):
    video, tracks = cameras[1], cameras[3]
    pair = ["--video", video, "--tracks", tracks]
    images, same = write_camera(tmp_path / "other", "door", "hall")
    late = tmp_path / "late.txt"
    late.write_text("1,1,4,8,14,32\n")
    stored = str(identities / "embeddings.npz")
    for arguments, message in (
        ([], "Received: model=None"),
        (["m"], "Received: video=[]"),
        (["m", "--video", video], "Received: 1 of --video, 0 of --tracks"),
        (["m", *pair, "--camera", "a", "--camera", "b"], "1 of --video, 2 of --camera"),
        (["m", *pair, "--truth", tracks, "--truth", tracks], "1 of --video, 2 of --truth"),
        (["m", *pair, "--video", str(images), "--tracks", str(same), *LIMITS], "2 videos have the name 'hall'"),
        (["m", *pair], "No tracklet is left after the limits"),
        (["m", *pair, *LIMITS, "--camera", "a/b"], "valid for a folder"),
        (["m", *pair, *LIMITS, "--pictures", "-1"], "Received: pictures=-1"),
        (["no_such_model", *pair, *LIMITS], "Received: model='no_such_model'"),
        (["m", "--video", "none.mp4", "--tracks", tracks], "The video file is missing"),
        (["m", "--video", video, "--tracks", "none.txt"], "The file of tracks is missing"),
        (["m", "--embeddings", stored], "Received: embeddings="),
        (["--embeddings", stored, "--truth", "x"], "Received: truth='x'"),
        (["--embeddings", "none.npz"], "There is no file of embeddings"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "out"), "--quiet"]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error, error
        assert error.startswith("kreid identify: ")
        assert not (tmp_path / "out").exists()
    assert main(["m", *pair, "--out", str(identities)]) == 2
    assert "Give a new folder or remove this one" in capsys.readouterr().err
    shutil.rmtree(images)


@pytest.mark.usefixtures("eagerly")
def test_tracks_past_the_end_of_the_video(saved, cameras, tmp_path, capsys):
    tracks = tmp_path / "long.txt"
    tracks.write_text("".join(f"{frame},1,4,8,14,32\n" for frame in range(5, 20)))
    arguments = [str(saved), "--video", cameras[1], "--tracks", str(tracks), *LIMITS, "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "past the video's end, to frame 19 of 12" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
