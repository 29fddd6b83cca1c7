import av
import numpy as np
import pytest
from track_samples import ALL, SIZE, crops_in, model_of, picture_of, write_tracks, write_video

from kreid.tracks import Tracks, cut_tracklets, embed_tracks


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_frames_are_turned_upright(tmp_path, rotation, turns):
    upright = picture_of(1)
    path = write_video(
        tmp_path / "phone.mp4", [np.rot90(upright, -turns)], "libx264rgb", "rgb24", rotation=rotation, qp="0"
    )
    cut_tracklets(path, Tracks([1], [1], [[4, 6, 30, 40]]), tmp_path / "out", limits=ALL, progress=False)
    (crop,) = crops_in(tmp_path / "out/gallery").values()
    np.testing.assert_array_equal(crop, upright[6:46, 4:34])


@pytest.fixture(params=[("hall.mp4", "libx264rgb", "rgb24"), ("hall.mkv", "ffv1", "bgr0"), ("hall.avi", "mjpeg", None)])
def broken(request, tmp_path):
    """A video without its last third, with a track over all frames and one at its end."""
    name, codec, pix_fmt = request.param
    noise = np.random.default_rng(0).integers(0, 256, (60, *SIZE, 3), dtype=np.uint8)
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    path = write_video(tmp_path / name, list(noise), codec, pix_fmt or "yuvj420p", **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = np.concatenate([np.arange(1, 61), np.arange(50, 61), np.arange(20, 31)])
    ids = np.repeat([1, 2, 3], [60, 11, 11])
    return path, Tracks(frames, ids, np.tile([8.0, 8.0, 20.0, 32.0], (82, 1))), noise


def test_the_frames_of_a_truncated_video_are_used(broken, tmp_path):
    path, tracks, noise = broken
    result = cut_tracklets(path, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = crops_in(tmp_path / "out/gallery")
    assert result.lengths.keys() == {"hall-1/hall/hall-1", "hall-3/hall/hall-3"}
    assert result.unreadable == ("hall-2/hall/hall-2",)
    assert sorted(path.name for path in (tmp_path / "out/gallery").iterdir()) == ["hall-1", "hall-3"]
    length = result.lengths["hall-1/hall/hall-1"]
    assert 30 < length < 42
    assert [frame for name, frame in cut if name == "hall-1/hall/hall-1"] == list(range(1, length + 1))
    assert f"{60 - length} frames with boxes to cut are lost" in result.damage
    if path.suffix != ".avi":  # Motion JPEG loses what the others keep.
        for (_, frame), crop in cut.items():
            np.testing.assert_array_equal(crop, noise[frame - 1, 8:40, 8:28])

    embedded = embed_tracks(model_of(), path, tracks, limits=ALL, progress=False)
    assert embedded.ids.tolist() == list(result.lengths)
    assert embedded.unreadable.tolist() == list(result.unreadable)
    assert embedded.damaged_frames.tolist() == [f"{path.name}:{number}" for number in range(length + 1, 61)]


def test_nothing_left_of_a_video_cut_short(broken, tmp_path):
    path, tracks, _ = broken
    late = Tracks(tracks.frames[60:71], tracks.ids[60:71], tracks.boxes[60:71])
    with pytest.raises(ValueError, match=r"No tracklet is left: copy the video again\. Received: video="):
        cut_tracklets(path, late, tmp_path / "out", limits=ALL, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_corrupt_frame_costs_itself(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, *SIZE, 3), dtype=np.uint8)
    path = write_video(tmp_path / "hall.mp4", list(noise), "libx264rgb", "rgb24", qp="0", g="1")
    contents = bytearray(path.read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 300] = bytes(300)
    path.write_bytes(contents)
    tracks = Tracks(np.arange(1, 61), np.ones(60), np.tile([8.0, 8.0, 20.0, 32.0], (60, 1)))
    result = cut_tracklets(path, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = {frame: crop for (_, frame), crop in crops_in(tmp_path / "out/gallery").items()}
    assert len(cut) == 59
    assert "has 1 corrupt frames: 1 frames with boxes to cut are lost" in result.damage
    for frame, crop in cut.items():
        np.testing.assert_array_equal(crop, noise[frame - 1, 8:40, 8:28])


def test_tracks_past_the_end(video, tmp_path):
    tracks = Tracks([12, 13], [1, 1], [[0, 0, 20, 40]] * 2)
    with pytest.raises(ValueError, match=r"past the video's end, to frame 13 of 12.*Received: tracks='tracks', video="):
        cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == [video.name]


def test_no_video(tmp_path, tracks):
    with pytest.raises(FileNotFoundError, match=r"video file is missing\. Received: video='none\.mp4'"):
        cut_tracklets("none.mp4", tracks, tmp_path / "out")
    text = write_tracks(tmp_path / "hall.mp4", ["1,1,0,0,10,20"] * 50)
    with pytest.raises(ValueError, match=r"FFmpeg cannot open the file.*Received: video='.*hall\.mp4'"):
        cut_tracklets(text, tracks, tmp_path / "out")
    with pytest.raises(ValueError, match=r"No frame of the file can be decoded.*Received: video='.*tracks\.txt'"):
        cut_tracklets(write_tracks(tmp_path / "tracks.txt", ["1,1,0,0,10,20"] * 500), tracks, tmp_path / "out")
    with av.open(str(tmp_path / "sound.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(ValueError, match=r"No frame of the file can be decoded.*Received: video="):
        cut_tracklets(tmp_path / "sound.wav", tracks, tmp_path / "out")


def test_a_size_that_changes(tmp_path):
    # Motion JPEG frames carry their own size.
    small = write_video(tmp_path / "small.avi", [picture_of(1)] * 3, "mjpeg", "yuvj420p").read_bytes()
    large = write_video(tmp_path / "large.avi", [picture_of(1).repeat(2, 0)] * 3, "mjpeg", "yuvj420p").read_bytes()
    pictures = [blob[blob.index(b"\xff\xd8\xff") : blob.index(b"\xff\xd9") + 2] for blob in (small, large)]
    path = tmp_path / "both.mjpeg"
    path.write_bytes(b"".join(pictures))
    tracks = Tracks([1, 2], [1, 1], [[0, 0, 20, 40]] * 2)
    with pytest.raises(ValueError, match=r"size of the first, \(48, 64\).*frame 2 of size \(96, 64\)"):
        cut_tracklets(path, tracks, tmp_path / "out", limits=ALL, progress=False)
