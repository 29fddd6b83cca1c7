"""Draw frames of a tracklet side by side."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kreid.data.clips import evenly

if TYPE_CHECKING:
    from PIL.Image import Image

# The path of an image, or uint8 `(height, width, 3)`.
Frame: TypeAlias = str | os.PathLike[str] | np.ndarray

MISSING = (225, 225, 225)


def shown_frames(length: int, columns: int) -> NDArray[np.int64]:
    """Choose the frames of a strip: the middles of equal parts of the tracklet, to match a time axis below.

    Args:
        length: int, frames of the tracklet.
        columns: int, largest number of frames to show.

    Returns:
        Increasing `int64` positions `(min(length, columns),)`.

    Example:

    >>> kreid.plots.shown_frames(100, 4).tolist()
    [12, 37, 62, 87]
    """
    return evenly(length, min(length, columns))


def draw_frames(frames: Sequence[Frame], *, tile: tuple[int, int] = (128, 64)) -> "Image":
    """Draw frames side by side. An unreadable file is drawn grey.

    Args:
        frames: paths of images, or uint8 arrays `(height, width, 3)`.
        tile: `(height, width)` of one drawn frame in pixels.

    Returns:
        A `PIL.Image.Image`.

    Example:

    >>> kreid.plots.draw_frames(np.zeros((3, 64, 32, 3), "uint8")).size
    (192, 128)
    """
    from PIL import Image

    height, width = tile
    picture = Image.new("RGB", (width * len(frames), height))
    for number, frame in enumerate(frames):
        picture.paste(tile_of(frame, (width, height)), (number * width, 0))
    return picture


def tile_of(frame: Frame, size: tuple[int, int]) -> "Image":
    """Return a frame as a `PIL.Image.Image` of size `(width, height)`; grey if the file is unreadable."""
    from PIL import Image

    if not isinstance(frame, str | os.PathLike):
        return Image.fromarray(np.asarray(frame)).resize(size, Image.Resampling.BILINEAR)
    try:
        with Image.open(frame) as image:
            return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # Pillow raises any of these for a broken file.
        return Image.new("RGB", size, MISSING)
