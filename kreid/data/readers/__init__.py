"""One module per benchmark; every reader gives a `ReidDataset`. `folder` also reads parts of its layout."""

from kreid.data.readers.folder import FolderTracklet, image_files, read_folder, read_tracklet_folders
from kreid.data.readers.images import read_images
from kreid.data.readers.mars import read_mars

__all__ = ["FolderTracklet", "image_files", "read_folder", "read_images", "read_mars", "read_tracklet_folders"]
