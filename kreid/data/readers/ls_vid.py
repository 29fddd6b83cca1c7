"""LS-VID, as published: lists of tracklets, tables of tracklets and queries, and folders of frames."""

import bisect
import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kreid.data.names import natural
from kreid.data.readers.index import FIX, check_columns, find_file, query_rows, read_lines, read_matrices
from kreid.data.readers.listing import Listing, below, contents_of, find_below, inside, list_folder
from kreid.data.readers.published import with_published_counts
from kreid.data.tracklet import JUNK, ReidDataset, Tracklet

LISTS = ("info/list_sequence", "list_sequence")
TABLES = ("info/data", "test/data")

PUBLISHED = {
    **{"train persons": 842, "train tracklets": 2_831, "train frames": 550_419},
    **{"test persons": 2_730, "test tracklets": 11_333, "test frames": 2_277_075, "queries": 3_504},
    **{"validation persons": 200, "validation tracklets": 779, "validation frames": 155_191, "cameras": 15},
}


def read_ls_vid(root: str | os.PathLike[str]) -> ReidDataset:
    """Read LS-VID.

    Homepage: https://www.pkuvmc.com/dataset.html.

    Expected under `root`, in either of the two published layouts: the lists
    `list_seq_train.txt`, `list_seq_test.txt` and, optionally,
    `list_seq_val.txt` in `info/list_sequence/` or `list_sequence/`; the tables
    `info_test.mat` and `info_val.mat` in `info/data/` or `test/data/`. A line of
    a list is `prefix person`: the tracklet's frames are the files that begin
    with the prefix, a path below the root, in the order of their names. The
    camera, from 1, is the third part of the name between `_`. A table has one
    row `[start, end, person, camera]` for each line of its list, and `query`,
    the rows of the queries, counted from 1. Each part numbers its persons from
    0, so the reader renumbers them from 1, the test set's after the train set's;
    `person_names` gives the original part and number. All of this may also be in
    a folder below `root`, in another letter case, or unpacked a level too deep.

    `summary()` compares with the counts of Li et al., 2019, section 4.1 (842,
    200 and 2,730 persons; 550,419, 155,191 and 2,277,075 frames), and of the
    published lists and tables (2,831, 779 and 11,333 tracklets, 3,504 queries).

    Args:
        root: folder with this content.

    Returns:
        A `ReidDataset` whose `validation` has the persons of
        `list_seq_val.txt`, or is `None` without that list. `empty` names the
        tracklets without a frame on the disk.

    Raises:
        FileNotFoundError: if a list, a table or every frame is missing.
        ValueError: if a list or table cannot be read, or they contradict each
            other or the names of the frames.

    Reference: Li et al., Global-Local Temporal Representations for Video
    Person Re-Identification, 2019.
    """
    root = Path(root).absolute()
    lists = find_below(root, find_lists)
    if lists is None:
        raise FileNotFoundError(
            "LS-VID's lists are missing: put list_seq_train.txt and list_seq_test.txt into <root>/list_sequence; "
            f"{contents_of(root)}. Received: root={str(root)!r}"
        )
    top = lists.parent.parent if lists.parent.name.lower() == "info" else lists.parent
    folders: dict[str, Listing] = {}
    train, _, empty = _read_part(top, find_file(lists, "list_seq_train.txt"), None, folders)
    table = _table(top, "info_test.mat")
    test, queries, lost = _read_part(top, find_file(lists, "list_seq_test.txt"), table, folders)
    empty += lost
    train, train_names = _numbered(train, "train", 1)
    test, test_names = _numbered(test, "test", 1 + max(train_names, default=0))
    validation = None
    listed = inside(lists, "list_seq_val.txt")
    if listed is not None:
        tracklets, rows, lost = _read_part(top, listed, _table(top, "info_val.mat"), folders)
        empty += lost
        tracklets, names = _numbered(tracklets, "validation", 1)
        validation = ReidDataset(
            "LS-VID's validation set", train=(), test=tracklets, query_rows=rows, person_names=names
        )
    others = [file for listing in folders.values() for file in listing.others]
    dataset = ReidDataset(
        root.name,
        train,
        test,
        queries,
        empty=tuple(empty),
        person_names=train_names | test_names,
        validation=validation,
        skipped_files=below(root, others),
    )
    return with_published_counts(dataset, "LS-VID", PUBLISHED)


def find_lists(root: Path) -> Path | None:
    """Return the folder of the lists below the root, or `None`."""
    for name in LISTS:
        path = inside(root, *name.split("/"), "list_seq_train.txt")
        if path is not None:
            return path.parent
    return None


