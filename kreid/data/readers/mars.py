"""MARS, as published: two folders of boxes and five index files."""

import lzma
import os
import zlib
from pathlib import Path

import numpy as np
import scipy.io

from kreid.data.tracklet import JUNK, ReidDataset, Tracklet

# What scipy and lzma raise for files that are cut or no such files at all.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, IndexError, NotImplementedError),
    *(lzma.LZMAError, zlib.error, scipy.io.matlab.MatReadError),
)


def read_mars(root, check_files=True):
    """Reads MARS, or any data set laid out like it.

    Expected under `root`: `bbox_train/`, `bbox_test/`, and in `info/` (or in
    `root` itself) `train_name.txt`, `test_name.txt` (either may be `.txt.xz`),
    `tracks_train_info.mat`, `tracks_test_info.mat` and `query_IDX.mat`. The
    image of the name `0002C1T0001F001.jpg` is `bbox_train/0002/` + that name;
    junk has the prefix and folder `00-1`.

    The full MARS has 8,298 train tracklets of 625 persons and 12,180 test
    tracklets, of which 1,980 are queries, 870 junk and 3,248 distractors.

    Args:
        root: the folder that holds the above.
        check_files: whether to look up every image on the disk. Files that are
            not there are removed from their tracklets and named in `missing`.
            Without the check no image folder is touched.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if an index file, or every image of a split, is
            not there.
        ValueError: if an index file cannot be read, or the index contradicts itself.

    Reference: Zheng et al., MARS: A Video Benchmark for Large-Scale Person
    Re-identification, 2016.
    """
    root = Path(root).absolute()
    info = next((place for place in (root / "info", root) if (place / "tracks_train_info.mat").is_file()), None)
    if info is None:
        raise FileNotFoundError(
            "MARS's index was not found: put tracks_train_info.mat and its four companions into <root>/info. "
            f"Received: root={str(root)!r}"
        )
    missing, empty = [], []
    tracklets, rows_kept = {}, {}
    for split in ("train", "test"):
        names = _read_names(info, f"{split}_name.txt")
        tracks = _read_matrix(info / f"tracks_{split}_info.mat")
        published = _tracklets(root / f"bbox_{split}", split, names, tracks)
        lost = _missing_files(root, f"bbox_{split}", published) if check_files else set()
        missing += sorted(f"bbox_{split}/{path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}" for path in lost)
        kept, rows_kept[split] = [], []
        for row, tracklet in enumerate(published):
            frames = tuple(path for path in tracklet.frames if path not in lost) if lost else tracklet.frames
            if frames:
                rows_kept[split].append(row)
                kept.append(Tracklet(tracklet.id, tracklet.person, tracklet.camera, frames))
            else:
                empty.append(tracklet.id)
        if published and not kept:
            raise FileNotFoundError(
                f"None of the images that {split}_name.txt names is on the disk: unpack bbox_{split}.zip into the "
                f"root, or pass check_files=False to read the index alone. Received: root={str(root)!r}"
            )
        tracklets[split] = tuple(kept)
    queries = _query_rows(info / "query_IDX.mat", len(tracklets["test"]) + sum(i.startswith("test/") for i in empty))
    new_row = {row: new for new, row in enumerate(rows_kept["test"])}
    return ReidDataset(
        name="MARS" if len(tracklets["test"]) > 12_000 else root.name,
        train=tracklets["train"],
        test=tracklets["test"],
        query_rows=tuple(new_row[row] for row in queries if row in new_row),
        missing=tuple(missing),
        empty=tuple(empty),
    )


def _read_names(info, name):
    plain, packed = info / name, info / f"{name}.xz"
    for path, opened in ((plain, open), (packed, lzma.open)):
        if path.is_file():
            try:
                with opened(path, "rt", encoding="ascii") as lines:
                    return lines.read().split()
            except _UNREADABLE as error:
                raise _damaged(path, error) from error
    raise FileNotFoundError(
        f"{name} (or {name}.xz) is missing beside the other index files. Received: info={str(info)!r}"
    )


def _read_matrix(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.name} is missing beside the other index files. Received: info={str(path.parent)!r}"
        )
    try:
        matrices = [value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")]
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    if len(matrices) != 1 or not isinstance(matrices[0], np.ndarray) or matrices[0].dtype.kind not in "iuf":
        raise ValueError(f"{path.name} must hold exactly one matrix of numbers. Received: path={str(path)!r}")
    return matrices[0].astype(np.int64)


def _damaged(path, error):
    return ValueError(
        f"{path.name} is damaged or of another format ({type(error).__name__}: {error}); fetch the published file "
        f"anew. Received: path={str(path)!r}"
    )


def _tracklets(folder, split, names, tracks):
    if tracks.shape[1] != 4:
        raise ValueError(
            f"tracks_{split}_info.mat must have the columns start, end, person, camera. Received: shape={tracks.shape}"
        )
    published, seen = [], {}
    for row, (start, end, person, camera) in enumerate(tracks.tolist(), start=1):
        where = f"row {row} of tracks_{split}_info.mat"
        if not 1 <= start <= end <= len(names):
            raise ValueError(
                f"{where} points outside {split}_name.txt, which has {len(names)} names. Received: "
                f"(start, end)={(start, end)}"
            )
        if person < JUNK:
            raise ValueError(f"{where} has an impossible person: -1, 0 or more is meant. Received: person={person}")
        prefix = f"{_person_prefix(person)}C{camera}"
        frames = names[start - 1 : end]
        strange = [name for name in frames if not name.startswith(prefix)]
        if strange:
            raise ValueError(
                f"{where} says person {person} in camera {camera}, so names must begin with {prefix!r}: the index and "
                f"{split}_name.txt are of different versions. Received: name={strange[0]!r}"
            )
        # Sub-sets may cut one published track into several.
        track = f"{split}/{frames[0].split('F')[0]}"
        seen[track] = seen.get(track, 0) + 1
        published.append(
            Tracklet(
                id=track if seen[track] == 1 else f"{track}#{seen[track]}",
                person=person,
                camera=camera,
                frames=tuple(f"{folder}/{name[:4]}/{name}" for name in frames),
            )
        )
    return published


def _person_prefix(person):
    return "00-1" if person == JUNK else f"{person:04d}"


def _missing_files(root, split, tracklets):
    folders = {}
    lost = set()
    for tracklet in tracklets:
        for path in tracklet.frames:
            folder, name = path.rsplit("/", 1)
            if folder not in folders:
                folders[folder] = _listing(folder)
            if name not in folders[folder]:
                lost.add(path)
    return lost


def _listing(folder):
    if not os.path.isdir(folder):
        return frozenset()
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries)


def _query_rows(path, count):
    rows = _read_matrix(path).ravel() - 1
    outside = rows[(rows < 0) | (rows >= count)]
    if outside.size:
        raise ValueError(
            f"query_IDX.mat must hold rows of tracks_test_info.mat, 1 to {count}. "
            f"Received: query_IDX={(outside + 1)[:5].tolist()}"
        )
    return rows.tolist()
