"""A plain folder layout for your own data."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kreid.data.names import naming_remarks, number_cameras, number_persons, parse_frame_name, person_key
from kreid.data.readers.listing import IMAGES, below, contents_of, find_below, inside, list_folder
from kreid.data.tracklet import DISTRACTOR, ReidDataset, Tracklet

SPLITS = ("train", "query", "gallery")
# With a larger share of tracklets whose frames' names contradict their folders, the folder has another layout.
_MOST_CONTRADICTIONS = 0.1


class FolderTracklet(NamedTuple):
    """One tracklet of a folder data set.

    Args:
        name: path of its folder below the root.
        person: name of the person's folder.
        camera: name of the camera's folder.
        frames: paths in natural order; empty for a folder without images.
    """

    name: str
    person: str
    camera: str
    frames: tuple[str, ...]


def read_folder(root: str | os.PathLike[str]) -> ReidDataset:
    """Read `<root>/<split>/<person>/<camera>/<frame>`.

    Splits are `train`, `query` and `gallery`; one of them is enough, as in the result of `kreid.tracks.cut_tracklets`.
    A camera folder with images is one tracklet; a camera folder with folders is one tracklet per folder. Frames are
    JPEG or PNG files in natural order (`2.jpg` before `10.jpg`). Hidden files and folders, and those of file servers
    such as `@eaDir`, are skipped. `skipped_files` names other files, and images in other places.

    Person and camera folders may have any name. They are numbered from 1 in natural order over all splits, so a person
    in `query` matches the person of the same name in `gallery`; `person_names` and `camera_names` give the folders'
    names. Numbers are compared as numbers: `7` and `0007` are one person. A person named `distractor` or `0000` gets 0,
    and `junk`, `-1` or `00-1` gets -1, as in Market-1501 and MARS; neither becomes a query.

    The splits may also be one or two folders below the root, or unpacked a level too deep (`train/train`), with names
    in another letter case.

    Args:
        root: the folder with the splits.

    Returns:
        A `ReidDataset` whose `test` is the queries followed by the gallery.

    Raises:
        FileNotFoundError: if there is no split, or a split has no tracklet.
        ValueError: if a camera folder has both images and folders, or the frames' names contradict the folders'
            persons or cameras, so that the data set has another layout.

    Example:

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for place in ("query/anna/hall", "gallery/anna/door", "gallery/bert/hall"):
    ...     (root / place).mkdir(parents=True)
    ...     (root / place / "1.jpg").touch()
    >>> dataset = read_folder(root)
    >>> [dataset.person_names[tracklet.person] for tracklet in dataset.test]
    ['anna', 'anna', 'bert']
    """
    root = Path(root).absolute()
    places = find_below(root, find_splits) if root.is_dir() else None
    if places is None:
        raise FileNotFoundError(
            "A folder data set is <root>/train/<person>/<camera>/<frame>, but there is no folder `train`, `query` or "
            f"`gallery`{': ' + contents_of(root) if root.is_dir() else ''}. Received: root={str(root)!r}"
        )
    entries, others = {}, []
    for split, place in places.items():
        entries[split], unread = _read_split(place)
        others += unread
    everything = [entry for split in entries.values() for entry in split if entry.frames]
    remarks = _check_frame_names(everything, root)
    persons, person_names = number_persons(entry.person for entry in everything)
    cameras, camera_names = number_cameras(entry.camera for entry in everything)
    splits = {
        split: tuple(
            Tracklet(f"{split}/{entry.name}", persons[entry.person], cameras[entry.camera], entry.frames)
            for entry in entries.get(split, ())
            if entry.frames
        )
        for split in SPLITS
    }
    query = splits["query"]
    unmatched = [tracklet.id for tracklet in query if tracklet.person <= DISTRACTOR]
    if unmatched:
        remarks.append(
            f"{len(unmatched)} tracklets in query are of distractors or junk, which match no tracklet, and are not "
            f"used as queries, such as {unmatched[0]}"
        )
    return ReidDataset(
        name=root.name,
        train=splits["train"],
        test=query + splits["gallery"],
        query_rows=tuple(row for row, tracklet in enumerate(query) if tracklet.person > DISTRACTOR),
        empty=tuple(f"{split}/{entry.name}" for split in entries for entry in entries[split] if not entry.frames),
        person_names=person_names,
        camera_names=camera_names,
        skipped_files=below(root, others),
        remarks=(*naming_remarks(persons, cameras), *remarks),
    )


def find_splits(root: Path) -> dict[str, Path] | None:
    """Return the folders of the splits, or `None` if there is none."""
    places = {split: inside(root, split) for split in SPLITS}
    return {split: place for split, place in places.items() if place is not None and _is_split(place)} or None


def _is_split(place: Path) -> bool:
    """Return whether a folder with a split's name is a split, not a data set of that name."""
    return place.is_dir() and not any(inside(place, split) for split in SPLITS)


