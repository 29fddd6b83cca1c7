"""Folders of images instead of a video."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from track_samples import ALL, FRAMES, SIZE, WALKERS, crops_in, model_of, picture_of

from kreid.tracks import Tracks, cut_tracklets, embed_tracks
from kreid.tracks.sequence import ImageSequence


def write_sequence(folder, name="{:06}.png", first=1):
    folder.mkdir(parents=True)
    for frame in range(1, FRAMES + 1):
        Image.fromarray(picture_of(frame)).save(folder / name.format(frame + first - 1))
    return folder


@pytest.mark.parametrize("inner", ["", "img1"])
def test_a_sequence_is_cut_like_the_video(video, tracks, tmp_path, inner):
    folder = write_sequence(tmp_path / "MOT17-02.v2/img1")
    (folder / "@eaDir").mkdir()
    cut_tracklets(video, tracks, tmp_path / "expected", limits=ALL, progress=False)
    result = cut_tracklets(tmp_path / "MOT17-02.v2" / inner, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert result.lengths.keys() == {f"MOT17-02.v2-{n}/MOT17-02.v2/MOT17-02.v2-{n}" for n in WALKERS}
    assert result.damage == ""
    crops = {
        (name.replace("MOT17-02.v2", "hall"), f): crop for (name, f), crop in crops_in(tmp_path / "out/gallery").items()
    }
    expected = crops_in(tmp_path / "expected/gallery")
    assert crops.keys() == expected.keys()
    for key, crop in crops.items():
        np.testing.assert_array_equal(crop, expected[key], err_msg=str(key))


def test_embeddings_are_those_of_the_video(video, tracks, tmp_path):
    folder = write_sequence(tmp_path / "hall")
    model = model_of()
    expected = embed_tracks(model, video, tracks, limits=ALL, progress=False)
    embedded = embed_tracks(model, folder, tracks, limits=ALL, progress=False)
    assert embedded.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(embedded.embeddings, expected.embeddings, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "first"), [("{:06}.png", 0), ("frame_{}.png", 95), ("{:08}.png", 1)])
def test_frames_are_counted_from_the_first_picture(tmp_path, name, first):
    with ImageSequence(write_sequence(tmp_path / "hall", name, first)) as opened:
        pictures = dict(opened.pictures({1, FRAMES}, FRAMES))
    assert opened.size == SIZE
    assert list(pictures) == list(range(1, FRAMES + 1))
    np.testing.assert_array_equal(pictures[1], picture_of(1))
    np.testing.assert_array_equal(pictures[FRAMES], picture_of(FRAMES))
    assert pictures[2] is None


def test_a_gap_in_the_numbers_is_refused(tmp_path):
    folder = write_sequence(tmp_path / "hall")
    (folder / "000005.png").unlink()
    with pytest.raises(ValueError, match=r"have a gap.*Received: '000006\.png' after '000004\.png' in video="):
        ImageSequence(folder)


def test_a_damaged_picture_costs_itself(tracks, tmp_path):
    folder = write_sequence(tmp_path / "hall")
    for frame in (1, 5):
        path = folder / f"{frame:06}.png"
        path.write_bytes(path.read_bytes()[:100])
    result = cut_tracklets(folder, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert result.lengths["hall-3/hall/hall-3"] == FRAMES - 2
    assert "has 2 corrupt frames: 2 frames with boxes to cut are lost" in result.damage


def test_a_sequence_cut_short(tracks, tmp_path):
    folder = write_sequence(tmp_path / "hall/img1")
    (folder / f"{FRAMES:06}.png").unlink()
    with pytest.raises(ValueError, match="past the video's end, to frame 12 of 11"):
        cut_tracklets(folder, tracks, tmp_path / "out", limits=ALL, progress=False)
    (tmp_path / "hall/seqinfo.ini").write_text("[Sequence]\nname=hall\nseqLength=12\n")
    result = cut_tracklets(folder, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert "ends after frame 11, but the tracks extend to 12 (seqinfo.ini gives 12)" in result.damage


def test_pictures_of_another_size(tmp_path):
    folder = write_sequence(tmp_path / "hall")
    Image.new("RGB", (10, 10)).save(folder / "000002.png")
    tracks = Tracks([1, 2], [1, 1], [[0, 0, 20, 40]] * 2)
    with pytest.raises(ValueError, match=r"size of the first, \(48, 64\).*frame 2 of size \(10, 10\)"):
        cut_tracklets(folder, tracks, tmp_path / "out", limits=ALL, progress=False)


def test_folders_without_pictures(tmp_path):
    (tmp_path / "hall").mkdir()
    (tmp_path / "hall/video.mp4").touch()
    with pytest.raises(
        ValueError, match=r"a JPEG or PNG file for each frame; hall/ holds video\.mp4\. Received: video="
    ):
        ImageSequence(tmp_path / "hall")
    (tmp_path / "hall/1.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"None of the 1 images can be decoded.*Received: video="):
        ImageSequence(tmp_path / "hall")


def test_pictures_do_without_av(tmp_path):
    write_sequence(tmp_path / "hall")
    code = (
        "import sys; sys.modules['av'] = None; from kreid.tracks import *; import kreid.tracks as t\n"
        "limits = t.TrackLimits(min_size=(1, 1), min_length=1)\n"
        "tracks = t.Tracks([1], [1], [[0, 0, 20, 40]])\n"
        "print(t.cut_tracklets(sys.argv[1], tracks, sys.argv[2], limits=limits, progress=False).lengths)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hall"), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert ran.stdout == "{'hall-1/hall/hall-1': 1}\n", ran.stderr
