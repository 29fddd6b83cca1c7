"""The data set of a recipe's settings."""

from kreid.data.readers import LAYOUTS, read_images, read_mars
from kreid.data.tracklet import ReidDataset
from kreid.training.config import Config


def load_dataset(config: Config) -> ReidDataset:
    """Read the data set that a `Config` names: a benchmark, the rendered set, or folders of single images.

    Args:
        config: a `kreid.training.Config`.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: see the readers.
    """
    if config.data == "images":
        return read_images(config.image_dirs)
    if config.data == "synthetic":
        return read_mars(config.data_dir)
    layout = LAYOUTS[config.data]
    chosen = {name: getattr(config, name) for name in layout.options if getattr(config, name) is not None}
    return layout.read(config.data_dir, **chosen)