def read_tracklet_folders(root: str | os.PathLike[str]) -> list[FolderTracklet]:
    """Read `<root>/<person>/<camera>/[<tracklet>/]<frame>`, one split of a folder data set.

    A camera folder with images is one tracklet; a camera folder with folders is one tracklet per folder.

    Args:
        root: the folder with the persons.

    Returns:
        List of `FolderTracklet` in natural order; folders without an image are included.

    Raises:
        FileNotFoundError: if there is no image.
        ValueError: if a camera folder has both images and folders.
    """
    return _read_split(Path(root))[0]


def _read_split(root: Path) -> tuple[list[FolderTracklet], list[str]]:
    """Return the tracklets of a split, and the files that belong to no tracklet."""
    top = list_folder(root)
    entries, others = [], [*top.images, *top.others]
    for person in top.folders:
        listing = list_folder(person)
        others += [*listing.images, *listing.others]
        for camera in listing.folders:
            listed = list_folder(camera)
            others += listed.others
            if listed.folders and listed.images:
                raise ValueError(
                    "A camera folder must have either images (one tracklet) or folders (one tracklet each), not both. "
                    f"Received: folder={str(camera)!r}"
                )
            tracks = {track: list_folder(track) for track in listed.folders}
            others += [file for track in tracks.values() for file in track.others]
            for track, (images, *_) in (tracks or {camera: listed}).items():
                entries.append(FolderTracklet(track.relative_to(root).as_posix(), person.name, camera.name, images))
    if not any(entry.frames for entry in entries):
        unread = f"; there are {len(others)} other files, such as {others[0]}" if others else ""
        raise FileNotFoundError(
            f"No image was found as <person>/<camera>/<frame> with an extension among {', '.join(IMAGES)}{unread}. "
            f"Received: folder={str(root)!r}"
        )
    return entries, others


def _check_frame_names(entries: Sequence[FolderTracklet], root: Path) -> list[str]:
    """Compare the folders with the persons and cameras in the frames' names, if these have a known form.

    Names and folders may number persons and cameras differently, but must map one to one.

    Returns:
        Remarks, empty without contradictions.
    """
    parsed = []
    for entry in entries:
        names = [name for name in map(parse_frame_name, map(os.path.basename, entry.frames)) if name is not None]
        if len(names) == len(entry.frames):
            parsed.append((entry, {(person_key(name.person), name.camera) for name in names}, names[0]))
    partners: dict[tuple[str, object], Counter[object]] = {}
    for entry, pairs, _ in parsed:
        for person, camera in pairs:
            partners.setdefault(("person folder", person_key(entry.person)), Counter())[person] += 1
            partners.setdefault(("person", person), Counter())[person_key(entry.person)] += 1
            partners.setdefault(("camera folder", entry.camera), Counter())[camera] += 1
            partners.setdefault(("camera", camera), Counter())[entry.camera] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in partners.items()}
    wrong = [
        (entry, name)
        for entry, pairs, name in parsed
        if len(pairs) > 1
        or any(
            usual["person folder", person_key(entry.person)] != person
            or usual["person", person] != person_key(entry.person)
            or usual["camera folder", entry.camera] != camera
            or usual["camera", camera] != entry.camera
            for person, camera in pairs
        )
    ]
    if not wrong:
        return []
    entry, name = wrong[0]
    where = f"{entry.frames[0].removeprefix(f'{root}/')} in person {entry.person}, camera {entry.camera}"
    if len(wrong) > _MOST_CONTRADICTIONS * len(entries):
        raise ValueError(
            f"The frames' names contradict the folders' persons or cameras, so the data set may have the layout of "
            f"{name.convention}: give its root to `read_dataset`, or rename the files ({where}). "
            f"Received: root={str(root)!r}"
        )
    return [
        f"frames of {len(wrong)} tracklets are named after another person or camera than their folders, such as {where}"
    ]
