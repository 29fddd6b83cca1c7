"""Which data set a folder holds."""

from pathlib import Path
from typing import NamedTuple

from kreid.data.readers import ilids_vid, ls_vid, mars, prid2011
from kreid.data.readers.duke_video import FRAME, read_duke_video
from kreid.data.readers.folder import read_folder
from kreid.data.readers.images import read_images
from kreid.data.readers.listing import image_files, subfolders


class Layout(NamedTuple):
    """A layout that kreid reads.

    Args:
        title: what the data set is called.
        holds: what its folder holds, for people.
        read: its reader.
        options: names of the reader's own arguments that choose within the data set.
        found: function from a folder to whether it is laid out so.
    """

    title: str
    holds: str
    read: object
    options: tuple[str, ...]
    found: object


def layout_of(root):
    """Recognises the layout of a data set by what its folder holds.

    Args:
        root: the folder.

    Returns:
        A name of `LAYOUTS`: `"mars"`, `"prid2011"`, `"ilids_vid"`, `"ls_vid"`, `"duke_video"`, `"folder"` or
        `"images"`.

    Raises:
        FileNotFoundError: if there is no such folder, or it is laid out in no way that is known.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"The data set's folder is not there. Received: root={str(root)!r}")
    for name, layout in LAYOUTS.items():
        if layout.found(root):
            return name
    known = "; ".join(f"{layout.title} ({layout.holds})" for layout in LAYOUTS.values())
    raise FileNotFoundError(
        f"This folder holds no data set in a layout that kreid reads, which are: {known}. Received: root={str(root)!r}"
    )


def read_dataset(root, split=None, persons=None):
    """Reads a data set in any of the layouts that kreid knows.

    Args:
        root: the folder.
        split: number of the split, from 1 to 10, for PRID2011 and iLIDS-VID; `None` for the reader's default.
        persons: 178 or 200, for PRID2011; `None` for the reader's default.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if `layout_of` or the layout's reader says so.
        ValueError: see the layout's reader.

    Example:

    >>> kreid.data.read_dataset("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: The data set's folder is not there. Received: root=...
    """
    layout = LAYOUTS[layout_of(root)]
    given = {"split": split, "persons": persons}
    return layout.read(root, **{name: given[name] for name in layout.options if given[name] is not None})


def _holds_mars(root):
    index = "tracks_train_info.mat"
    return any((root / name).exists() for name in (f"info/{index}", index, "bbox_train"))


def _holds_prid2011(root):
    return any((root / place / prid2011.CAMERAS[0]).is_dir() for place in prid2011.PLACES)


def _holds_ilids_vid(root):
    return any((root / place / ilids_vid.CAMERAS[0]).is_dir() for place in ilids_vid.PLACES)


def _holds_ls_vid(root):
    return any((root / place).is_dir() for place in ls_vid.LISTS)


def _holds_duke_video(root):
    return (root / "train").is_dir() and any(
        FRAME.fullmatch(Path(path).name) for path in _first_images(root / "train", depth=2)
    )


def _holds_folder(root):
    return (root / "train").is_dir()


def _holds_images(root):
    return bool(_first_images(root, depth=0) or _first_images(root, depth=1))


def _first_images(folder, depth):
    """The images of the first folder that has some, so many folders deep."""
    if not depth:
        return image_files(folder)
    return next(filter(None, (_first_images(inner, depth - 1) for inner in subfolders(folder))), ())


#: In the order in which they are told apart: what is more particular comes first.
LAYOUTS = {
    "mars": Layout("MARS", "bbox_train/, bbox_test/, info/", mars.read_mars, (), _holds_mars),
    "prid2011": Layout(
        "PRID2011",
        "multi_shot/cam_a/, multi_shot/cam_b/",
        prid2011.read_prid2011,
        ("split", "persons"),
        _holds_prid2011,
    ),
    "ilids_vid": Layout(
        "iLIDS-VID",
        "i-LIDS-VID/sequences/cam1/, i-LIDS-VID/sequences/cam2/",
        ilids_vid.read_ilids_vid,
        ("split",),
        _holds_ilids_vid,
    ),
    "ls_vid": Layout(
        "LS-VID", "list_sequence/, test/data/ and the frames' folders", ls_vid.read_ls_vid, (), _holds_ls_vid
    ),
    "duke_video": Layout(
        "DukeMTMC-VideoReID",
        "train/, query/, gallery/ with PPPP/TTTT/PPPP_C6_F0099_X30823.jpg",
        read_duke_video,
        (),
        _holds_duke_video,
    ),
    "folder": Layout("a folder of splits", "train/<person>/<camera>/<frame>", read_folder, (), _holds_folder),
    "images": Layout(
        "a folder of images", "0002_c1s1_000451_03.jpg or <person>/<image>", read_images, (), _holds_images
    ),
}
