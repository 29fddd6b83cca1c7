import numpy as np

from kreid.plots import draw_frames, shown_frames


def test_strips_keep_the_frames_order(tmp_path):
    frames = np.stack([np.full((8, 4, 3), value, "uint8") for value in (10, 200)])
    picture = np.asarray(draw_frames([*frames, tmp_path / "missing.jpg"], tile=(8, 4)))
    assert picture[4, [1, 5, 9], 0].tolist() == [10, 200, 225]


def test_shown_frames_are_the_middles_of_equal_parts():
    assert shown_frames(12, 4).tolist() == [1, 4, 7, 10]
    assert shown_frames(3, 4).tolist() == [0, 1, 2]
