"""A plain folder layout for one's own data."""

from pathlib import Path
from typing import NamedTuple

from kreid.data.readers.listing import IMAGES, image_files, natural, subfolders
from kreid.data.tracklet import DISTRACTOR, JUNK, ReidDataset, Tracklet

_RESERVED = {"distractor": DISTRACTOR, "junk": JUNK}


class FolderTracklet(NamedTuple):
    """One tracklet as the folders name it.

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


def read_folder(root):
    """Reads `<root>/<split>/<person>/<camera>/<frame>`.

    Splits are `train`, and, where they exist, `query` and `gallery`. A camera
    folder that holds images is one tracklet; one that holds folders is one
    tracklet per folder. Frames are JPEG or PNG files in natural order (`2.jpg`
    before `10.jpg`). Hidden files and other kinds of files are passed over.

    Person and camera folders may have any name. They are numbered from 1 in
    natural order over all splits, so that a person in `query` and the one of
    the same name in `gallery` match; `person_names` and `camera_names` lead
    back. A person named `distractor` gets 0 and `junk` gets -1.

    Args:
        root: the folder with the splits.

    Returns:
        A `ReidDataset` whose `test` is the queries followed by the gallery.

    Raises:
        FileNotFoundError: if there is no `train` folder, or a split holds no
            tracklet.
        ValueError: if a camera folder holds images and folders side by side.
    """
    root = Path(root).absolute()
    if not (root / "train").is_dir():
        raise FileNotFoundError(
            f"A folder data set is <root>/train/<person>/<camera>/<frame>, and there is no `train` folder. "
            f"Received: root={str(root)!r}"
        )
    found = {
        split: read_tracklet_folders(root / split) if split == "train" or (root / split).is_dir() else []
        for split in ("train", "query", "gallery")
    }
    everything = [entry for entries in found.values() for entry in entries if entry.frames]
    persons = _numbers({entry.person for entry in everything} - set(_RESERVED)) | _RESERVED
    cameras = _numbers({entry.camera for entry in everything})
    splits = {
        split: tuple(
            Tracklet(f"{split}/{entry.name}", persons[entry.person], cameras[entry.camera], entry.frames)
            for entry in entries
            if entry.frames
        )
        for split, entries in found.items()
    }
    return ReidDataset(
        name=root.name,
        train=splits["train"],
        test=splits["query"] + splits["gallery"],
        query_rows=tuple(range(len(splits["query"]))),
        empty=tuple(f"{split}/{entry.name}" for split in found for entry in found[split] if not entry.frames),
        person_names={number: person for person, number in persons.items() if number > 0},
        camera_names={number: camera for camera, number in cameras.items()},
    )


def read_tracklet_folders(root):
    """Reads `<root>/<person>/<camera>/[<tracklet>/]<frame>`, one split of a folder data set.

    A camera folder that holds images is one tracklet; one that holds folders is
    one tracklet per folder. Everything comes in natural order.

    Args:
        root: the folder with the persons.

    Returns:
        List of `FolderTracklet`; folders without an image are among them.

    Raises:
        FileNotFoundError: if there is no image at all.
        ValueError: if a camera folder holds images and folders side by side.
    """
    root = Path(root)
    found = []
    for person in subfolders(root):
        for camera in subfolders(person):
            tracks = subfolders(camera)
            if tracks and image_files(camera):
                raise ValueError(
                    "A camera folder holds either images (one tracklet) or folders (one tracklet each), not both. "
                    f"Received: folder={str(camera)!r}"
                )
            for track in tracks or [camera]:
                name = track.relative_to(root).as_posix()
                found.append(FolderTracklet(name, person.name, camera.name, image_files(track)))
    if not any(entry.frames for entry in found):
        raise FileNotFoundError(
            f"No image was found as <person>/<camera>/<frame> with an ending among {', '.join(IMAGES)}. "
            f"Received: folder={str(root)!r}"
        )
    return found


def _numbers(names):
    return {name: number for number, name in enumerate(sorted(names, key=natural), start=1)}
