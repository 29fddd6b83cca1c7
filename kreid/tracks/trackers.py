"""Tracks from the results of other packages' trackers, without importing these packages."""

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.tracks.mot import Tracks, find_faults, listed, refusal

_BOXMOT_COLUMNS = 8


class _Boxes(NamedTuple):
    """The boxes of a frame: left, top, right and bottom; confidences and classes may be missing."""

    corners: Any
    ids: Any
    confidences: Any
    classes: Any


def from_ultralytics(
    results: Iterable[Any], *, classes: Collection[int] | None = None, stride: int = 1, max_damaged: float = 0.05
) -> Tracks:
    """Convert the results of Ultralytics' `model.track(video, stream=True)`.

    Of each result it reads `boxes.xyxy`, `boxes.id`, `boxes.conf` and `boxes.cls`, tensors on any device or arrays. A
    frame without tracks has `boxes.id` of `None`.

    Args:
        results: one for each frame, in order; an iterator is read once.
        classes: numbers of the classes to keep, such as `[0]`, the person of COCO; `None` keeps all.
        stride: `vid_stride` of `track`: results of every `stride`-th frame.
        max_damaged: largest share of boxes with impossible numbers to leave out, with a warning.

    Returns:
        A `Tracks`.

    Raises:
        ValueError: if no frame has a track, a result has no boxes with these attributes, or too many boxes are
            impossible.

    Example:

    >>> from types import SimpleNamespace as Result
    >>> boxes = Result(xyxy=np.array([[10, 20, 40, 80]]), id=np.array([7]), conf=np.array([0.9]), cls=np.array([0]))
    >>> tracks = from_ultralytics([Result(boxes=boxes), Result(boxes=boxes)])
    >>> tracks.frames.tolist(), tracks.ids.tolist(), tracks.boxes[0].tolist()
    ([1, 2], [7, 7], [10.0, 20.0, 30.0, 60.0])

    Source: https://docs.ultralytics.com/reference/engine/results/.
    """

    def boxes_of(result: Any) -> _Boxes | None:
        boxes = result.boxes
        return None if boxes is None else _Boxes(boxes.xyxy, boxes.id, boxes.conf, boxes.cls)

    return _tracks(results, boxes_of, "results", classes, stride, max_damaged)


def from_supervision(
    detections: Iterable[Any], *, classes: Collection[int] | None = None, stride: int = 1, max_damaged: float = 0.05
) -> Tracks:
    """Convert the `Detections` of supervision, with the ids of a tracker.

    Of each it reads `xyxy`, `tracker_id`, `confidence` and `class_id`; the last two may be `None`. Boxes of
    `tracker_id` -1, which the tracker has not confirmed, are left out.

    Args:
        detections: one for each frame, in order; an iterator is read once.
        classes: see `from_ultralytics`.
        stride: detections of every `stride`-th frame, as `get_video_frames_generator` gives them.
        max_damaged: see `from_ultralytics`.

    Returns:
        A `Tracks`.

    Raises:
        ValueError: see `from_ultralytics`.

    Example:

    >>> from types import SimpleNamespace as Detections
    >>> ids = np.array([7, -1])
    >>> frame = Detections(xyxy=np.array([[10, 20, 40, 80]] * 2), tracker_id=ids, confidence=None, class_id=None)
    >>> from_supervision([frame]).boxes.tolist()
    [[10.0, 20.0, 30.0, 60.0]]

    Source: https://supervision.roboflow.com/latest/detection/core/.
    """

    def boxes_of(frame: Any) -> _Boxes:
        return _Boxes(frame.xyxy, frame.tracker_id, frame.confidence, frame.class_id)

    return _tracks(detections, boxes_of, "detections", classes, stride, max_damaged)


def from_boxmot(
    outputs: Iterable[ArrayLike], *, classes: Collection[int] | None = None, stride: int = 1, max_damaged: float = 0.05
) -> Tracks:
    """Convert what `update` of a BoxMOT tracker returned for each frame.

    Args:
        outputs: arrays `(tracks, 8)`, one for each frame, in order: left, top, right, bottom, id, confidence, class and
            number of the detection. An array without rows may have any shape. Rotated boxes, of nine columns, are
            refused.
        classes: see `from_ultralytics`.
        stride: outputs of every `stride`-th frame.
        max_damaged: see `from_ultralytics`.

    Returns:
        A `Tracks`.

    Raises:
        ValueError: see `from_ultralytics`.

    Example:

    >>> from_boxmot([np.zeros((0, 8)), [[10, 20, 40, 80, 7, 0.9, 0, 3]]]).frames.tolist()
    [2]

    Source: https://mikel-brostrom.github.io/boxmot/concepts/detection-layouts/.
    """

    def boxes_of(output: Any) -> _Boxes | None:
        rows = _array(output)
        if not rows.size:
            return None
        if rows.ndim != 2 or rows.shape[1] != _BOXMOT_COLUMNS:
            raise ValueError(
                "An output of a BoxMOT tracker has 8 columns: left, top, right, bottom, id, confidence, class, "
                f"detection; rotated boxes cannot be cut. Received: outputs with one of shape {rows.shape}"
            )
        return _Boxes(rows[:, :4], rows[:, 4], rows[:, 5], rows[:, 6])

    return _tracks(outputs, boxes_of, "outputs", classes, stride, max_damaged)


