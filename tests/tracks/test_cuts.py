import numpy as np
import pytest
from track_samples import SIZE, crops_in, picture_of

from kreid.tracks import TrackLimits, Tracks, cut_tracklets
from kreid.tracks.cuts import plan_cuts


def test_length_confidence_stride_and_thinning(video, tracks, tmp_path):
    confidences = np.where(tracks.ids == 7, 0.2 * (tracks.frames % 2), 0.9)
    tracks = Tracks(tracks.frames, tracks.ids, tracks.boxes, confidences)

    def cut(**limits):
        cuts = plan_cuts(tracks, SIZE, TrackLimits(**{"min_size": (1, 1), "min_length": 1, **limits}))
        return {int(n): cuts.frames[cuts.owners == row].tolist() for row, n in enumerate(cuts.ids)}, cuts.dropped

    assert cut(min_length=7) == ({3: [*range(1, 13)], 7: [*range(3, 10)]}, {"in tracks of fewer than 7 frames": 4})
    assert cut(min_confidence=0.2)[0][7] == [3, 5, 7, 9]
    assert cut(min_confidence=0.21)[0].keys() == {3, -2}
    assert cut(stride=5)[0] == {3: [1, 6, 11], 7: [6], -2: [1]}
    assert cut(stride=5, min_length=3) == (
        {3: [1, 6, 11]},
        {"outside the stride of 5": 18, "in tracks of fewer than 3 frames": 2},
    )
    assert cut(max_length=4)[0] == {3: [2, 5, 8, 11], 7: [3, 5, 7, 9], -2: [1, 2, 3, 4]}


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

    def cut(min_inside, min_size=(1, 1)):
        limits = TrackLimits(min_inside=min_inside, min_size=min_size, min_length=1)
        cuts = plan_cuts(tracks, SIZE, limits)
        return dict(zip(cuts.ids.tolist(), cuts.corners.tolist(), strict=True))

    assert cut(0.5) == {1: [4, 24, 0, 6], 5: [7, 28, 4, 14], 6: [0, 48, 0, 64]}
    assert cut(1.0).keys() == {5, 6}
    assert cut(0.25).keys() == {1, 2, 3, 5, 6}
    assert cut(0.0).keys() == {1, 2, 3, 5, 6, 7}
    assert cut(0.0)[3] == [40, 48, 60, 64]
    assert cut(0.0, (21, 10)).keys() == {5, 6}
    cut_tracklets(video, tracks, tmp_path / "out", limits=TrackLimits(min_size=(1, 1), min_length=1), progress=False)
    first = crops_in(tmp_path / "out/gallery")[("hall-1/hall/hall-1", 1)]
    np.testing.assert_array_equal(first, picture_of(1)[4:24, :6])


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
