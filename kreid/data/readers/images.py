"""Folders of single images of persons, for image training."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kreid.data.names import naming_remarks, number_persons, parse_frame_name, person_key
from kreid.data.readers.listing import below, contents_of, list_folder
from kreid.data.tracklet import ReidDataset, Tracklet

# Folders of Market-1501 and of sets with its layout, in the order of suggestion.
_MARKET_FOLDERS = ("bounding_box_train", "bounding_box_test", "query", "gt_bbox")


class _Image(NamedTuple):
    person: str
    camera: int
    path: str


def read_images(roots: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> ReidDataset:
    """Read folders of single images and merge them into one train set of disjoint persons.

    Each folder has one of two layouts, recognised by its contents:

    - images named as in Market-1501, `0002_c1s1_000451_03.jpg` (person 2, camera 1);
    - one folder per person, of any name, with images inside. Their camera is read from their names if all have one of
      the known forms; otherwise all are of camera 1.

    Homepage of Market-1501: https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html.

    Junk (`-1`, `junk`) and distractors (`0000`, `distractor`) are left out. Persons and cameras of different folders
    count as different, and are numbered from 1 in the order of the folders, then of their names; `7` and `0007` are one
    person. Every image is a tracklet of one frame.

    Args:
        roots: one path, or a sequence of paths.

    Returns:
        A `ReidDataset` without a test set.

    Raises:
        FileNotFoundError: if a folder is missing or has no image of a person.
        ValueError: if no folder is given, the person is missing in an image's name, or the images in one person's
            folder are of several persons by their names, so that the folder is the root of a data set.

    Example:

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("0002_c1s1_000451_03.jpg", "0007_c2s1_000001_01.jpg", "-1_c1s1_000002_01.jpg"):
    ...     (root / name).touch()
    >>> [(tracklet.person, tracklet.camera) for tracklet in read_images(root).train]
    [(1, 1), (2, 2)]
    """
    roots = [roots] if isinstance(roots, (str, os.PathLike)) else list(roots)
    if not roots:
        raise ValueError(f"Give at least one folder of images. Received: roots={roots!r}")
    train: list[Tracklet] = []
    others: list[str] = []
    remarks: list[str] = []
    person_names: dict[int, str] = {}
    camera_names: dict[int, str] = {}
    for number, root in enumerate(Path(root).absolute() for root in roots):
        images, unread = _read_one(root)
        others += below(root.parent, unread)
        numbers, names = number_persons(image.person for image in images)
        remarks += naming_remarks(numbers, ())
        left_out = sorted({name for name, person in numbers.items() if person <= 0})
        if left_out:
            remarks.append(f"distractors and junk left out of {root.name}: {', '.join(left_out)}")
        images = [image for image in images if numbers[image.person] > 0]
        if not images:
            raise FileNotFoundError(f"All images are of distractors or junk. Received: root={str(root)!r}")
        cameras = {
            camera: len(camera_names) + place
            for place, camera in enumerate(dict.fromkeys(image.camera for image in images), start=1)
        }
        before = len(person_names)
        for person, camera, path in images:
            name = f"{number}/{Path(path).parent.name}/{Path(path).name}"
            train.append(Tracklet(name, before + numbers[person], cameras[camera], (path,)))
        person_names |= {before + person: name for person, name in names.items()}
        camera_names |= {place: str(camera) for camera, place in cameras.items()}
    return ReidDataset(
        name="+".join(Path(root).name for root in roots),
        train=tuple(train),
        test=(),
        query_rows=(),
        person_names=person_names,
        camera_names=camera_names,
        skipped_files=tuple(others),
        remarks=tuple(remarks),
    )


def _read_one(root: Path) -> tuple[list[_Image], list[str]]:
    """Return the images of a folder, and its other files."""
    if not root.is_dir():
        raise FileNotFoundError(f"The folder of images is missing. Received: root={str(root)!r}")
    top = list_folder(root)
    if top.images:
        return _read_market(top.images), list(top.others)
    images, others = [], list(top.others)
    for folder in top.folders:
        listing = list_folder(folder)
        others += listing.others
        names = [parse_frame_name(Path(path).name) for path in listing.images]
        persons = {person_key(name.person) for name in names if name is not None}
        numbered = isinstance(person_key(folder.name), int)
        if len(persons) > 1 or (numbered and not persons <= {person_key(folder.name)}):
            own = person_key(folder.name) if numbered else next(person_key(name.person) for name in names if name)
            other = next(
                path
                for path, name in zip(listing.images, names, strict=True)
                if name is not None and person_key(name.person) != own
            )
            raise ValueError(
                f"The images in {folder.name}/ are of other persons by their names, such as "
                f"{Path(other).name}: {_suggestion(root)}. Received: root={str(root)!r}"
            )
        all_named = all(names)
        images += [
            _Image(folder.name, name.camera if all_named and name else 1, path)
            for name, path in zip(names, listing.images, strict=True)
        ]
    if not images:
        unread = f", and {len(others)} files such as {others[0]}, which kreid does not read" if others else ""
        raise FileNotFoundError(
            "The folder must have images named like 0002_c1s1_000451_03.jpg, or one folder of images per person; "
            f"{contents_of(root)}{unread}. Received: root={str(root)!r}"
        )
    return images, others


def _suggestion(root: Path) -> str:
    folders = {folder.name.lower(): folder for folder in list_folder(root).folders}
    parts = [str(folders[name]) for name in _MARKET_FOLDERS if name in folders]
    if parts:
        return f"this looks like the root of Market-1501 or of a set in its layout, so give {parts[0]!r}"
    return "give the folder with the images, or one folder per person"


def _read_market(paths: Sequence[str]) -> list[_Image]:
    images = []
    for path in paths:
        name = parse_frame_name(Path(path).name)
        if name is None:
            raise ValueError(
                "Images directly in the folder must be named like 0002_c1s1_000451_03.jpg (person, camera): rename the "
                f"file, or put each person's images into a folder. Received: {path!r}"
            )
        images.append(_Image(name.person, name.camera, path))
    return images
