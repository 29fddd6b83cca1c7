"""Readers of the benchmarks and of folders of your own images; every reader returns a `ReidDataset`.

`layouts` chooses the reader by a folder's contents; `folder` also reads a single split.
"""

from kreid.data.readers.duke_video import read_duke_video
from kreid.data.readers.folder import FolderTracklet, read_folder, read_tracklet_folders
from kreid.data.readers.ilids_vid import read_ilids_vid
from kreid.data.readers.images import read_images
from kreid.data.readers.layouts import LAYOUTS, layout_of, read_dataset
from kreid.data.readers.listing import image_files
from kreid.data.readers.ls_vid import read_ls_vid
from kreid.data.readers.mars import read_mars
from kreid.data.readers.prid2011 import read_prid2011

__all__ = [
    "LAYOUTS",
    "FolderTracklet",
    "image_files",
    "layout_of",
    "read_dataset",
    "read_duke_video",
    "read_folder",
    "read_ilids_vid",
    "read_images",
    "read_ls_vid",
    "read_mars",
    "read_prid2011",
    "read_tracklet_folders",
]
