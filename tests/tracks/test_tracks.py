"""Videos of coloured boxes on grey, written without loss, so that crops are known to the pixel."""

import subprocess
import sys

import av
import keras
import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.data.readers import read_tracklet_folders
from kreid.data.tracklet import Tracklet
from kreid.gallery import TrackletEmbeddings, embed_tracklets
from kreid.tracks import TrackLimits, Tracks, cut_tracklets, embed_tracks, read_tracks
from kreid.tracks.__main__ import main
from kreid.tracks.cuts import plan_cuts

SIZE = (48, 64)
FRAMES = 12
ALL = TrackLimits(min_size=(1, 1), min_length=1)
# Of each id, where it is in frame 1, how it moves, its height and width, and its first and last frame.
WALKERS = {
    3: ((4, 4), (0, 3), (24, 12), 1, 12),
    7: ((26, 50), (1, -2), (14, 10), 3, 9),
    -2: ((2, 30), (2, 0), (8, 8), 1, 4),
}


def box_of(number, frame):
    """Top, left, height and width."""
    (top, left), (down, across), (height, width), _, _ = WALKERS[number]
    return top + down * (frame - 1), left + across * (frame - 1), height, width


def there(number):
    return range(WALKERS[number][3], WALKERS[number][4] + 1)


def look(number, frame, height, width):
    """What a walker looks like in a frame: its own colour, its rows shaded, the frame's number in the blue."""
    picture = np.full((height, width, 3), (40 * (abs(number) % 5), 0, 10 * frame), np.uint8)
    picture[..., 1] = 3 * np.arange(height)[:, None] + np.arange(width)
    return picture


def picture_of(frame):
    picture = np.full((*SIZE, 3), 128, np.uint8)
    for number in WALKERS:
        if frame in there(number):
            top, left, height, width = box_of(number, frame)
            picture[top : top + height, left : left + width] = look(number, frame, height, width)
    return picture


def write_video(path, pictures, codec="ffv1", pix_fmt="bgr0", rotation=None, **options):
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def write_tracks(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "hall.mkv", [picture_of(frame) for frame in range(1, FRAMES + 1)])


@pytest.fixture
def tracks():
    rows = [(frame, number) for number in WALKERS for frame in there(number)]
    boxes = [[left, top, width, height] for top, left, height, width in (box_of(n, f) for f, n in rows)]
    return Tracks([frame for frame, _ in rows], [number for _, number in rows], boxes)


def crops_in(folder):
    """Crops by the name of their tracklet and the frame's number."""
    return {
        (entry.name, int(path.rsplit("/", 1)[1][:-4])): np.asarray(Image.open(path))
        for entry in read_tracklet_folders(folder)
        for path in entry.frames
    }


