import pytest
from track_samples import FRAMES, WALKERS, box_of, picture_of, there, write_video

from kreid.tracks import Tracks


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "hall.mkv", [picture_of(frame) for frame in range(1, FRAMES + 1)])


@pytest.fixture
def tracks():
    rows = [(frame, number) for number in WALKERS for frame in there(number)]
    boxes = [[left, top, width, height] for top, left, height, width in (box_of(n, f) for f, n in rows)]
    return Tracks([frame for frame, _ in rows], [number for _, number in rows], boxes)
