"""iLIDS-VID, as published: one folder of images per camera and person."""

import os
import re
from pathlib import Path

from kreid.data.readers.listing import contents_of, find_below, inside, subfolders
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

CAMERAS = ("cam1", "cam2")
_PLACES = (("i-LIDS-VID", "sequences"), ("sequences",))
_SPLIT_FOLDER = "train-test people splits"
# The official file, then lists derived from it, under the names of their publication.
_SPLIT_FILES = (
    *("train_test_splits_ilidsvid.mat", "ilidsvid_splits_rebuilt.json"),
    *("splits_ilids_vid.json", "ilidsvid_splits_torchreid_style.json", "splits.json"),
)
_PERSON = re.compile(r"person(\d{3})")

PUBLISHED = {
    **{"train persons": 150, "train tracklets": 300, "test persons": 150, "test tracklets": 300},
    **{"queries": 150, "cameras": 2, "frames": 42_460},
}


def read_ilids_vid(root: str | os.PathLike[str], split: int = 1) -> ReidDataset:
    """Read one of the ten splits of iLIDS-VID.

    Homepage:
    http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html.

    Expected under `root`: `i-LIDS-VID/sequences/cam1/person001/*.png` and the
    same for `cam2` (or `sequences/` directly in `root`). They may also be one or
    two folders further down, with names in another letter case. The ten splits
    are read from the first of these files in `root`, in `i-LIDS-VID/` or in
    `train-test people splits/`:

    - `train_test_splits_ilidsvid.mat`, the official file: `ls_set`, ten rows of
      the persons' numbers among the *sorted* folders, counted from 1, test
      persons first;
    - `ilidsvid_splits_rebuilt.json`: the same `ls_set`, with the folders' names
      as `person_dirs`;
    - `splits_ilids_vid.json`, `ilidsvid_splits_torchreid_style.json` or
      torchreid's `splits.json`: a list of ten `{"train": [folder names],
      "test": [folder names]}`;
    - any other JSON or MATLAB file with `split` in its name and one of these
      forms.

    Without such a file the ten splits are drawn from a fixed seed, and the
    summary reports it.

    `summary()` compares with 300 persons and 600 tracklets (Wang et al., 2014),
    halved, and 42,460 frames (Li et al., 2019, table 1).

    Args:
        root: folder with this content.
        split: number of the split, from 1 to 10.

    Returns:
        A `ReidDataset`: the queries are camera 1's tracklets of the test
        persons, the gallery is camera 2's. `empty` names the tracklets of the
        split without an image.

    Raises:
        FileNotFoundError: if the cameras' folders are missing or have no image.
        ValueError: if `split` is not from 1 to 10, or the file of splits
            contradicts itself or the folders.

    Reference: Wang et al., Person Re-Identification by Video Ranking, 2014.
    """
    root = Path(root).absolute()
    check_number(split)
    place = find_below(root, find_sequences)
    folders = camera_folders(place, CAMERAS)
    if place is None or folders is None:
        raise FileNotFoundError(
            "iLIDS-VID is <root>/i-LIDS-VID/sequences/cam1/person001/*.png, and cam2 next to it; "
            f"{contents_of(place or root)}. Received: root={str(root)!r}"
        )
    # From both cameras, so that a folder missing in one does not shift the persons' numbers.
    names = sorted({folder.name for camera in folders for folder in subfolders(camera) if _number(folder.name)})
    tops = [root, *(top for top in (place.parent, place.parent.parent) if root in top.parents)]
    file = find_split_file([*tops, *(inside(top, _SPLIT_FOLDER) for top in tops)], _SPLIT_FILES)
    chosen = drawn_split(names, split) if file is None else published_split(file, split, names)
    return with_published_counts(two_cameras(root, folders, chosen, _number), "iLIDS-VID", PUBLISHED)


def find_sequences(root: Path) -> Path | None:
    """Return the folder of the cameras' folders below the root, or `None`."""
    return find_cameras(root, _PLACES, CAMERAS[0])


def _number(name: str) -> int | None:
    match = _PERSON.fullmatch(name)
    # There is no person 0, which would be a distractor.
    return int(match[1]) or None if match else None
