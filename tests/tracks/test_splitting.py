"""A track that goes from a red person to a blue one is cut in two by a model that sees colours."""

import numpy as np
import pytest
from track_samples import crops_in, model_of, write_tracks

from kreid.tracks import TrackLimits, Tracks, cut_tracklets
from kreid.tracks.__main__ import main

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
LOOKS = {3: ["red"] * 7 + ["blue"] * 4 + ["red"], 5: ["blue"] * 12}
TRACKS = [(frame, number) for number in LOOKS for frame in range(1, 13)]
LIMITS = TrackLimits(min_size=(1, 1), min_length=3)


def shaded(colour, frame):
    picture = np.full((24, 12, 3), COLOURS[colour], np.uint8)
    picture[:, :, 1] += (np.arange(24) + 3 * frame).astype(np.uint8)[:, None]
    return picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random network; its neck's mean is that of both colours, as after training on them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    made = model_of()
    frames = np.stack([shaded(colour, frame) for colour in COLOURS for frame in range(4)])
    frames = frames.repeat(64 // 24 + 1, axis=1)[:, :64].repeat(3, axis=2)[:, :, :32]
    vectors = made.part_encoder.predict_on_batch({"frames": frames[:, None], "lengths": np.ones(8, "int32")})
    made.bnneck.moving_mean.assign(vectors.mean(axis=(0, 1)))
    yield made
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def sequence(tmp_path):
    from PIL import Image

    folder = tmp_path / "hall/img1"
    folder.mkdir(parents=True)
    for frame in range(1, 13):
        picture = np.full((48, 64, 3), 128, np.uint8)
        for number, looks in LOOKS.items():
            picture[4:28, 8 * number - 20 : 8 * number - 8] = shaded(looks[frame - 1], frame)
        Image.fromarray(picture).save(folder / f"{frame:06}.png")
    return folder


def tracks():
    boxes = [[8 * number - 20, 4, 12, 24] for _, number in TRACKS]
    return Tracks([frame for frame, _ in TRACKS], [number for _, number in TRACKS], boxes)


def test_the_smaller_side_is_a_new_tracklet(model, sequence, tmp_path):
    whole = cut_tracklets(sequence, tracks(), tmp_path / "whole", limits=LIMITS, progress=False)
    result = cut_tracklets(sequence, tracks(), tmp_path / "out", limits=LIMITS, switch_model=model, progress=False)
    assert whole.switches == {}
    assert result.switches == {"hall-3": "frames 8 to 11 are now hall-6"}
    assert "cut in two, as they may show two persons: 1\n  hall-3: frames 8 to 11 are now hall-6" in result.summary()
    assert result.lengths == {"hall-3/hall/hall-3": 8, "hall-5/hall/hall-5": 12, "hall-6/hall/hall-6": 4}
    before, after = crops_in(tmp_path / "whole/gallery"), crops_in(tmp_path / "out/gallery")
    assert len(before) == len(after) == 24
    for (name, frame), crop in after.items():
        old = name.replace("hall-6", "hall-3")
        np.testing.assert_array_equal(crop, before[old, frame])
        assert (name == "hall-6/hall/hall-6") == (old == "hall-3/hall/hall-3" and 8 <= frame <= 11)


def test_short_sides_are_left_out_and_videos_are_added(model, sequence, tmp_path):
    limits = TrackLimits(min_size=(1, 1), min_length=5)
    cut_tracklets(sequence, tracks(), tmp_path / "out", limits=limits, split="query", progress=False)
    door = tmp_path / "door"
    sequence.parent.rename(door)
    result = cut_tracklets(door / "img1", tracks(), tmp_path / "out", limits=limits, switch_model=model, progress=False)
    assert result.switches == {"door-3": "frames 8 to 11 are now door-6; door-6 is left out with 4 frames"}
    assert result.lengths == {"door-3/door/door-3": 8, "door-5/door/door-5": 12}
    assert sorted(path.name for path in (tmp_path / "out/gallery").iterdir()) == ["door-3", "door-5"]


def test_the_threshold_is_checked_before_the_video_is_read(model, tmp_path):
    tracks = Tracks([1], [1], [[0, 0, 20, 40]])
    with pytest.raises(ValueError, match=r"from 0 to 2\. Received: threshold=35"):
        cut_tracklets(tmp_path / "none.mkv", tracks, tmp_path / "out", switch_model=model, switch_threshold=35)


def test_command_line(model, sequence, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    lines = [f"{frame},{number},{8 * number - 20},4,12,24" for frame, number in TRACKS]
    path = write_tracks(tmp_path / "tracks.txt", lines)
    arguments = [str(sequence), str(path), "--out", str(tmp_path / "out"), "--quiet", "--min-size", "1", "1"]
    arguments += ["--min-length", "3", "--split-switches", str(tmp_path / "model.keras")]
    assert main([*arguments, "--person", "bo"]) == 2
    assert "put {id} into `person`. Received: person='bo'" in capsys.readouterr().err
    assert main([*arguments, "--switch-threshold", "1.99"]) == 0
    assert "cut in two" not in capsys.readouterr().out
    arguments[3] = str(tmp_path / "cut")
    assert main(arguments) == 0
    assert "hall-3: frames 8 to 11 are now hall-6" in capsys.readouterr().out