def read_table(path: Path) -> tuple[NDArray[np.int64], list[int]]:
    """Read `info_test.mat` or `info_val.mat`.

    Args:
        path: `pathlib.Path`.

    Returns:
        A tuple: the table, `int64` `(tracklets, 4)` with the columns start, end, person, camera; and the rows of the
        queries, from 0.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file cannot be read or is another table.
    """
    matrices = read_matrices(path)
    queries = matrices.pop("query", None)
    if queries is None or len(matrices) != 1:
        raise ValueError(
            f"{path.name} must hold the matrix query and one table; {FIX}. Received: path={str(path)!r}, with "
            f"{', '.join(matrices) or 'nothing else'}"
        )
    tracks = next(iter(matrices.values()))
    check_columns(tracks, path)
    return tracks, query_rows(queries, len(tracks), path, "its table")


def _numbered(tracklets: tuple[Tracklet, ...], part: str, first: int) -> tuple[tuple[Tracklet, ...], dict[int, str]]:
    """Renumber the persons of a part from `first`; negative numbers are junk."""
    numbers = {tracklet.person: first + tracklet.person for tracklet in tracklets if tracklet.person >= 0}
    numbered = (dataclasses.replace(track, person=numbers.get(track.person, JUNK)) for track in tracklets)
    return tuple(numbered), {number: f"{part} {person}" for person, number in numbers.items()}


def _table(root: Path, name: str) -> Path:
    for place in TABLES:
        path = inside(root, *place.split("/"), name)
        if path is not None:
            return path
    return find_file(root / TABLES[0], name)


def _read_part(
    root: Path, listed: Path, table: Path | None, folders: dict[str, Listing]
) -> tuple[tuple[Tracklet, ...], tuple[int, ...], list[str]]:
    """Return the tracklets of a list, the rows of its queries, and the prefixes of the tracklets without a frame."""
    tracks, queries = read_table(table) if table is not None else (None, [])
    lines = read_lines(listed)
    if table is not None and tracks is not None and len(lines) != len(tracks):
        raise ValueError(
            f"{listed.name} and {table.name} must have equally many rows: they are of different versions; {FIX}. "
            f"Received: {len(lines)} lines, {len(tracks)} rows"
        )
    tracklets: list[Tracklet] = []
    empty: list[str] = []
    row_of: dict[int, int] = {}
    seen: set[str] = set()
    for row, line in enumerate(lines, start=1):
        prefix, person = _parsed(line, row, listed)
        if prefix in seen:
            raise ValueError(f"Row {row} of {listed.name} repeats an earlier row; {FIX}. Received: {line!r}")
        seen.add(prefix)
        if table is not None and tracks is not None and person != tracks[row - 1, 2]:
            raise ValueError(
                f"Row {row} of {listed.name} and of {table.name} must be the same person's: they are of different "
                f"versions; {FIX}. Received: person={person} and person={tracks[row - 1, 2]}"
            )
        frames = _frames(root, prefix, folders)
        if not frames:
            empty.append(prefix)
            continue
        camera = _camera(frames[0], row, listed)
        if table is not None and tracks is not None and camera != tracks[row - 1, 3]:
            raise ValueError(
                f"Row {row} of {table.name} must say the camera that the names of its frames say; {FIX}. "
                f"Received: camera={tracks[row - 1, 3]} for {frames[0]!r}"
            )
        row_of[row - 1] = len(tracklets)
        tracklets.append(Tracklet(prefix, person, camera, frames))
    if not tracklets:
        raise FileNotFoundError(
            f"None of the tracklets that {listed.name} names is on the disk: unpack LS-VID's frames into the root. The "
            f"first would be {root}/{empty[0] if empty else '...'}*, but {contents_of(root)}. "
            f"Received: root={str(root)!r}"
        )
    return tuple(tracklets), tuple(row_of[row] for row in queries if row in row_of), empty


def _parsed(line: str, row: int, listed: Path) -> tuple[str, int]:
    prefix, _, person = line.rpartition(" ")
    if not prefix or not person.removeprefix("-").isdecimal():
        raise ValueError(f"Row {row} of {listed.name} must be `prefix person`; {FIX}. Received: {line!r}")
    return prefix.strip(), int(person)


def _frames(root: Path, prefix: str, folders: dict[str, Listing]) -> tuple[str, ...]:
    """Return the images whose paths begin with a prefix; each folder is listed once."""
    folder, _, start = prefix.rpartition("/")
    if folder not in folders:
        place = inside(root, *folder.split("/")) if folder else root
        listing = list_folder(place) if place is not None and place.is_dir() else Listing((), (), ())
        folders[folder] = listing._replace(images=tuple(sorted(listing.images, key=_name)))
    # Names with the same beginning are next to each other.
    images = folders[folder].images
    first = bisect.bisect_left(images, start, key=_name)
    beginning = itertools.takewhile(lambda path: _name(path).startswith(start), itertools.islice(images, first, None))
    return tuple(sorted(beginning, key=lambda path: natural(_name(path))))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[1]


def _camera(path: str, row: int, listed: Path) -> int:
    parts = _name(path).split("_")
    if len(parts) < 4 or not parts[2].isdecimal():
        raise ValueError(
            f"The names of the frames of row {row} of {listed.name} must have the camera as their third part, as in "
            f"0001_0001_05_0001.jpg; unpack the set again. Received: {path!r}"
        )
    return int(parts[2])