def _tracks(
    frames: Iterable[Any],
    boxes_of: Callable[[Any], _Boxes | None],
    name: str,
    classes: Collection[int] | None,
    stride: int,
    max_damaged: float,
) -> Tracks:
    if isinstance(stride, bool) or not isinstance(stride, (int, np.integer)) or stride < 1:
        raise ValueError(f"`stride` is an integer from 1. Received: stride={stride!r}")
    if not 0 <= max_damaged <= 1:
        raise ValueError(f"`max_damaged` must be from 0 to 1. Received: max_damaged={max_damaged!r}")
    parts: list[tuple[np.ndarray, ...]] = []
    for place, frame in enumerate(frames):
        try:
            boxes = boxes_of(frame)
        except AttributeError as error:
            raise ValueError(
                f"`{name}` must hold one object for each frame ({error}). Received: {name}[{place}] of type "
                f"{type(frame).__name__}"
            ) from error
        if boxes is not None and boxes.ids is not None:
            parts.append(_rows(boxes, 1 + place * int(stride), f"{name}[{place}]", classes))
    if not sum(len(part[0]) for part in parts):
        kept = "" if classes is None else f" of the classes {sorted(classes)}"
        raise ValueError(f"No frame has a track{kept}; check that the tracker ran. Received: {name} without ids")
    numbers, ids, corners, confidences = (np.concatenate(column) for column in zip(*parts, strict=True))
    known = ~np.isnan(confidences)
    if known.any() and not known.all():
        raise ValueError(
            f"Either all boxes have a confidence or none. Received: {name} with {int(known.sum())} of {len(ids)}"
        )
    boxes_of_all = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return _valid(numbers, ids, boxes_of_all, confidences if known.all() else None, name, max_damaged)


def _rows(boxes: _Boxes, number: int, name: str, classes: Collection[int] | None) -> tuple[np.ndarray, ...]:
    """Return the frame's number, ids, corners and confidences, NaN where there is none, of the boxes to keep."""
    ids, corners = _array(boxes.ids).reshape(-1), _array(boxes.corners).astype(np.float64)
    if corners.shape != (len(ids), 4) or not np.array_equal(ids, np.trunc(ids)):
        raise ValueError(
            f"Each box has four corners and a whole id. Received: {name} with {len(ids)} ids and boxes of shape "
            f"{corners.shape}"
        )
    confidences = np.full(len(ids), np.nan)
    if boxes.confidences is not None:
        confidences = _array(boxes.confidences).astype(np.float64).reshape(-1)
    kept = ids != -1
    if classes is not None:
        if boxes.classes is None:
            raise ValueError(f"The boxes have no classes: leave out `classes`. Received: classes={classes!r}")
        kept &= np.isin(_array(boxes.classes).reshape(-1), list(classes))
    return np.full(int(kept.sum()), number), ids[kept].astype(np.int64), corners[kept], confidences[kept]


def _array(values: Any) -> np.ndarray:
    """Return a tensor of PyTorch, on any device, or an array, as an array."""
    for name in ("detach", "cpu"):
        if hasattr(values, name):
            values = getattr(values, name)()
    return np.asarray(values)


def _valid(
    frames: np.ndarray,
    ids: np.ndarray,
    boxes: np.ndarray,
    confidences: np.ndarray | None,
    name: str,
    max_damaged: float,
) -> Tracks:
    """Return the tracks without impossible boxes, if these are few."""
    lines = np.arange(1, len(ids) + 1)
    faults = find_faults(frames, ids, boxes, confidences, lines)
    if len(faults) > max_damaged * len(ids):
        raise ValueError(refusal(faults, name, len(ids), max_damaged))
    if faults:
        warnings.warn(f"{len(faults)} of {len(ids)} boxes of `{name}` are left out: {listed(faults, 3)}", stacklevel=4)
    valid = np.setdiff1d(np.arange(len(ids)), [fault.row for fault in faults])
    return Tracks(
        frames[valid],
        ids[valid],
        boxes[valid],
        None if confidences is None else confidences[valid],
        source=name,
        lines=lines[valid],
        skipped=tuple(fault.text() for fault in faults),
    )
