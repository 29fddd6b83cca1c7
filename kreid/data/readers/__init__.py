"""One module per benchmark; every reader gives a `ReidDataset`."""

from kreid.data.readers.folder import read_folder
from kreid.data.readers.mars import read_mars

__all__ = ["read_folder", "read_mars"]
