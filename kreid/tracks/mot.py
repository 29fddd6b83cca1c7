"""Read and write MOT Challenge text."""

import array
import dataclasses
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kreid._files import write_atomically

_COLUMNS = "frame,id,left,top,width,height[,conf[,x,y,z]]"
# Names of the first seven columns in headers.
_HEADER_WORDS = (
    {"frame", "frames", "frameid", "frameno", "framenumber", "frameidx", "frameindex", "fn", "f", "fr"},
    {
        "id",
        "ids",
        "trackid",
        "track",
        "trackerid",
        "tid",
        "identity",
        "objectid",
        "objid",
        "targetid",
        "personid",
        "pid",
    },
    {"left", "bbleft", "bboxleft", "x", "x1", "xmin", "bbx", "bboxx", "l", "xleft"},
    {"top", "bbtop", "bboxtop", "y", "y1", "ymin", "bby", "bboxy", "t", "ytop"},
    {"width", "bbwidth", "bboxwidth", "w", "bbw", "bboxw"},
    {"height", "bbheight", "bboxheight", "h", "bbh", "bboxh"},
    {"conf", "confidence", "score", "prob", "c", "s"},
)
_OTHER_WORDS = {"right", "bottom", "x2", "y2", "xmax", "ymax", "cx", "cy", "xc", "yc", "xcenter", "ycenter"}
_LISTED = 20  # faults in an error


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes of tracked persons, one per row, in any order.

    Args:
        frames: integers `(boxes,)`, counted from 1.
        ids: integers `(boxes,)`, equal for the boxes of a track.
        boxes: float `(boxes, 4)`: left, top, width and height in pixels; the image's top left corner is at 0, 0.
        confidences: optional float `(boxes,)`.
        source: of the tracks, for messages.
        lines: optional integers `(boxes,)`, the boxes' lines in the source, for messages; by default 1, 2, ...
        skipped: skipped lines of the source, each with its reason.

    Raises:
        ValueError: if there is no box, sizes differ, a number is not finite, a frame is below 1, a width or height is
            not above 0, or a track has two boxes in a frame. The message counts the rows and names the first 20.

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
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
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
                "Give one id, one box of four numbers and, if there are any, one confidence per frame. Received: "
                f"frames.shape={self.frames.shape}, ids.shape={self.ids.shape}, boxes.shape={self.boxes.shape}"
            )
        if not count:
            raise ValueError(f"The tracks have no box; check that the tracker ran. Received: tracks={self.source!r}")
        faults = find_faults(self.frames, self.ids, self.boxes, self.confidences, lines)
        if faults:
            raise ValueError(refusal(faults, self.source, count))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def last_frame(self) -> int:
        """Number of the last frame with a box, counted from 1."""
        return int(self.frames.max())

    def spans(self) -> dict[int, tuple[int, int]]:
        """Return the first and the last frame of each track, by its id in rising order.

        Example:

        >>> Tracks([1, 2, 2], [7, 7, 3], [[10, 20, 30, 60]] * 3).spans()
        {3: (2, 2), 7: (1, 2)}
        """
        ids, owners = np.unique(self.ids, return_inverse=True)
        first, last = np.full(len(ids), self.last_frame), np.zeros(len(ids), np.int64)
        np.minimum.at(first, owners, self.frames)
        np.maximum.at(last, owners, self.frames)
        return dict(zip(ids.tolist(), zip(first.tolist(), last.tolist(), strict=True), strict=True))

    def renumbered(self, ids: Mapping[int, int]) -> "Tracks":
        """Return the tracks with other ids, such as those of persons.

        Args:
            ids: dict from an id to the new one. Other tracks are left out. Two tracks may get one id if they have no
                frame in common.

        Returns:
            A `Tracks`.

        Raises:
            ValueError: if no track is left, or two tracks that get one id have a frame in common.

        Example:

        >>> Tracks([1, 2, 2], [7, 7, 3], [[10, 20, 30, 60]] * 3).renumbered({7: 1}).ids.tolist()
        [1, 1]
        """
        kept = self.take(np.isin(self.ids, list(ids)))
        return dataclasses.replace(kept, ids=np.array([ids[number] for number in kept.ids.tolist()], np.int64))

    def take(self, rows: np.ndarray) -> "Tracks":
        """Return some of the boxes.

        Args:
            rows: numbers of rows, or a boolean mask of all rows.

        Returns:
            A `Tracks`.

        Raises:
            ValueError: if no box is left.
        """
        names = ["frames", "ids", "boxes", "lines"] + ([] if self.confidences is None else ["confidences"])
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})


