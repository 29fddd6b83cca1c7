"""MARS, as published: two folders of boxes and five index files."""

import os
from pathlib import Path

from kreid.data.readers.index import FIX, check_columns, find_file, query_rows, read_lines, read_matrix
from kreid.data.readers.listing import LostFiles, below, contents_of, find_below, inside, look_up
from kreid.data.readers.published import with_published_counts
from kreid.data.tracklet import DISTRACTOR, JUNK, ReidDataset, Tracklet

PUBLISHED = {
    "train persons": 625,
    "train tracklets": 8_298,
    "train frames": 509_914,
    "test tracklets": 12_180,
    "test frames": 681_089,
    "queries": 1_980,
    "distractors": 3_248,
    "junk": 870,
    "cameras": 6,
}
_INDEX = "tracks_train_info.mat"


def read_mars(root: str | os.PathLike[str], check_files: bool = True) -> ReidDataset:
    """Read MARS, or any data set in its layout.

    Homepage: http://www.liangzheng.com.cn/Project/project_mars.html, and for the
    index https://github.com/liangzheng06/MARS-evaluation.

    Expected under `root`: `bbox_train/`, `bbox_test/`, and in `info/` (or in
    `root` itself) `train_name.txt`, `test_name.txt` (either may be `.txt.xz`),
    `tracks_train_info.mat`, `tracks_test_info.mat` and `query_IDX.mat`. The
    image of the name `0002C1T0001F001.jpg` is `bbox_train/0002/` + that name;
    junk has the prefix and folder `00-1`. All of this may also be in a folder
    below `root`, in another letter case, or unpacked a level too deep
    (`bbox_train/bbox_train`).

    `summary()` compares with the counts of the published index: 8,298 train
    tracklets of 625 persons, 509,914 frames; 12,180 test tracklets, 681,089
    frames, of which 1,980 tracklets are queries, 870 junk and 3,248 distractors.

    Args:
        root: folder with this content.
        check_files: whether to look up every image on the disk. Missing files
            are removed from their tracklets and named in `missing`. Without the
            check no image folder is opened.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if an index file or every image of a split is
            missing.
        ValueError: if an index file cannot be read, or the index contradicts
            itself.

    Reference: Zheng et al., MARS: A Video Benchmark for Large-Scale Person
    Re-identification, 2016.
    """
    root = Path(root).absolute()
    info = find_below(root, find_index)
    if info is None:
        raise FileNotFoundError(
            "MARS's index is missing: put tracks_train_info.mat and its four companions into <root>/info; "
            f"{contents_of(root)}. Received: root={str(root)!r}"
        )
    # The boxes are next to the folder of the index, or next to the index itself.
    top = info.parent if info.name.lower() == "info" else info
    missing: list[str] = []
    empty: list[str] = []
    others: list[str] = []
    tracklets: dict[str, tuple[Tracklet, ...]] = {}
    present_rows: dict[str, list[int]] = {}
    for split in ("train", "test"):
        names = read_lines(find_file(info, f"{split}_name.txt", f"{split}_name.txt.xz"))
        table = info / f"tracks_{split}_info.mat"
        boxes = inside(top, f"bbox_{split}") or top / f"bbox_{split}"
        published = _tracklets(boxes, split, names, table)
        lost = look_up(published, boxes if boxes.is_dir() else top) if check_files else LostFiles({}, set(), ())
        others += lost.others
        missing += sorted(f"bbox_{split}/{path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}" for path in lost.missing)
        present, present_rows[split] = [], []
        for row, tracklet in enumerate(published):
            frames = tuple(lost.moved.get(path, path) for path in tracklet.frames if path not in lost.missing)
            if frames:
                present_rows[split].append(row)
                present.append(Tracklet(tracklet.id, tracklet.person, tracklet.camera, frames))
            else:
                empty.append(tracklet.id)
        if published and not present:
            raise FileNotFoundError(
                f"None of the images that {split}_name.txt names is on the disk: unpack bbox_{split}.zip into the "
                f"root, or pass check_files=False to read the index alone. The first would be "
                f"{published[0].frames[0]}, but {contents_of(boxes)}. Received: root={str(root)!r}"
            )
        tracklets[split] = tuple(present)
    path = find_file(info, "query_IDX.mat")
    queries = query_rows(read_matrix(path), len(published), path, table.name)
    unmatched = [row for row in queries if published[row].person <= DISTRACTOR]
    if unmatched:
        raise ValueError(
            f"{path.name} names {len(unmatched)} rows of junk or distractors, which match no tracklet: it is of "
            f"another version than {table.name}; {FIX}. Received: query={unmatched[0] + 1}"
        )
    new_row = {row: new for new, row in enumerate(present_rows["test"])}
    dataset = ReidDataset(
        name=root.name,
        train=tracklets["train"],
        test=tracklets["test"],
        query_rows=tuple(new_row[row] for row in queries if row in new_row),
        missing=tuple(missing),
        empty=tuple(empty),
        skipped_files=below(root, others),
    )
    return with_published_counts(dataset, "MARS", PUBLISHED)


def find_index(root: Path) -> Path | None:
    """Return the folder of the index, which is `info` below the root or the root itself, or `None`."""
    for path in (inside(root, "info", _INDEX), inside(root, _INDEX)):
        if path is not None and path.is_file():
            return path.parent
    return None


def _tracklets(folder: Path, split: str, names: list[str], table: Path) -> list[Tracklet]:
    tracks = read_matrix(find_file(table.parent, table.name))
    check_columns(tracks, table)
    published = []
    seen: dict[str, int] = {}
    for row, (start, end, person, camera) in enumerate(tracks.tolist(), start=1):
        where = f"row {row} of {table.name}"
        if not 1 <= start <= end <= len(names):
            raise ValueError(
                f"{where} points outside {split}_name.txt, which has {len(names)} names; {FIX}. Received: "
                f"(start, end)={(start, end)}"
            )
        if person < JUNK:
            raise ValueError(
                f"{where} has an impossible person, which must be -1, 0 or more; {FIX}. Received: person={person}"
            )
        prefix = f"{_person_prefix(person)}C{camera}"
        frames = names[start - 1 : end]
        strange = [name for name in frames if not name.startswith(prefix)]
        if strange:
            raise ValueError(
                f"{where} says person {person} in camera {camera}, so names must begin with {prefix!r}: the index and "
                f"{split}_name.txt are of different versions; {FIX}. Received: name={strange[0]!r}"
            )
        # Subsets may cut one published track into several.
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


def _person_prefix(person: int) -> str:
    return "00-1" if person == JUNK else f"{person:04d}"
