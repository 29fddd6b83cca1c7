"""PRID2011, the multi-shot part, as published: a folder of images for each person and camera."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kreid.data.readers.listing import contents_of, find_below, image_files, inside, subfolders
from kreid.data.readers.person_splits import check_number, drawn_split, find_split_file, published_split, two_cameras
from kreid.data.readers.published import compared
from kreid.data.tracklet import ReidDataset

CAMERAS = ("cam_a", "cam_b")
_PLACES = (("multi_shot",), ("prid_2011", "multi_shot"), ())
_SPLIT_FILES = ("splits_prid2011.json", "splits.json")
# Persons above are other people in each camera, whatever their folders' names.
_IN_BOTH = 200
_FEWEST_FRAMES = 27
_PERSON = re.compile(r"person_(\d{4})")


def read_prid2011(root: str | os.PathLike[str], split: int = 1, persons: int = 178) -> ReidDataset:
    """Read one of the ten splits of PRID2011.

    Homepage:
    https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/.

    Expected under `root`: `multi_shot/cam_a/person_0001/0001.png` and so on, the
    same in `cam_b`, and, optionally, `splits_prid2011.json`, a list of
    ten `{"train": [folder names], "test": [folder names]}`, in the root or
    next to the cameras; any other JSON or MATLAB file with `split` in its name
    counts too. Without that file the ten splits are drawn from a fixed
    seed, and the summary says so. The root may also be one or two folders
    further down, and names in another letter case.

    385 persons were seen by camera a and 749 by camera b; the first 200 by
    both, and only they count. The papers' figures are multiples of 1/89: they
    take the 178 persons who have at least 27 frames in both cameras, 89 to
    train on and 89 to test on.

    The counts that `summary()` compares with are those of the convention,
    and for all 200 persons the 40,033 frames of Li et al., 2019, table 1.

    Args:
        root: the folder that holds the above.
        split: number of the split, from 1 to 10.
        persons: 178, or 200 for everybody seen by both cameras.

    Returns:
        A `ReidDataset`: queries are camera a's tracklets of the test persons,
        the gallery is camera b's. Persons of the split who have no image are
        named in `empty`.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if the split or the number of persons is none of these, or
            the file of splits contradicts itself.

    Reference: Hirzer et al., Person Re-Identification by Descriptive and
    Discriminative Classification, 2011; Wang et al., Person Re-Identification
    by Video Ranking, 2014, for the 178 persons.
    """
    root = Path(root).absolute()
    check_number(split)
    if persons not in (178, _IN_BOTH):
        raise ValueError(f"PRID2011 is read with 178 or 200 persons. Received: persons={persons!r}")
    place = find_below(root, find_multi_shot)
    cameras = [inside(place, camera) for camera in CAMERAS] if place is not None else [None, None]
    folders = [camera for camera in cameras if camera is not None]
    if place is None or len(folders) < len(CAMERAS):
        raise FileNotFoundError(
            "PRID2011 is <root>/multi_shot/cam_a/person_0001/0001.png, and cam_b next to it; "
            f"{contents_of(place or root)}. Received: root={str(root)!r}"
        )
    file = find_split_file([root, *(top for top in (place.parent, place) if root in top.parents)], _SPLIT_FILES)
    chosen = None
    if file is not None:
        names = {folder.name for camera in folders for folder in subfolders(camera) if _number(folder.name)}
        chosen = published_split(file, split, sorted(names))
    # A file of the 178 persons' splits says nothing of the 200.
    if chosen is None or (persons == _IN_BOTH and len(chosen.train + chosen.test) < _IN_BOTH):
        chosen = drawn_split(_persons(folders, persons, root), split)
    dataset = two_cameras(root, folders, chosen, _number)
    half = persons // 2
    published = {
        **{"train persons": half, "train tracklets": persons, "test persons": half, "test tracklets": persons},
        **{"queries": half, "cameras": 2},
        **({"frames": 40_033} if persons == _IN_BOTH else {}),
    }
    return compared(dataset, "PRID2011", published)


def find_multi_shot(root: Path) -> Path | None:
    """Find the folder of the cameras' folders below the root; `None` where there is none."""
    for place in _PLACES:
        path = inside(root, *place)
        camera = inside(path, CAMERAS[0]) if path is not None else None
        if path is not None and camera is not None and camera.is_dir():
            return path
    return None


def _persons(folders: Sequence[Path], persons: int, root: Path) -> set[str]:
    """Folder names of the persons in both cameras; with 178, of those who were long enough in both."""
    fewest = 1 if persons == _IN_BOTH else _FEWEST_FRAMES
    long_enough = [
        {folder.name for folder in subfolders(place) if _number(folder.name) and len(image_files(folder)) >= fewest}
        for place in folders
    ]
    names = long_enough[0] & long_enough[1]
    if len(names) < 4:
        raise FileNotFoundError(
            f"Splits need four persons with {fewest} frames or more in both cameras; persons=200 takes those with "
            f"fewer frames too. Received: {len(names)} persons in root={str(root)!r}"
        )
    return names


def _number(name: str) -> int | None:
    match = _PERSON.fullmatch(name)
    return int(match[1]) if match and 1 <= int(match[1]) <= _IN_BOTH else None
