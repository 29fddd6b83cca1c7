"""What a tracker found, as MOT Challenge text."""

import array
import dataclasses
from pathlib import Path

import numpy as np

_COLUMNS = "frame,id,left,top,width,height[,conf[,x,y,z]]"


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes of tracked persons, one per row, in any order.

    Args:
        frames: integers `(boxes,)`, counted from 1, the video's first frame.
        ids: integers `(boxes,)`; any, the same for the same track.
        boxes: float `(boxes, 4)`: left, top, width and height in pixels, the video's top left corner at 0, 0.
        confidences: float `(boxes,)`, `None` where the tracker gives none.
        source: where they come from, for messages.
        lines: integers `(boxes,)`, the lines of the source they stand in, for messages; `None` counts the rows from 1.

    Raises:
        ValueError: if there is no box, sizes do not fit, a number is not finite, a frame is below 1, a width or height
            is not above 0, or a track has two boxes in a frame.

    Example:

    >>> tracks = Tracks([1, 2], [7, 7], [[10, 20, 30, 60], [12, 20, 30, 60]])
    >>> len(tracks), tracks.last_frame
    (2, 2)
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray | None = None
    source: str = "tracks"
    lines: np.ndarray | None = None

    def __post_init__(self):
        kinds = {"frames": np.int64, "ids": np.int64, "boxes": np.float64}
        kinds |= {"confidences": np.float64} if self.confidences is not None else {}
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        lines = np.arange(1, len(self.frames) + 1) if self.lines is None else np.asarray(self.lines)
        object.__setattr__(self, "lines", lines)
        count = len(self.frames)
        others = [self.ids, lines] + ([] if self.confidences is None else [self.confidences])
        if self.boxes.shape != (count, 4) or any(values.shape != (count,) for values in (self.frames, *others)):
            raise ValueError(
                "Give one id, four numbers of a box and, if any, one confidence for each frame. Received: "
                f"frames.shape={self.frames.shape}, ids.shape={self.ids.shape}, boxes.shape={self.boxes.shape}"
            )
        if not count:
            raise ValueError(f"The tracks hold no box: has the tracker run? Received: tracks={self.source!r}")
        self._check_values()

    def _check_values(self):
        numbers = self.boxes if self.confidences is None else np.column_stack([self.boxes, self.confidences])
        names = ("left", "top", "width", "height", "confidence")
        for row, column in np.argwhere(~np.isfinite(numbers))[:1]:
            raise ValueError(
                f"A box's numbers must be finite: mend or delete it. {self._at(row)}{names[column]}="
                f"{numbers[row, column]}"
            )
        for row in np.flatnonzero(self.frames < 1)[:1]:
            raise ValueError(f"Frames count from 1: mend or delete the box. {self._at(row)}frame={self.frames[row]}")
        for row in np.flatnonzero((self.boxes[:, 2:] <= 0).any(axis=1))[:1]:
            width, height = self.boxes[row, 2:]
            raise ValueError(
                "A box has a width and a height above 0, after its left and top: mend or delete it. "
                f"{self._at(row)}width={width}, height={height}"
            )
        order = np.lexsort((self.ids, self.frames))
        frames, ids = self.frames[order], self.ids[order]
        for place in np.flatnonzero((frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1]))[:1]:
            first, second = sorted(order[place : place + 2], key=lambda row: self.lines[row])
            raise ValueError(
                "A track has one box in a frame: keep one of the two (a detector's file, all ids -1, has no tracks "
                f"yet). {self._at(second)}frame={frames[place]}, id={ids[place]}, as in line {self.lines[first]}"
            )

    def __len__(self):
        return len(self.frames)

    @property
    def last_frame(self):
        """The last frame with a box, counted from 1."""
        return int(self.frames.max())

    def _at(self, row):
        return f"Received: tracks={self.source!r}, line {self.lines[row]}: "


def read_tracks(path, *, first_frame=1):
    """Reads a tracker's output in MOT Challenge text: `frame,id,left,top,width,height[,conf[,x,y,z]]` in each line.

    Lines may be in any order; empty ones are passed over. Only the first seven of six to ten columns are read.
    Whole numbers may be written with a point, as NumPy does. Coordinates are taken as trackers write them, the top
    left corner at 0, 0; the benchmark's own files count pixels from 1, one pixel off.

    Args:
        path: of the text file.
        first_frame: the number of the video's first frame, 1 by the format. Some trackers count from 0.

    Returns:
        A `Tracks`. Its frames count from 1.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not text, a line is malformed (its number is named) or its values are (see `Tracks`), a
            frame comes before the first, or only some lines have a confidence.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file of tracks. Received: tracks={str(path)!r}")
    if first_frame not in (0, 1):
        raise ValueError(f"Trackers count frames from 0 or 1. Received: first_frame={first_frame!r}")
    frames, ids, lines = array.array("q"), array.array("q"), array.array("q")
    boxes, confidences = array.array("d"), array.array("d")
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                frame, identity, *numbers = _parsed(line, number, path)
                if frame < first_frame:
                    raise ValueError(_too_early(path, number, frame, first_frame))
                lines.append(number)
                frames.append(frame + 1 - first_frame)
                ids.append(identity)
                boxes.extend(numbers[:4])
                confidences.extend(numbers[4:])
                if len(confidences) not in (0, len(frames)):
                    raise ValueError(
                        "Either every line has a confidence, its seventh column, or none has. Received: "
                        f"tracks={str(path)!r}, line {number}: {line.strip()!r}, unlike the lines before"
                    )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Tracks are lines of text, {_COLUMNS}: is this the video? Received: tracks={str(path)!r}"
        ) from error
    return Tracks(
        np.array(frames, np.int64),
        np.array(ids, np.int64),
        np.array(boxes).reshape(-1, 4),
        np.array(confidences) if confidences else None,
        source=str(path),
        lines=np.array(lines, np.int64),
    )


def _parsed(line, number, path):
    """Frame, id, four numbers of the box and, where there is one, the confidence."""
    cells = line.split(",")
    try:
        if not 6 <= len(cells) <= 10:
            raise ValueError(f"{len(cells)} columns")
        return [_whole(cell) for cell in cells[:2]] + [float(cell) for cell in cells[2:7]]
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"A line of tracks is {_COLUMNS}, frame and id whole numbers, with commas between: mend or delete it "
            f"({error}). Received: tracks={str(path)!r}, line {number}: {line.strip()[:80]!r}"
        ) from None


def _whole(cell):
    try:
        value = int(cell)
    except ValueError:
        value = float(cell)
        if value != int(value):
            raise ValueError(f"{cell.strip()!r} is not whole") from None
        value = int(value)
    if abs(value) >= 2**62:
        raise ValueError(f"{cell.strip()!r} is too large")
    return value


def _too_early(path, number, frame, first_frame):
    mend = "mend or delete the line"
    if frame == 0:
        mend = "this tracker counts from 0, so give first_frame=0 (--first-frame 0), which adds 1 to every frame"
    return f"Frames count from {first_frame}: {mend}. Received: tracks={str(path)!r}, line {number}: frame={frame}"
