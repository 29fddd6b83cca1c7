"""LS-VID, as published: lists of tracklets, tables of tracks and queries, and folders of frames."""

import bisect
import itertools
from pathlib import Path

from kreid.data.readers.index import MEND, check_columns, find_file, query_rows, read_lines, read_matrices
from kreid.data.readers.listing import image_files, natural
from kreid.data.readers.published import compared
from kreid.data.tracklet import ReidDataset, Tracklet

LISTS = ("info/list_sequence", "list_sequence")
TABLES = ("info/data", "test/data")

PUBLISHED = {
    **{"train persons": 842, "train tracklets": 2_831, "train frames": 550_419},
    **{"test persons": 2_730, "test tracklets": 11_333, "test frames": 2_277_075, "queries": 3_504},
    **{"validation persons": 200, "validation tracklets": 779, "validation frames": 155_191, "cameras": 15},
}


def read_ls_vid(root):
    """Reads LS-VID.

    Expected under `root`, in either of the two layouts that go round: the lists
    `list_seq_train.txt`, `list_seq_test.txt` and, where it is at hand,
    `list_seq_val.txt` in `info/list_sequence/` or `list_sequence/`; the tables
    `info_test.mat` and `info_val.mat` in `info/data/` or `test/data/`. A line of
    a list is `prefix person`: the tracklet's frames are the files that begin
    with the prefix, a path below the root, in the order of their names. The
    camera, from 1, is the third part of the name between `_`. A table has one
    row `[start, end, person, camera]` for each line of its list, and `query`,
    the rows of the queries, counted from 1.

    The counts that `summary()` compares with are those of Li et al., 2019,
    section 4.1 (842, 200 and 2,730 persons; 550,419, 155,191 and 2,277,075
    frames), and of the published lists and tables (2,831, 779 and 11,333
    tracklets, 3,504 queries).

    Args:
        root: the folder that holds the above.

    Returns:
        A `ReidDataset` whose `validation` holds the persons of
        `list_seq_val.txt`, or is `None` without that list. Tracklets without
        a frame on the disk are named in `empty`.

    Raises:
        FileNotFoundError: if a list or a table is not there, or no frame.
        ValueError: if one of them cannot be read, or they contradict each
            other or the names of the frames.

    Reference: Li et al., Global-Local Temporal Representations for Video
    Person Re-Identification, 2019.
    """
    root = Path(root).absolute()
    lists = next((root / name for name in LISTS if (root / name / "list_seq_train.txt").is_file()), None)
    if lists is None:
        raise FileNotFoundError(
            "LS-VID's lists were not found: put list_seq_train.txt and list_seq_test.txt into <root>/list_sequence. "
            f"Received: root={str(root)!r}"
        )
    folders = {}
    train, _, empty = _read_part(root, lists / "list_seq_train.txt", None, folders)
    test, queries, lost = _read_part(root, lists / "list_seq_test.txt", _table(root, "info_test.mat"), folders)
    empty += lost
    validation = None
    if (lists / "list_seq_val.txt").is_file():
        table = _table(root, "info_val.mat")
        tracklets, rows, lost = _read_part(root, lists / "list_seq_val.txt", table, folders)
        empty += lost
        validation = ReidDataset("LS-VID's validation set", train=(), test=tracklets, query_rows=rows)
    dataset = ReidDataset(root.name, train, test, queries, empty=tuple(empty), validation=validation)
    return compared(dataset, "LS-VID", PUBLISHED)


def read_table(path):
    """Reads `info_test.mat` or `info_val.mat`.

    Args:
        path: `pathlib.Path`.

    Returns:
        The tracks, int64 `(tracklets, 4)` of start, end, person, camera, and the rows of the queries, from 0.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read or is another table.
    """
    matrices = read_matrices(path)
    queries = matrices.pop("query", None)
    if queries is None or len(matrices) != 1:
        raise ValueError(
            f"{path.name} must hold the matrix query and one table; {MEND}. Received: path={str(path)!r}, with "
            f"{', '.join(matrices) or 'nothing else'}"
        )
    tracks = next(iter(matrices.values()))
    check_columns(tracks, path)
    return tracks, query_rows(queries, len(tracks), path, "its table")


def _table(root, name):
    folder = next((root / place for place in TABLES if (root / place / name).is_file()), root / TABLES[0])
    return find_file(folder, name)


def _read_part(root, listed, table, folders):
    """The tracklets of a list, the rows of its queries, and the tracklets that have no frame."""
    tracks, queries = read_table(table) if table else (None, [])
    lines = read_lines(listed)
    if tracks is not None and len(lines) != len(tracks):
        raise ValueError(
            f"{listed.name} and {table.name} must have equally many rows: they are of different versions; {MEND}. "
            f"Received: {len(lines)} lines, {len(tracks)} rows"
        )
    tracklets, row_of, empty, seen = [], {}, [], set()
    for row, line in enumerate(lines, start=1):
        prefix, person = _parsed(line, row, listed)
        if prefix in seen:
            raise ValueError(f"Row {row} of {listed.name} is there twice; {MEND}. Received: {line!r}")
        seen.add(prefix)
        if tracks is not None and person != tracks[row - 1, 2]:
            raise ValueError(
                f"Row {row} of {listed.name} and of {table.name} must be the same person's: they are of different "
                f"versions; {MEND}. Received: person={person} and person={tracks[row - 1, 2]}"
            )
        frames = _frames(root, prefix, folders)
        if not frames:
            empty.append(prefix)
            continue
        camera = _camera(frames[0], row, listed)
        if tracks is not None and camera != tracks[row - 1, 3]:
            raise ValueError(
                f"Row {row} of {table.name} must say the camera that the names of its frames say; {MEND}. "
                f"Received: camera={tracks[row - 1, 3]} for {frames[0]!r}"
            )
        row_of[row - 1] = len(tracklets)
        tracklets.append(Tracklet(prefix, person, camera, frames))
    if not tracklets:
        raise FileNotFoundError(
            f"None of the tracklets that {listed.name} names is on the disk: unpack LS-VID's frames into the root. "
            f"Received: root={str(root)!r}"
        )
    return tuple(tracklets), tuple(row_of[row] for row in queries if row in row_of), empty


def _parsed(line, row, listed):
    prefix, _, person = line.rpartition(" ")
    if not prefix or not person.removeprefix("-").isdecimal():
        raise ValueError(f"Row {row} of {listed.name} must be `prefix person`; {MEND}. Received: {line!r}")
    return prefix.strip(), int(person)


def _frames(root, prefix, folders):
    """The images that begin with a prefix; each folder is listed once."""
    folder, _, start = (root / prefix).as_posix().rpartition("/")
    if folder not in folders:
        folders[folder] = (
            sorted(path.rsplit("/", 1)[1] for path in image_files(folder)) if Path(folder).is_dir() else []
        )
    names = folders[folder]
    # Names with one beginning stand together.
    first = bisect.bisect_left(names, start)
    found = itertools.takewhile(lambda name: name.startswith(start), itertools.islice(names, first, None))
    return tuple(f"{folder}/{name}" for name in sorted(found, key=natural))


def _camera(path, row, listed):
    parts = path.rsplit("/", 1)[1].split("_")
    if len(parts) < 4 or not parts[2].isdecimal():
        raise ValueError(
            f"The names of the frames of row {row} of {listed.name} must have the camera as their third part, as in "
            f"0001_0001_05_0001.jpg; unpack the set anew. Received: {path!r}"
        )
    return int(parts[2])