def test_crops_are_the_boxes_of_their_frames(video, tracks, tmp_path):
    found = cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = crops_in(tmp_path / "out/gallery")
    expected = {(f"hall-{n}/hall/hall-{n}", f): look(n, f, *box_of(n, f)[2:]) for n in WALKERS for f in there(n)}
    assert cut.keys() == expected.keys()
    for key, crop in cut.items():
        np.testing.assert_array_equal(crop, expected[key], err_msg=str(key))
    assert found.lengths == {f"hall-{n}/hall/hall-{n}": len(there(n)) for n in WALKERS}
    assert (found.dropped, found.damage, found.unreadable) == ({}, "", ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hall.mkv", "out"]


def test_length_confidence_stride_and_thinning(video, tracks, tmp_path):
    confidences = np.where(tracks.ids == 7, 0.2 * (tracks.frames % 2), 0.9)
    tracks = Tracks(tracks.frames, tracks.ids, tracks.boxes, confidences)

    def kept(**limits):
        cuts = plan_cuts(tracks, SIZE, TrackLimits(**{"min_size": (1, 1), "min_length": 1, **limits}))
        return {int(n): cuts.frames[cuts.owners == row].tolist() for row, n in enumerate(cuts.ids)}, cuts.dropped

    assert kept(min_length=7) == ({3: [*range(1, 13)], 7: [*range(3, 10)]}, {"in tracks of fewer than 7 frames": 4})
    assert kept(min_confidence=0.2)[0][7] == [3, 5, 7, 9]
    assert kept(min_confidence=0.21)[0].keys() == {3, -2}
    assert kept(stride=5)[0] == {3: [1, 6, 11], 7: [6], -2: [1]}
    assert kept(stride=5, min_length=3) == (
        {3: [1, 6, 11]},
        {"outside the stride of 5": 18, "in tracks of fewer than 3 frames": 2},
    )
    assert kept(max_length=4)[0] == {3: [2, 5, 8, 11], 7: [3, 5, 7, 9], -2: [1, 2, 3, 4]}


def test_boxes_over_the_border(video, tmp_path):
    boxes = {
        1: [-6, 4, 12, 20],  # Half inside.
        2: [-6.2, 4, 12, 20],  # Just less.
        3: [60, 40, 8, 16],  # A quarter.
        4: [64, 0, 10, 10],  # Outside, touching.
        5: [3.5, 7.4, 10, 20.2],  # Inside, rounded.
        6: [0, 0, 64, 48],
        7: [-1e300, 0, 1e308, 20],
    }
    tracks = Tracks([1] * 7, list(boxes), list(boxes.values()))

    def kept(min_inside, min_size=(1, 1)):
        limits = TrackLimits(min_inside=min_inside, min_size=min_size, min_length=1)
        cuts = plan_cuts(tracks, SIZE, limits)
        return dict(zip(cuts.ids.tolist(), cuts.corners.tolist(), strict=True))

    assert kept(0.5) == {1: [4, 24, 0, 6], 5: [7, 28, 4, 14], 6: [0, 48, 0, 64]}
    assert kept(1.0).keys() == {5, 6}
    assert kept(0.25).keys() == {1, 2, 3, 5, 6}
    assert kept(0.0).keys() == {1, 2, 3, 5, 6, 7}
    assert kept(0.0)[3] == [40, 48, 60, 64]
    assert kept(0.0, (21, 10)).keys() == {5, 6}
    cut_tracklets(video, tracks, tmp_path / "out", limits=TrackLimits(min_size=(1, 1), min_length=1), progress=False)
    first = crops_in(tmp_path / "out/gallery")[("hall-1/hall/hall-1", 1)]
    np.testing.assert_array_equal(first, picture_of(1)[4:24, :6])


def test_names(video, tracks, tmp_path):
    cut_tracklets(
        video, tracks, tmp_path / "a", limits=ALL, split="train", person="anna", camera="c{id}", progress=False
    )
    names = [entry.name for entry in read_tracklet_folders(tmp_path / "a/train")]
    assert names == ["anna/c3/hall-3", "anna/c7/hall-7", "anna/c-2/hall--2"]
    for wrong in ("{name}", "", ".{id}", "a/{id}", "{id", "{}"):
        with pytest.raises(ValueError, match="Received: camera="):
            cut_tracklets(video, tracks, tmp_path / "b", limits=ALL, camera=wrong, progress=False)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_frames_are_turned_upright(tmp_path, rotation, turns):
    upright = picture_of(1)
    path = write_video(
        tmp_path / "phone.mp4", [np.rot90(upright, -turns)], "libx264rgb", "rgb24", rotation=rotation, qp="0"
    )
    cut_tracklets(path, Tracks([1], [1], [[4, 6, 30, 40]]), tmp_path / "out", limits=ALL, progress=False)
    (crop,) = crops_in(tmp_path / "out/gallery").values()
    np.testing.assert_array_equal(crop, upright[6:46, 4:34])


def test_jpeg_is_near(video, tracks, tmp_path):
    for ending in ("png", "jpg"):
        cut_tracklets(video, tracks, tmp_path / ending, limits=ALL, image_format=ending, progress=False)
    exact, near = crops_in(tmp_path / "png/gallery"), crops_in(tmp_path / "jpg/gallery")
    assert exact.keys() == near.keys()
    assert max(np.abs(exact[key].astype(int) - near[key]).mean() for key in exact) < 3


def model_of(**settings):
    keras.utils.set_random_seed(0)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    return kreid.models.Baseline(backbone, 5, **settings)


@pytest.mark.parametrize("settings", [{}, {"test_selection": "evenly", "test_frames": 3}])
def test_embeddings_are_those_of_the_folders(video, tracks, tmp_path, settings):
    model = model_of(**settings)
    limits = TrackLimits(min_size=(1, 1), min_length=5)
    found = embed_tracks(model, video, tracks, tmp_path / "out.npz", limits=limits, batch_frames=16, progress=False)
    cut_tracklets(video, tracks, tmp_path / "out", limits=limits, progress=False)
    entries = read_tracklet_folders(tmp_path / "out/gallery")
    assert found.ids.tolist() == [entry.name for entry in entries]
    expected = embed_tracklets(model, [Tracklet(e.name, 1, 1, e.frames) for e in entries], progress=False).embeddings
    np.testing.assert_allclose(found.embeddings, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert (found.persons.tolist(), found.cameras.tolist(), found.metric) == ([1, 2], [1, 1], model.metric)
    np.testing.assert_array_equal(TrackletEmbeddings.load(tmp_path / "out.npz").embeddings, found.embeddings)
    with pytest.raises(FileExistsError, match=r"remove this one\. Received: path="):
        embed_tracks(model, video, tracks, tmp_path / "out.npz", progress=False)


def test_memory_is_bounded_beforehand(video, tracks):
    # In frame 9 the first walker has had 9 frames, and the second its 7; the third is done with.
    cuts = plan_cuts(tracks, SIZE, ALL)
    assert cuts.most_at_once == 16
    assert cuts.thinned(lambda length: np.array([length - 1])).most_at_once == 1
    with pytest.raises(ValueError, match=r"have 16 frames to hold.*Received: frames_in_memory=15"):
        embed_tracks(model_of(), video, tracks, limits=ALL, frames_in_memory=15, progress=False)


@pytest.fixture(params=[("hall.mp4", "libx264rgb", "rgb24"), ("hall.mkv", "ffv1", "bgr0"), ("hall.avi", "mjpeg", None)])
def broken(request, tmp_path):
    """A video of which the last third is gone, and a track from its first frame to its last, and one at its end."""
    name, codec, pix_fmt = request.param
    noise = np.random.default_rng(0).integers(0, 256, (60, *SIZE, 3), dtype=np.uint8)
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    path = write_video(tmp_path / name, list(noise), codec, pix_fmt or "yuvj420p", **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = np.concatenate([np.arange(1, 61), np.arange(50, 61), np.arange(20, 31)])
    ids = np.repeat([1, 2, 3], [60, 11, 11])
    return path, Tracks(frames, ids, np.tile([8.0, 8.0, 20.0, 32.0], (82, 1))), noise


def test_what_is_left_of_a_video_cut_short_is_kept(broken, tmp_path):
    path, tracks, noise = broken
    found = cut_tracklets(path, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = crops_in(tmp_path / "out/gallery")
    assert found.lengths.keys() == {"hall-1/hall/hall-1", "hall-3/hall/hall-3"}
    assert found.unreadable == ("hall-2/hall/hall-2",)
    assert sorted(path.name for path in (tmp_path / "out/gallery").iterdir()) == ["hall-1", "hall-3"]
    length = found.lengths["hall-1/hall/hall-1"]
    assert 30 < length < 42
    assert [frame for name, frame in cut if name == "hall-1/hall/hall-1"] == list(range(1, length + 1))
    assert f"{60 - length} frames with boxes to cut are lost" in found.damage
    if path.suffix != ".avi":  # Motion JPEG loses what the others keep.
        for (_, frame), crop in cut.items():
            np.testing.assert_array_equal(crop, noise[frame - 1, 8:40, 8:28])

    embedded = embed_tracks(model_of(), path, tracks, limits=ALL, progress=False)
    assert embedded.ids.tolist() == list(found.lengths)
    assert embedded.unreadable.tolist() == list(found.unreadable)
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
    found = cut_tracklets(path, tracks, tmp_path / "out", limits=ALL, progress=False)
    cut = {frame: crop for (_, frame), crop in crops_in(tmp_path / "out/gallery").items()}
    assert len(cut) == 59
    assert "has 1 corrupt frames: 1 frames with boxes to cut are lost" in found.damage
    for frame, crop in cut.items():
        np.testing.assert_array_equal(crop, noise[frame - 1, 8:40, 8:28])


def test_tracks_past_the_end(video, tmp_path):
    tracks = Tracks([12, 13], [1, 1], [[0, 0, 20, 40]] * 2)
    with pytest.raises(ValueError, match=r"past the video's end, to frame 13 of 12.*Received: tracks='tracks', video="):
        cut_tracklets(video, tracks, tmp_path / "out", limits=ALL, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == [video.name]


def test_no_tracklet_left(video, tracks, tmp_path):
    message = (
        r"No tracklet is left after the limits.* 4 smaller than 9x9, 19 in tracks of fewer than 13 frames\. Received"
    )
    with pytest.raises(ValueError, match=message):
        cut_tracklets(video, tracks, tmp_path / "out", limits=TrackLimits(min_size=(9, 9), min_length=13))
    assert [entry.name for entry in tmp_path.iterdir()] == [video.name]


def test_no_video(tmp_path, tracks):
    with pytest.raises(FileNotFoundError, match=r"no video file\. Received: video='none\.mp4'"):
        cut_tracklets("none.mp4", tracks, tmp_path / "out")
    text = write_tracks(tmp_path / "hall.mp4", ["1,1,0,0,10,20"] * 50)
    with pytest.raises(ValueError, match=r"no video that FFmpeg can open.*Received: video='.*hall\.mp4'"):
        cut_tracklets(text, tracks, tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds no video.*Received: video='.*tracks\.txt'"):
        cut_tracklets(write_tracks(tmp_path / "tracks.txt", ["1,1,0,0,10,20"] * 500), tracks, tmp_path / "out")
    with av.open(str(tmp_path / "sound.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(ValueError, match=r"holds no video of which a frame can be decoded.*Received: video="):
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


def test_an_existing_target_is_refused(video, tracks, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match=r"Give a new folder or remove this one\. Received: out="):
        cut_tracklets(video, tracks, tmp_path / "out", limits=ALL)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("columns", [6, 7, 10])
def test_reading_tracks(tmp_path, columns):
    lines = ["2,-5,1.5,2,3,4e1,0.25,-1,-1,-1", "", "1.0e+00, 9, 0,0,10,20,1,nan,,x"]
    path = write_tracks(tmp_path / "tracks.txt", [",".join(line.split(",")[:columns]) for line in lines])
    tracks = read_tracks(path)
    assert (tracks.frames.tolist(), tracks.ids.tolist(), tracks.lines.tolist()) == ([2, 1], [-5, 9], [1, 3])
    assert tracks.boxes.tolist() == [[1.5, 2, 3, 40], [0, 0, 10, 20]]
    assert tracks.confidences is None if columns == 6 else tracks.confidences.tolist() == [0.25, 1]
    if columns == 6:
        with pytest.raises(ValueError, match=r"no confidence.*Received: min_confidence=0\.5"):
            plan_cuts(tracks, SIZE, TrackLimits(min_confidence=0.5))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3,4,5", r"\(5 columns\)\. Received: tracks='.*tracks\.txt', line 2: '1,2,3,4,5'"),
        ("1,2,3,4,5,6,7,8,9,10,11", r"\(11 columns\)"),
        ("1 2 3 4 5 6", r"with commas between.*line 2"),
        ("frame,id,left,top,width,height", r"could not convert string to float: 'frame'.*line 2"),
        ("1.5,2,3,4,5,6", r"'1\.5' is not whole.*line 2"),
        ("inf,2,3,4,5,6", r"line 2: 'inf,2"),
        ("nan,2,3,4,5,6", r"line 2: 'nan,2"),
        ("1,99999999999999999999,3,4,5,6", r"is too large.*line 2"),
        ("0,2,3,4,5,6", r"counts from 0, so give first_frame=0.*Received: .*line 2: frame=0"),
        ("-3,2,3,4,5,6", r"Frames count from 1: mend or delete the line\. Received: .*line 2: frame=-3"),
        ("1,2,3,nan,5,6", r"must be finite.*line 2: top=nan"),
        ("1,2,3,4,5,-6", r"above 0, after its left and top.*line 2: width=5\.0, height=-6\.0"),
        ("1,2,3,4,0,6", r"line 2: width=0\.0, height=6\.0"),
        ("4,1,3,4,5,6", r"one box in a frame.*line 2: frame=4, id=1, as in line 1"),
        ("1,2,3,4,5,6,0.5", r"Either every line has a confidence.*line 2"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = write_tracks(tmp_path / "tracks.txt", ["4,1,0,0,10,20", line])
    with pytest.raises(ValueError, match=message):
        read_tracks(path)


def test_bad_files_of_tracks(tmp_path, video):
    with pytest.raises(FileNotFoundError, match=r"no file of tracks\. Received: tracks='none\.txt'"):
        read_tracks("none.txt")
    with pytest.raises(ValueError, match="is this the video"):
        read_tracks(video)
    with pytest.raises(ValueError, match=r"hold no box: has the tracker run\? Received: tracks="):
        read_tracks(write_tracks(tmp_path / "empty.txt", ["", " "]))


def test_frames_counted_from_0(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", ["0,1,0,0,10,20", "4,1,0,0,10,20"])
    assert read_tracks(path, first_frame=0).frames.tolist() == [1, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_confidence": np.nan},
        {"stride": 0},
        {"min_inside": 1.1},
        {"min_size": (0, 4)},
        {"min_length": 0},
        {"max_length": 7},
    ],
)
def test_limits_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"Received: {name}="):
        TrackLimits(**wrong)


def test_command_line(video, tmp_path, capsys):
    lines = [f"{frame - 1},5,4,4,12,24,0.9" for frame in range(1, 13)]
    path = write_tracks(tmp_path / "tracks.txt", lines)
    arguments = [str(video), str(path), "--out", str(tmp_path / "new/out"), "--quiet", "--min-size", "24", "12"]
    assert main(arguments) == 2
    assert "--first-frame 0" in capsys.readouterr().err
    assert main([*arguments, "--first-frame", "0", "--stride", "4", "--min-length", "3", "--person", "bo"]) == 0
    assert "1 tracklets, 3 frames\nboxes left out: 9 outside the stride of 4" in capsys.readouterr().out
    (entry,) = read_tracklet_folders(tmp_path / "new/out/gallery")
    assert entry.name == "bo/hall/hall-5"
    assert [frame.rsplit("/", 1)[1] for frame in entry.frames] == ["000001.png", "000005.png", "000009.png"]


def test_importing_does_without_av():
    code = "import sys; sys.modules['av'] = None; import kreid.tracks; print('keras' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
