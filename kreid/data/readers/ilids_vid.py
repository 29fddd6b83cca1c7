"""iLIDS-VID, as published: a folder of images for each person and camera."""

import os
import re
from pathlib import Path

from kreid.data.readers.listing import contents_of, find_below, inside, subfolders
from kreid.data.readers.person_splits import check_number, drawn_split, find_split_file, published_split, two_cameras
from kreid.data.readers.published import compared
from kreid.data.tracklet import ReidDataset

CAMERAS = ("cam1", "cam2")
_PLACES = (("i-LIDS-VID", "sequences"), ("sequences",))
_SPLIT_FOLDER = "train-test people splits"
# The official file, then lists made from it, by the names under which they are published.
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

    Expected under `root`: `i-LIDS-VID/sequences/cam1/person001/*.png` and so on,
    the same in `cam2` (or `sequences/` in the root itself). The root may also
    be one or two folders further down, and names in another letter case. The ten
    splits are read from the first of these files, in the root, in
    `i-LIDS-VID/` or in `train-test people splits/`:

    - `train_test_splits_ilidsvid.mat`, the official file: `ls_set`, ten rows of
      the persons' numbers among the *sorted* folders, counted from 1, test
      persons first;
    - `ilidsvid_splits_rebuilt.json`: the same `ls_set`, with the folders' names
      as `person_dirs`;
    - `splits_ilids_vid.json`, `ilidsvid_splits_torchreid_style.json` or, as
      torchreid writes it, `splits.json`: a list of ten `{"train": [folder
      names], "test": [folder names]}`;
    - any other JSON or MATLAB file with `split` in its name, of one of these
      forms.

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
    place = find_below(root, find_sequences)
    cameras = [inside(place, camera) for camera in CAMERAS] if place is not None else [None, None]
    folders = [camera for camera in cameras if camera is not None]
    if place is None or len(folders) < len(CAMERAS):
        raise FileNotFoundError(
            "iLIDS-VID is <root>/i-LIDS-VID/sequences/cam1/person001/*.png, and cam2 next to it; "
            f"{contents_of(place or root)}. Received: root={str(root)!r}"
        )
    # Of both cameras, so that a person lost from one does not shift the numbers of the others.
    names = sorted({folder.name for camera in folders for folder in subfolders(camera) if _number(folder.name)})
    tops = [root, *(top for top in (place.parent, place.parent.parent) if root in top.parents)]
    file = find_split_file([*tops, *(inside(top, _SPLIT_FOLDER) for top in tops)], _SPLIT_FILES)
    chosen = drawn_split(names, split) if file is None else published_split(file, split, names)
    return compared(two_cameras(root, folders, chosen, _number), "iLIDS-VID", PUBLISHED)


def find_sequences(root: Path) -> Path | None:
    """Find the folder of the cameras' folders below the root; `None` where there is none."""
    for place in _PLACES:
        path = inside(root, *place)
        camera = inside(path, CAMERAS[0]) if path is not None else None
        if path is not None and camera is not None and camera.is_dir():
            return path
    return None


def _number(name: str) -> int | None:
    match = _PERSON.fullmatch(name)
    # There is no person 0, which would be a distractor.
    return int(match[1]) or None if match else None
