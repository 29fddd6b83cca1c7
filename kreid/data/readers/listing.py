"""Images and folders on the disk, in an order that the file system has no say in."""

import os
import re

IMAGES = (".jpg", ".jpeg", ".png")


def image_files(folder):
    """Lists the JPEG and PNG files of a folder in natural order (`2.jpg` before `10.jpg`), hidden ones left out.

    Args:
        folder: path.

    Returns:
        tuple of paths, as str.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(IMAGES) and entry.name[0] != "."]
    return tuple(f"{folder}/{name}" for name in sorted(names, key=natural))


def subfolders(folder):
    """Lists the folders in a folder in natural order, hidden ones left out, as paths."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    return [folder / name for name in sorted(names, key=natural)]


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # A link that leads in a circle.
        return False


def natural(name):
    """What names are sorted by, so that numbers in them count as numbers."""
    # Pieces alternate between text and digits, so that like is compared with like; the name itself breaks ties.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], name


def missing_files(tracklets):
    """The frames of tracklets that are not on the disk, looking into each folder once.

    Args:
        tracklets: sequence of `Tracklet`.

    Returns:
        A set of paths.
    """
    folders, lost = {}, set()
    for tracklet in tracklets:
        for path in tracklet.frames:
            folder, name = path.rsplit("/", 1)
            if folder not in folders:
                folders[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
            if name not in folders[folder]:
                lost.add(path)
    return lost
