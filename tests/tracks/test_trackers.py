"""Rows of other packages' trackers, as objects with the attributes that these packages document."""

from types import SimpleNamespace

import numpy as np
import pytest

from kreid.tracks import from_boxmot, from_supervision, from_ultralytics

# Frame, left, top, right, bottom, id, confidence, class; frame 2 has no box.
ROWS = [
    (1, 10.0, 20.0, 40.0, 80.0, 7, 0.9, 0),
    (1, 50.5, 20.0, 80.0, 90.0, 3, 0.8, 2),
    (3, 12.0, 21.0, 42.0, 81.0, 7, 0.7, 0),
]


class Tensor:
    """What PyTorch's tensors on a GPU ask for before NumPy reads them."""

    def __init__(self, values, step=0):
        self._values, self._step = np.asarray(values, np.float32), step

    def detach(self):
        return Tensor(self._values, 1)

    def cpu(self):
        assert self._step == 1
        return Tensor(self._values, 2)

    def __array__(self, dtype=None, copy=None):
        assert self._step == 2
        return self._values


def of_frame(frame):
    return np.array([row[1:] for row in ROWS if row[0] == frame]).reshape(-1, 7)


def ultralytics(frame):
    rows = of_frame(frame)
    ids = Tensor(rows[:, 4]) if len(rows) else None
    return SimpleNamespace(
        boxes=SimpleNamespace(xyxy=Tensor(rows[:, :4]), id=ids, conf=Tensor(rows[:, 5]), cls=Tensor(rows[:, 6]))
    )


def supervision(frame):
    rows = np.concatenate([of_frame(frame), [[0, 0, 9, 9, -1, 0.1, 0]]])  # Not confirmed.
    return SimpleNamespace(
        xyxy=rows[:, :4], tracker_id=rows[:, 4].astype(int), confidence=rows[:, 5], class_id=rows[:, 6].astype(int)
    )


def boxmot(frame):
    rows = of_frame(frame)
    return np.concatenate([rows, np.arange(len(rows))[:, None]], axis=1) if len(rows) else np.array([])


KINDS = {"ultralytics": (from_ultralytics, ultralytics), "supervision": (from_supervision, supervision)}
KINDS["boxmot"] = (from_boxmot, boxmot)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_tracks(kind):
    convert, frame_of = KINDS[kind]
    tracks = convert(frame_of(frame) for frame in (1, 2, 3))
    assert tracks.frames.tolist() == [1, 1, 3]
    assert tracks.ids.tolist() == [7, 3, 7]
    assert tracks.boxes.tolist() == [[10, 20, 30, 60], [50.5, 20, 29.5, 70], [12, 21, 30, 60]]
    np.testing.assert_allclose(tracks.confidences, [0.9, 0.8, 0.7], rtol=1e-6)
    assert convert([frame_of(1), frame_of(3)], stride=5).frames.tolist() == [1, 1, 6]
    assert convert([frame_of(1)], classes=[0]).ids.tolist() == [7]
    with pytest.raises(ValueError, match=r"No frame has a track of the classes \[5\]"):
        convert([frame_of(1)], classes=[5])
    with pytest.raises(ValueError, match="No frame has a track; check"):
        convert([])
    with pytest.raises(ValueError, match="Received: stride=0"):
        convert([frame_of(1)], stride=0)


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_boxes_are_left_out_while_they_are_few(kind):
    convert, frame_of = KINDS[kind]
    ROWS.append((3, 30.0, 20.0, 30.0, 80.0, 5, 0.5, 0))
    try:
        with pytest.raises(ValueError, match=r"1 of 4 .*more than the 5.0% allowed.*Received: tracks="):
            convert([frame_of(1), frame_of(3)])
        with pytest.warns(UserWarning, match="1 of 4 boxes of"):
            assert convert([frame_of(1), frame_of(3)], max_damaged=0.3).ids.tolist() == [7, 3, 7]
    finally:
        ROWS.pop()


def test_without_confidences_and_classes():
    frame = supervision(1)
    frame.confidence = frame.class_id = None
    assert from_supervision([frame]).confidences is None
    with pytest.raises(ValueError, match="leave out `classes`"):
        from_supervision([frame], classes=[0])
    with pytest.raises(ValueError, match="Either all boxes have a confidence or none"):
        from_supervision([frame, supervision(3)])


def test_other_objects_are_refused():
    with pytest.raises(ValueError, match=r"Received: results\[0\] of type int"):
        from_ultralytics([3])
    with pytest.raises(ValueError, match=r"Received: detections\[0\] of type ndarray"):
        from_supervision([np.zeros((1, 8))])
    with pytest.raises(ValueError, match=r"rotated boxes.*shape \(1, 9\)"):
        from_boxmot([np.zeros((1, 9))])
    with pytest.raises(ValueError, match="whole id"):
        from_boxmot([[[0, 0, 9, 9, 1.5, 0.9, 0, 0]]])
    assert from_ultralytics([SimpleNamespace(boxes=None), ultralytics(1)]).frames.tolist() == [2, 2]