class Fault(NamedTuple):
    """An invalid box or line.

    Args:
        row: of the box; -1 for a malformed line.
        line: of the source.
        reason: of the fault, for messages.
    """

    row: int
    line: int
    reason: str

    def text(self) -> str:
        """Return the line and the reason."""
        return f"line {self.line}: {self.reason}"


def find_faults(
    frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray, confidences: np.ndarray | None, lines: np.ndarray
) -> list[Fault]:
    """List the boxes with impossible numbers, and second boxes of a track in a frame.

    Of two boxes of a track in a frame, the one with the lower confidence is listed, or without confidences the second.

    Args:
        frames: integers `(boxes,)`; for all arguments see `Tracks`.
        ids: integers `(boxes,)`.
        boxes: float `(boxes, 4)`.
        confidences: float `(boxes,)` or `None`.
        lines: integers `(boxes,)`.

    Returns:
        A list of `Fault` in order of the lines, at most one per box.
    """
    reasons: dict[int, str] = {}
    numbers = boxes if confidences is None else np.column_stack([boxes, confidences])
    names = ("left", "top", "width", "height", "confidence")
    for row, column in np.argwhere(~np.isfinite(numbers)).tolist():
        reasons.setdefault(row, f"{names[column]}={numbers[row, column]} is not finite")
    for row in np.flatnonzero(frames < 1).tolist():
        reasons.setdefault(row, f"frame={frames[row]}, but frames count from 1")
    for row in np.flatnonzero((boxes[:, 2:] <= 0).any(axis=1)).tolist():
        width, height = boxes[row, 2:]
        reasons.setdefault(row, f"width={width}, height={height} must be above 0; columns are left, top, width, height")
    valid = np.array([row for row in range(len(frames)) if row not in reasons], np.int64)
    preference = -confidences[valid] if confidences is not None else np.zeros(len(valid))
    order = valid[np.lexsort((lines[valid], preference, ids[valid], frames[valid]))]
    repeated = np.flatnonzero((np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)) + 1
    places = np.arange(len(order))
    firsts = order[np.maximum.accumulate(np.where(np.isin(places, repeated), 0, places))]
    for place in repeated.tolist():
        row, first = int(order[place]), int(firsts[place])
        reasons[row] = f"frame={frames[row]}, id={ids[row]} already has a box, in line {lines[first]}"
    faults = [Fault(row, int(lines[row]), reason) for row, reason in reasons.items()]
    return sorted(faults, key=lambda fault: fault.line)


