import dataclasses
import re

import numpy as np
import pytest
from track_samples import SIZE, write_tracks

from kreid import tracks as kreid_tracks
from kreid.tracks import TrackLimits, Tracks, read_tracks
from kreid.tracks.cuts import plan_cuts


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


def standard(frame, number):
    return f"{frame},{number},{20 * number},20,40,80,0.5"


def lines_of(frames=20):
    return [standard(frame, number) for frame in range(1, frames + 1) for number in (1, 2)]


def assert_same_boxes(tracks, expected):
    assert tracks.frames.tolist() == expected.frames.tolist()
    assert tracks.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(tracks.boxes, expected.boxes)
    np.testing.assert_array_equal(tracks.confidences, expected.confidences)
    assert tracks.skipped == ()


FORMS = {
    "header": lambda lines: ["frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z", *lines],
    "header with quotes": lambda lines: ['"Frame","Track ID","X","Y","W","H","Score"', *lines],
    "header again": lambda lines: ["frame,id,x,y,w,h,conf", *lines[:5], "frame,id,x,y,w,h,conf", *lines[5:]],
    "comments": lambda lines: ["# made by a tracker", "% 20 frames", *lines],
    "spaces": lambda lines: [line.replace(",", " ") + " " for line in lines],
    "several spaces": lambda lines: ["  " + line.replace(",", "   ") for line in lines],
    "tabs": lambda lines: [line.replace(",", "\t") for line in lines],
    "semicolons": lambda lines: [line.replace(",", ";") for line in lines],
    "comma and space": lambda lines: [line.replace(",", ", ") for line in lines],
    "comma at the end": lambda lines: [line + "," for line in lines],
    "commas at the end": lambda lines: [line + ",,," for line in lines],
    "twelve columns": lambda lines: [line + ",-1,-1,-1,0,0" for line in lines],
    "points": lambda lines: [re.sub(r"^(\d+),(\d+)", r"\1.0,\2.00e0", line) for line in lines],
    "line ends of Windows": lambda lines: [line + "\r" for line in lines],
    "byte-order mark": lambda lines: ["\ufeff" + lines[0], *lines[1:]],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_in_which_trackers_write(tmp_path, form):
    expected = read_tracks(write_tracks(tmp_path / "expected.txt", lines_of()))
    path = tmp_path / "tracks.txt"
    path.write_bytes("".join(f"{line}\n" for line in FORMS[form](lines_of())).encode())
    assert_same_boxes(read_tracks(path), expected)


@pytest.mark.parametrize(
    "header",
    [
        "id,frame,x,y,w,h",
        "frame,id,x1,y1,x2,y2,conf",
        "frame,id,conf,x,y,w,h",
        "frame,id,cx,cy,w,h",
        "x,y,w,h,id,frame",
    ],
)
def test_headers_of_other_columns(tmp_path, header):
    path = write_tracks(tmp_path / "tracks.txt", [header, *lines_of()])
    with pytest.raises(ValueError, match=rf"must name the columns .* Received: .*, with {header.replace(',', ', ')}$"):
        read_tracks(path)


def test_a_seventh_column_that_is_no_confidence_by_its_header(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", ["frame,id,x,y,w,h,class", *lines_of()])
    assert read_tracks(path).confidences is None


BAD = {
    "1,2,3,4,5": r"'1,2,3,4,5' is not frame,id,.* \(5 columns\)",
    "1,2,,4,5,6,7": "could not convert string to float: ''",
    "the tracker crashed": "could not convert|3 columns",
    "1.5,2,3,4,5,6,1": r"'1\.5' is not whole",
    "inf,2,3,4,5,6,1": "'inf,2",
    "nan,2,3,4,5,6,1": "'nan,2",
    "1,99999999999999999999,3,4,5,6,1": "is too large",
    "-3,2,3,4,5,6,1": "frame=-3, but frames count from 1",
    "1,7,3,nan,5,6,1": "top=nan is not finite",
    "1,7,3,4,5,6,inf": "confidence=inf is not finite",
    "1,7,3,4,5,-6,1": r"width=5\.0, height=-6\.0 must be above 0",
    "1,7,3,4,0,6,1": r"width=0\.0, height=6\.0 must be above 0",
    "4,1,3,4,5,6,0.4": "frame=4, id=1 already has a box, in line 7",
    "1,7,3,4,5,6": "no confidence, the seventh column, unlike other lines",
}


@pytest.mark.parametrize("line", BAD)
def test_a_few_bad_lines_are_skipped_and_named(tmp_path, line):
    expected = read_tracks(write_tracks(tmp_path / "expected.txt", lines_of()))
    path = write_tracks(tmp_path / "tracks.txt", [*lines_of(), line])
    with pytest.warns(UserWarning, match=r"1 of 41 lines of .*tracks\.txt are skipped: line 41: "):
        tracks = read_tracks(path)
    (skipped,) = tracks.skipped
    assert re.match(f"line 41: .*({BAD[line]})", skipped)
    assert_same_boxes(dataclasses.replace(tracks, skipped=()), expected)


def test_too_many_bad_lines_are_refused_at_once(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", [*lines_of(), *BAD])
    with pytest.raises(ValueError) as refused:
        read_tracks(path)
    message = str(refused.value)
    assert message.startswith("14 of 54 lines of the tracks are invalid, more than the 5.0% allowed by `max_damaged`")
    for number, reason in enumerate(BAD.values(), start=41):
        assert re.search(f"line {number}: [^;]*({reason})", message)
    assert message.endswith(f"Received: tracks={str(path)!r}")
    with pytest.warns(UserWarning, match="14 of 54 lines"):
        assert len(read_tracks(path, max_damaged=0.3)) == 40
    with pytest.raises(ValueError, match=r"from 0 to 1\. Received: max_damaged=2"):
        read_tracks(path, max_damaged=2)


def test_of_two_boxes_the_surer_one_is_kept(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", [*lines_of(), "4,1,77,4,5,6,0.9", "4,2,77,4,5,6,0.5"])
    with pytest.warns(UserWarning, match="2 of 42 lines"):
        tracks = read_tracks(path)
    assert tracks.skipped == (
        "line 7: frame=4, id=1 already has a box, in line 41",
        "line 42: frame=4, id=2 already has a box, in line 8",
    )
    assert tracks.boxes[(tracks.frames == 4) & (tracks.ids == 1), 0].tolist() == [77]


def test_tracks_made_in_python_name_every_bad_row():
    frames, ids = [1, 1, 0, 2], [1, 1, 2, 3]
    boxes = [[0, 0, 9, 9], [1, 1, 9, 9], [0, 0, 9, 9], [0, 0, 9, 0]]
    with pytest.raises(
        ValueError, match=r"3 of 4 lines .* line 2: .* line 3: frame=0.* line 4: width=9\.0, height=0\.0"
    ):
        Tracks(frames, ids, boxes)


def test_a_tracker_that_counts_from_0_is_refused_with_the_setting(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", [standard(frame, 1) for frame in range(100)])
    with pytest.raises(ValueError, match=r"give first_frame=0 .*Received: .*line 1: frame=0"):
        read_tracks(path)


def test_a_detectors_file_has_no_tracks(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", [f"{frame},-1,0,0,10,20,1" for frame in range(1, 9)])
    with pytest.raises(ValueError, match=r"all ids are -1.*run a tracker on it"):
        read_tracks(path)


def test_bad_files_of_tracks(tmp_path, video):
    with pytest.raises(FileNotFoundError, match=r"file of tracks is missing\. Received: tracks='none\.txt'"):
        read_tracks("none.txt")
    with pytest.raises(ValueError, match="check that it is not the video"):
        read_tracks(video)
    with pytest.raises(ValueError, match=r"have no box; check that the tracker ran\. Received: tracks="):
        read_tracks(write_tracks(tmp_path / "empty.txt", ["", " "]))


def test_frames_counted_from_0(tmp_path):
    path = write_tracks(tmp_path / "tracks.txt", ["0,1,0,0,10,20", "4,1,0,0,10,20"])
    assert read_tracks(path, first_frame=0).frames.tolist() == [1, 5]


@pytest.mark.parametrize("with_confidences", [True, False])
def test_written_tracks_are_read_back_unchanged(tmp_path, with_confidences):
    rng = np.random.default_rng(0)
    frames, ids = rng.permutation(np.arange(1, 9)).repeat(2), np.tile([5, -3], 8)
    boxes = np.concatenate([rng.normal(size=(16, 2)), rng.uniform(1e-9, 1e9, (16, 2))], axis=1)
    written = Tracks(frames, ids, boxes, rng.random(16) if with_confidences else None)
    kreid_tracks.write_tracks(tmp_path / "tracks.txt", written)
    read = read_tracks(tmp_path / "tracks.txt")
    order = np.lexsort((ids, frames))
    for name in ("frames", "ids", "boxes"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name)[order])
    expected = written.confidences[order] if with_confidences else np.full(16, -1.0)
    np.testing.assert_array_equal(read.confidences, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.txt"]


def test_other_ids():
    tracks = Tracks([1, 2, 4, 2, 3], [7, 7, 7, 3, 9], [[0, 0, 9, 9]] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert tracks.spans() == {3: (2, 2), 7: (1, 4), 9: (3, 3)}
    persons = tracks.renumbered({7: 1, 9: 1})
    assert (persons.frames.tolist(), persons.ids.tolist()) == ([1, 2, 4, 3], [1] * 4)
    assert persons.confidences.tolist() == [0.1, 0.2, 0.3, 0.5]
    with pytest.raises(ValueError, match="frame=2, id=1 already has a box"):
        tracks.renumbered({7: 1, 3: 1})
    with pytest.raises(ValueError, match="no box"):
        tracks.renumbered({8: 1})
