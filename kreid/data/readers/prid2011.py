"""PRID2011, the multi-shot part, as published: one folder of images per camera and person."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kreid.data.readers.listing import contents_of, find_below, image_files, subfolders
from kreid.data.readers.person_splits import (
    camera_folders,
    check_number,
    drawn_split,
    find_cameras,
    find_split_file,
    published_split,
    two_cameras,
)
from kreid.data.readers.published import with_published_counts
from kreid.data.tracklet import ReidDataset

CAMERAS = ("cam_a", "cam_b")
_PLACES = (("multi_shot",), ("prid_2011", "multi_shot"), ())
_SPLIT_FILES = ("splits_prid2011.json", "splits.json")
# Above this number, folders of one name are of different people in the two cameras.
_IN_BOTH = 200
_FEWEST_FRAMES = 27
_PERSON = re.compile(r"person_(\d{4})")


def read_prid2011(root: str | os.PathLike[str], split: int = 1, persons: int = 178) -> ReidDataset:
    """Read one of the ten splits of PRID2011.

    Homepage:
    https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/.

    Expected under `root`: `multi_shot/cam_a/person_0001/0001.png`, the same for
    `cam_b`, and optionally `splits_prid2011.json`, a list of ten `{"train":
    [folder names], "test": [folder names]}`, in the root or next to the cameras;
    any other JSON or MATLAB file with `split` in its name counts too. Without
    such a file the ten splits are drawn from a fixed seed, and the summary
    reports it. The folders may also be one or two levels further down, with
    names in another letter case.

    Camera a recorded 385 persons and camera b 749; the first 200 are in both,
    and only they count. The papers' figures are multiples of 1/89: they use the
    178 persons with at least 27 frames in both cameras, 89 to train on and 89 to
    test on.

    `summary()` compares with these counts, and for all 200 persons with the
    40,033 frames of Li et al., 2019, table 1.

    Args:
        root: folder with this content.
        split: number of the split, from 1 to 10.
        persons: 178, or 200 for all persons in both cameras.

    Returns:
        A `ReidDataset`: the queries are camera a's tracklets of the test
        persons, the gallery is camera b's. `empty` names the tracklets of the
        split without an image.

    Raises:
        FileNotFoundError: if the cameras' folders are missing or have no image.
        ValueError: if `split` is not from 1 to 10, `persons` is neither 178 nor
            200, or the file of splits contradicts itself.

    Reference: Hirzer et al., Person Re-Identification by Descriptive and
    Discriminative Classification, 2011; Wang et al., Person Re-Identification
    by Video Ranking, 2014, for the 178 persons.
    """
    root = Path(root).absolute()
    check_number(split)
    if persons not in (178, _IN_BOTH):
        raise ValueError(f"`persons` must be 178 or 200. Received: persons={persons!r}")
    place = find_below(root, find_multi_shot)
    folders = camera_folders(place, CAMERAS)
    if place is None or folders is None:
        raise FileNotFoundError(
            "PRID2011 is <root>/multi_shot/cam_a/person_0001/0001.png, and cam_b next to it; "
            f"{contents_of(place or root)}. Received: root={str(root)!r}"
        )
    file = find_split_file([root, *(top for top in (place.parent, place) if root in top.parents)], _SPLIT_FILES)
    chosen = None
    if file is not None:
        names = {folder.name for camera in folders for folder in subfolders(camera) if _number(folder.name)}
        chosen = published_split(file, split, sorted(names))
    # A file with splits of the 178 persons cannot split the 200.
    if chosen is None or (persons == _IN_BOTH and len(chosen.train + chosen.test) < _IN_BOTH):
        chosen = drawn_split(_persons(folders, persons, root), split)
    dataset = two_cameras(root, folders, chosen, _number)
    half = persons // 2
    published = {
        **{"train persons": half, "train tracklets": persons, "test persons": half, "test tracklets": persons},
        **{"queries": half, "cameras": 2},
        **({"frames": 40_033} if persons == _IN_BOTH else {}),
    }
    return with_published_counts(dataset, "PRID2011", published)


def find_multi_shot(root: Path) -> Path | None:
    """Return the folder of the cameras' folders below the root, or `None`."""
    return find_cameras(root, _PLACES, CAMERAS[0])


def _persons(folders: Sequence[Path], persons: int, root: Path) -> set[str]:
    """Return the folder names of the persons in both cameras; for 178, only those with enough frames in both."""
    fewest = 1 if persons == _IN_BOTH else _FEWEST_FRAMES
    long_enough = [
        {folder.name for folder in subfolders(place) if _number(folder.name) and len(image_files(folder)) >= fewest}
        for place in folders
    ]
    names = long_enough[0] & long_enough[1]
    if len(names) < 4:
        raise FileNotFoundError(
            f"Splits need four persons with {fewest} frames or more in both cameras; persons=200 also accepts fewer "
            f"frames. Received: {len(names)} persons in root={str(root)!r}"
        )
    return names


def _number(name: str) -> int | None:
    match = _PERSON.fullmatch(name)
    return int(match[1]) if match and 1 <= int(match[1]) <= _IN_BOTH else None