def read_tracks(path: str | os.PathLike[str], *, first_frame: int = 1, max_damaged: float = 0.05) -> Tracks:
    """Read a tracker's output in MOT Challenge text: `frame,id,left,top,width,height[,conf[,x,y,z]]` in each line.

    Lines may be in any order. Empty lines, a header and lines that begin with `#` are skipped. Columns are separated by
    commas, semicolons, tabs or spaces, and trailing separators are ignored; only the first seven columns are read.
    Integers may be written as floats, as NumPy does. Coordinates are used as trackers write them, with the top left
    corner at 0, 0; the benchmark's own files count pixels from 1, so their boxes are one pixel off.

    Damage: a small share of malformed lines, impossible boxes and second boxes of a track in a frame is skipped; a
    warning counts them and `skipped` names them. Of two boxes of a track in a frame, the one with the higher confidence
    is used, or without confidences the first.

    Args:
        path: of the text file.
        first_frame: number of the video's first frame, 1 by the format. Some trackers count from 0.
        max_damaged: float in `[0, 1]`, the largest share of lines to skip.

    Returns:
        A `Tracks`. Its frames count from 1.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file is not text, its header names other columns, frames count from 0 although `first_frame`
            is 1, it is a detector's output without tracks, or more than `max_damaged` of the lines are invalid (the
            message counts them and names the first 20).

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tracks.txt"
    >>> _ = path.write_text("1,7,10,20,30,60,0.9")
    >>> read_tracks(path).boxes.tolist()
    [[10.0, 20.0, 30.0, 60.0]]

    Source: https://motchallenge.net/instructions/.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"The file of tracks is missing. Received: tracks={str(path)!r}")
    if first_frame not in (0, 1):
        raise ValueError(f"`first_frame` must be 0 or 1. Received: first_frame={first_frame!r}")
    if not 0 <= max_damaged <= 1:
        raise ValueError(f"`max_damaged` must be from 0 to 1. Received: max_damaged={max_damaged!r}")
    rows, malformed = _read_rows(path)
    count = len(rows.lines) + len(malformed)
    if not len(rows.lines):
        if malformed:
            raise ValueError(refusal(malformed, path, count))
        raise ValueError(f"The tracks have no box; check that the tracker ran. Received: tracks={str(path)!r}")
    if first_frame == 1 and (rows.frames == 0).any():
        line = rows.lines[np.argmax(rows.frames == 0)]
        raise ValueError(
            "Frames must count from 1, and this tracker counts from 0: give first_frame=0 (--first-frame 0) to add 1 "
            f"to every frame. Received: tracks={str(path)!r}, line {line}: frame=0"
        )
    if (rows.ids == -1).all():
        raise ValueError(
            f"This is a detector's file, in which all ids are -1: run a tracker on it. Received: tracks={str(path)!r}"
        )
    frames = rows.frames + 1 - first_frame
    confidences = None if np.isnan(rows.confidences).all() else rows.confidences
    if confidences is not None:
        without = ~rows.has_confidence
        malformed += [
            Fault(row, int(rows.lines[row]), "no confidence, the seventh column, unlike other lines")
            for row in np.flatnonzero(without).tolist()
        ]
    bad_rows = {bad.row for bad in malformed}
    faults = malformed + [
        fault
        for fault in find_faults(frames, rows.ids, rows.boxes, confidences, rows.lines)
        if fault.row not in bad_rows
    ]
    faults.sort(key=lambda fault: fault.line)
    if len(faults) > max_damaged * count:
        raise ValueError(refusal(faults, path, count, max_damaged))
    valid = np.setdiff1d(np.arange(len(frames)), [fault.row for fault in faults])
    if faults:
        warnings.warn(
            f"{len(faults)} of {count} lines of {os.fspath(path)} are skipped: {listed(faults, 3)}", stacklevel=2
        )
    return Tracks(
        frames[valid],
        rows.ids[valid],
        rows.boxes[valid],
        None if confidences is None else confidences[valid],
        source=str(path),
        lines=rows.lines[valid],
        skipped=tuple(fault.text() for fault in faults),
    )


def write_tracks(path: str | os.PathLike[str], tracks: Tracks) -> None:
    r"""Write tracks as MOT Challenge text, `frame,id,left,top,width,height,conf,-1,-1,-1`, in order of the frames.

    The file is written whole or not at all. Numbers have as many digits as it takes to read them back unchanged;
    without confidences, `conf` is -1.

    Args:
        path: of the file, in an existing folder.
        tracks: a `Tracks`.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tracks.txt"
    >>> write_tracks(path, Tracks([1], [7], [[10, 20.5, 30, 60]]))
    >>> path.read_text()
    '1,7,10,20.5,30,60,-1,-1,-1,-1\n'

    Source: https://motchallenge.net/instructions/.
    """
    confidences = np.full(len(tracks), -1.0) if tracks.confidences is None else tracks.confidences
    lines = []
    for row in np.lexsort((tracks.ids, tracks.frames)).tolist():
        numbers = [*tracks.boxes[row].tolist(), float(confidences[row])]
        cells = [str(int(number)) if number.is_integer() else repr(number) for number in numbers]
        lines.append(f"{tracks.frames[row]},{tracks.ids[row]},{','.join(cells)},-1,-1,-1\n")
    write_atomically(path, "".join(lines))


class _Rows(NamedTuple):
    """The well-formed lines of a file; `has_confidence` marks the lines with a confidence, which may be NaN."""

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray
    has_confidence: np.ndarray
    lines: np.ndarray


def _read_rows(path: str | os.PathLike[str]) -> tuple[_Rows, list[Fault]]:
    frames, ids, lines = array.array("q"), array.array("q"), array.array("q")
    boxes, confidences, confidence_flags = array.array("d"), array.array("d"), array.array("b")
    malformed: list[Fault] = []
    header, has_confidence = None, True
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if not text or text[0] in "#%" or text == header:
                    continue
                cells = _cells(text)
                if header is None and not lines and not malformed and _is_header(cells):
                    has_confidence = _check_header(cells, path)
                    header = text
                    continue
                try:
                    frame, identity, *numbers = _parsed(cells)
                except (ValueError, OverflowError) as error:
                    malformed.append(Fault(-1, number, f"{text[:80]!r} is not {_COLUMNS} ({error})"))
                    continue
                lines.append(number)
                frames.append(int(frame))
                ids.append(int(identity))
                boxes.extend(numbers[:4])
                confidence_flags.append(has_confidence and len(numbers) > 4)
                confidences.append(numbers[4] if confidence_flags[-1] else np.nan)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The tracks must be lines of text, {_COLUMNS}, and this file is not text: check that it is not the video. "
            f"Received: tracks={str(path)!r}"
        ) from error
    rows = _Rows(
        np.array(frames, np.int64),
        np.array(ids, np.int64),
        np.array(boxes).reshape(-1, 4),
        np.array(confidences),
        np.array(confidence_flags, bool),
        np.array(lines, np.int64),
    )
    return rows, malformed


def _cells(text: str) -> list[str]:
    """Split a line into its columns; each line may have another separator."""
    separator = next((each for each in ",;\t" if each in text), None)
    cells = [cell.strip() for cell in text.split(separator)]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _is_header(cells: Sequence[str]) -> bool:
    return bool(cells) and bool(re.search(r"[A-Za-z]", cells[0])) and not _is_number(cells[0])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_header(cells: Sequence[str], path: str | os.PathLike[str]) -> bool:
    """Return whether the seventh column is the confidence; raise if the header has other columns or another order."""
    words = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in cells[: len(_HEADER_WORDS)]]
    known = set().union(*_HEADER_WORDS)
    for word, allowed in zip(words, _HEADER_WORDS, strict=False):
        if word not in allowed and (word in known or word in _OTHER_WORDS):
            raise ValueError(
                f"The header must name the columns {_COLUMNS}, in this order: convert the file. "
                f"Received: tracks={str(path)!r}, with {', '.join(cells)}"
            )
    return len(words) < len(_HEADER_WORDS) or words[-1] in _HEADER_WORDS[-1]


def _parsed(cells: Sequence[str]) -> list[float]:
    """Return frame, id, the four numbers of the box and, if there is one, the confidence."""
    if len(cells) < 6:
        raise ValueError(f"{len(cells)} columns")
    confidence = [float(cells[6])] if len(cells) > 6 and cells[6] else []
    return [_whole(cell) for cell in cells[:2]] + [float(cell) for cell in cells[2:6]] + confidence


def _whole(cell: str) -> int:
    try:
        value = int(cell)
    except ValueError:
        number = float(cell)
        if number != int(number):
            raise ValueError(f"{cell!r} is not whole") from None
        value = int(number)
    if abs(value) >= 2**62:
        raise ValueError(f"{cell!r} is too large")
    return value


def refusal(
    faults: Sequence[Fault], source: str | os.PathLike[str], count: int, max_damaged: float | None = None
) -> str:
    """Return the message of an error that refuses all tracks for their faults."""
    allowed = "" if max_damaged is None else f", more than the {max_damaged:.1%} allowed by `max_damaged`"
    return (
        f"{len(faults)} of {count} lines of the tracks are invalid{allowed}: correct or delete them. "
        f"{listed(faults, _LISTED)}. Received: tracks={os.fspath(source)!r}"
    )


def listed(faults: Sequence[Fault], limit: int) -> str:
    """Return the first faults as text, and how many more there are."""
    more = f"; and {len(faults) - limit} more" if len(faults) > limit else ""
    return "; ".join(fault.text() for fault in faults[:limit]) + more
