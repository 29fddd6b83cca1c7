"""iLIDS-VID, as published: a folder of images for each person and camera."""

import re
from pathlib import Path

from kreid.data.readers.listing import subfolders
from kreid.data.readers.published import compared
from kreid.data.readers.splits import check_number, drawn_split, listed_split, numbered_split, two_cameras

CAMERAS = ("cam1", "cam2")
PLACES = ("i-LIDS-VID/sequences", "sequences")
# The official file, then lists made from it, by the names under which they go round.
_MAT = "train_test_splits_ilidsvid.mat"
_NUMBERED = ("train-test people splits/" + _MAT, _MAT, "ilidsvid_splits_rebuilt.json")
_LISTED = ("splits_ilids_vid.json", "ilidsvid_splits_torchreid_style.json")
_PERSON = re.compile(r"person(\d{3})")

PUBLISHED = {
    **{"train persons": 150, "train tracklets": 300, "test persons": 150, "test tracklets": 300},
    **{"queries": 150, "cameras": 2, "frames": 42_460},
}


def read_ilids_vid(root, split=1):
    """Reads one of the ten splits of iLIDS-VID.

    Expected under `root`: `i-LIDS-VID/sequences/cam1/person001/*.png` and so on,
    the same in `cam2` (or `sequences/` in the root itself). The ten splits are
    read from the first of these in the root that is there:

    - `train-test people splits/train_test_splits_ilidsvid.mat`, the official
      file, also without its folder: `ls_set`, ten rows of the persons' numbers
      among the *sorted* folders, counted from 1, test persons first;
    - `ilidsvid_splits_rebuilt.json`: the same `ls_set`, with the folders' names
      as `person_dirs`;
    - `splits_ilids_vid.json` or `ilidsvid_splits_torchreid_style.json`: a list
      of ten `{"train": [folder names], "test": [folder names]}`.

    Without any the ten splits are drawn from a fixed seed, and the summary says
    so.

    The counts that `summary()` compares with: 300 persons and 600 tracklets of
    Wang et al., 2014, halved; 42,460 frames of Li et al., 2019, table 1.

    Args:
        root: the folder that holds the above.
        split: number of the split, from 1 to 10.

    Returns:
        A `ReidDataset`: queries are camera 1's tracklets of the test persons,
        the gallery is camera 2's. Persons of the split who have no image are
        named in `empty`.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if the split is none of the ten, or the file of splits
            contradicts itself or the folders.

    Reference: Wang et al., Person Re-Identification by Video Ranking, 2014.
    """
    root = Path(root).absolute()
    check_number(split)
    place = next((root / name for name in PLACES if (root / name / CAMERAS[0]).is_dir()), None)
    if place is None or not (place / CAMERAS[1]).is_dir():
        raise FileNotFoundError(
            "iLIDS-VID is <root>/i-LIDS-VID/sequences/cam1/person001/*.png, and cam2 beside it. "
            f"Received: root={str(root)!r}"
        )
    folders = [place / camera for camera in CAMERAS]
    # Either camera's, so that a person lost from one does not shift the numbers of the others.
    names = sorted({folder.name for camera in folders for folder in subfolders(camera) if _number(folder.name)})
    chosen = _published_split(root, split, names) or drawn_split(names, split)
    return compared(two_cameras(root, folders, chosen, _number), "iLIDS-VID", PUBLISHED)


def _published_split(root, number, names):
    for folder in (root, root / "i-LIDS-VID"):
        for file in _NUMBERED:
            if (folder / file).is_file():
                return numbered_split(folder / file, number, names)
        for file in _LISTED:
            if (folder / file).is_file():
                return listed_split(folder / file, number)
    return None


def _number(name):
    found = _PERSON.fullmatch(name)
    # There is no person 0, which would be a distractor.
    return int(found[1]) or None if found else None
