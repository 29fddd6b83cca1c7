"""Folders of single images of persons, for training on images."""

import os
import re
from pathlib import Path

from kreid.data.readers.listing import image_files, subfolders
from kreid.data.tracklet import ReidDataset, Tracklet

# Market-1501's names, which CUHK03 and DukeMTMC-reID are commonly converted to: person, camera, whatever else.
_MARKET = re.compile(r"(?P<person>-1|\d+)_c(?P<camera>\d+)")


def read_images(roots):
    """Reads folders of single images and merges them into one train set of disjoint persons.

    Each folder is laid out in one of two ways, told apart by what it holds:

    - images named as in Market-1501, `0002_c1s1_000451_03.jpg` (person 2, camera 1): junk (`-1`) and distractors
      (`0000`) are left out;
    - one folder per person, of any name, with images inside: all of one camera.

    Persons and cameras of different folders are different, and are numbered from 1 in the order of the folders, then
    of their names. Every image is a tracklet of one frame.

    Args:
        roots: one path, or a sequence of them.

    Returns:
        A `ReidDataset` without a test set.

    Raises:
        FileNotFoundError: if a folder is not there or holds no image of a person.
        ValueError: if no folder is given, or an image's name does not say the person.
    """
    roots = [roots] if isinstance(roots, (str, os.PathLike)) else list(roots)
    if not roots:
        raise ValueError(f"Give at least one folder of images. Received: roots={roots!r}")
    train, persons, cameras = [], {}, {}
    for number, root in enumerate(map(Path, roots)):
        found = _read_one(root.absolute())
        for person, camera, path in found:
            person = persons.setdefault((number, person), len(persons) + 1)
            camera = cameras.setdefault((number, camera), len(cameras) + 1)
            train.append(Tracklet(f"{number}/{Path(path).parent.name}/{Path(path).name}", person, camera, (path,)))
    return ReidDataset(
        name="+".join(root.name for root in map(Path, roots)),
        train=tuple(train),
        test=(),
        query_rows=(),
        person_names={number: name for (_, name), number in persons.items()},
        camera_names={number: name for (_, name), number in cameras.items()},
    )


def _read_one(root):
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder of images at this path. Received: root={str(root)!r}")
    images = image_files(root)
    found = _read_market(images) if images else _read_person_folders(root)
    if not found:
        raise FileNotFoundError(
            "A folder of images holds 0002_c1s1_000451_03.jpg and the like, or a folder with images for each person. "
            f"Received: root={str(root)!r}"
        )
    return found


def _read_market(images):
    found = []
    for path in images:
        name = _MARKET.match(Path(path).name)
        if name is None:
            raise ValueError(
                f"Images beside each other are named person_cCAMERA..., as 0002_c1s1_000451_03.jpg. Received: {path!r}"
            )
        if int(name["person"]) > 0:
            found.append((name["person"], name["camera"], path))
    return found


def _read_person_folders(root):
    return [(folder.name, "1", path) for folder in subfolders(root) for path in image_files(folder)]
