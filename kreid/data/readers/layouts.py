"""Recognise the data set in a folder and read it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kreid.data.readers.duke_video import find_train, read_duke_video
from kreid.data.readers.folder import find_splits, read_folder
from kreid.data.readers.ilids_vid import find_sequences, read_ilids_vid
from kreid.data.readers.images import read_images
from kreid.data.readers.listing import contents_of, find_below, inside, list_folder, subfolders
from kreid.data.readers.ls_vid import find_lists, read_ls_vid
from kreid.data.readers.mars import find_index, read_mars
from kreid.data.readers.person_splits import SPLITS
from kreid.data.readers.prid2011 import find_multi_shot, read_prid2011
from kreid.data.tracklet import ReidDataset


class Layout(NamedTuple):
    """A layout that kreid reads.

    Args:
        title: name of the data set.
        holds: description of its folder's content.
        read: its reader.
        options: names of the reader's arguments for a split or a subset.
        find: function from a folder to a true value if the folder has this layout.
        splits: number of splits into train and test persons over which results are averaged; 0 for a fixed split.
    """

    title: str
    holds: str
    read: Callable[..., ReidDataset]
    options: tuple[str, ...]
    find: Callable[[Path], object]
    splits: int = 0


def layout_of(root: str | os.PathLike[str]) -> str:
    """Recognise the layout of a data set by its folder's content.

    The data set may also be one or two levels down, if only one subfolder has one. This does not hold for `"images"`.

    Args:
        root: the folder.

    Returns:
        A name of `LAYOUTS`: `"mars"`, `"prid2011"`, `"ilids_vid"`, `"ls_vid"`, `"duke_video"`, `"folder"` or
        `"images"`.

    Raises:
        FileNotFoundError: if the folder is missing, it has no known layout, or several subfolders have a data set.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"The data set's folder is missing. Received: root={str(root)!r}")
    layout = _layout_here(root) or find_below(root, lambda folder: _layout_here(folder, images=False))
    if layout is not None:
        return layout
    known = "; ".join(f"{layout.title} ({layout.holds})" for layout in LAYOUTS.values())
    raise FileNotFoundError(
        f"The folder must have one of these layouts: {known}. {contents_of(root)}. Received: root={str(root)!r}"
    )


def read_dataset(root: str | os.PathLike[str], split: int | None = None, persons: int | None = None) -> ReidDataset:
    """Read a data set in any layout that kreid knows.

    Args:
        root: the folder.
        split: number of the split, from 1 to 10, for PRID2011 and iLIDS-VID; `None` for the reader's default.
        persons: 178 or 200, for PRID2011; `None` for the reader's default.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: see `layout_of` and the layout's reader.
        ValueError: see the layout's reader.

    Example:

    >>> kreid.data.read_dataset("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: The data set's folder is missing. Received: root=...
    """
    layout = LAYOUTS[layout_of(root)]
    options = {"split": split, "persons": persons}
    return layout.read(root, **{name: options[name] for name in layout.options if options[name] is not None})


def _layout_here(root: Path, images: bool = True) -> str | None:
    return next((name for name, layout in LAYOUTS.items() if (images or name != "images") and layout.find(root)), None)


def _find_mars(root: Path) -> Path | None:
    return find_index(root) or inside(root, "bbox_train")


def _find_images(root: Path) -> bool:
    return bool(list_folder(root).images) or any(list_folder(folder).images for folder in subfolders(root))


#: In the order of recognition: the more specific layouts first.
LAYOUTS = {
    "mars": Layout("MARS", "bbox_train/, bbox_test/, info/", read_mars, (), _find_mars),
    "prid2011": Layout(
        "PRID2011",
        "multi_shot/cam_a/, multi_shot/cam_b/",
        read_prid2011,
        ("split", "persons"),
        find_multi_shot,
        SPLITS,
    ),
    "ilids_vid": Layout(
        "iLIDS-VID",
        "i-LIDS-VID/sequences/cam1/, i-LIDS-VID/sequences/cam2/",
        read_ilids_vid,
        ("split",),
        find_sequences,
        SPLITS,
    ),
    "ls_vid": Layout("LS-VID", "list_sequence/, test/data/ and the frames' folders", read_ls_vid, (), find_lists),
    "duke_video": Layout(
        "DukeMTMC-VideoReID",
        "train/, query/, gallery/ with PPPP/TTTT/PPPP_C6_F0099_X30823.jpg",
        read_duke_video,
        (),
        find_train,
    ),
    "folder": Layout(
        "a folder of splits", "train/, query/ or gallery/ with <person>/<camera>/<frame>", read_folder, (), find_splits
    ),
    "images": Layout(
        "a folder of images", "0002_c1s1_000451_03.jpg or <person>/<image>", read_images, (), _find_images
    ),
}
