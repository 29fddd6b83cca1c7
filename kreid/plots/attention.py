"""Frames of a tracklet side by side, and what a model attends to, as heat over them."""

import numpy as np

from kreid.data.clips import evenly
from kreid.plots.ranked_list import tile_of

# Dark to light, so that the order is seen without colours too.
HEAT_COLOURS = ((20, 11, 82), (122, 28, 109), (214, 72, 62), (249, 157, 38), (255, 245, 170))
_FRAMES_SHARE = 0.45


def heat(values):
    """Colours of values from 0 to 1, dark to light.

    Args:
        values: floats of any shape; what lies outside 0 and 1 is cut.

    Returns:
        uint8 array of the same shape and three colours.

    Example:

    >>> kreid.plots.heat([0.0, 1.0]).tolist()
    [[20, 11, 82], [255, 245, 170]]
    """
    places = np.clip(np.asarray(values, float), 0, 1) * (len(HEAT_COLOURS) - 1)
    steps = np.arange(len(HEAT_COLOURS))
    colours = [np.interp(places, steps, channel) for channel in np.transpose(HEAT_COLOURS)]
    return np.stack(colours, axis=-1).round().astype(np.uint8)


def shown_frames(length, columns):
    """Which frames of a tracklet a strip shows: the middles of equal parts, so that a time axis below it fits.

    Args:
        length: frames of the tracklet.
        columns: most frames to show.

    Returns:
        Positions, rising.
    """
    return np.asarray(evenly(length, min(length, columns)))


def draw_frames(frames, *, tile=(128, 64)):
    """Draws frames side by side.

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


def draw_heat(frames, maps, *, tile=(128, 64), limits=None, smooth=True):
    """Draws attention maps as heat over their frames, side by side. The frames below lose their colours.

    Args:
        frames: paths of images, or uint8 arrays `(height, width, 3)`.
        maps: floats `(frames, h, w)`, the attention within each frame.
        tile: `(height, width)` of one drawn frame in pixels.
        limits: the values drawn darkest and lightest; by default the least and the largest of the maps. Give those of
            a whole tracklet to compare strips.
        smooth: let the heat of neighbouring positions flow together, or draw each as a field.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        ValueError: if there is not one map for each frame.

    Example:

    >>> kreid.plots.draw_heat(np.zeros((3, 64, 32, 3), "uint8"), np.random.default_rng(0).random((3, 8, 4))).size
    (192, 128)
    """
    from PIL import Image

    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3 or len(maps) != len(frames):
        raise ValueError(
            f"Heat needs one map (h, w) for each of the {len(frames)} frames. Received: maps of shape {maps.shape}"
        )
    height, width = tile
    low, high = (maps.min(), maps.max()) if limits is None else limits
    maps = (maps - low) / (high - low) if high > low else np.zeros_like(maps)
    resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    grown = [np.asarray(Image.fromarray(one).resize((width, height), resampling)) for one in maps]
    grey = draw_frames(frames, tile=tile).convert("L").convert("RGB")
    return Image.blend(Image.fromarray(heat(np.concatenate(grown, axis=1))), grey, _FRAMES_SHARE)


def draw_matrix(matrix, *, size=260, limits=None):
    """Draws a matrix of attention between frames, a field for each pair.

    Args:
        matrix: floats `(rows, columns)`.
        size: of the longer side in pixels, at least; every field is a whole number of pixels.
        limits: see `draw_heat`.

    Returns:
        A `PIL.Image.Image`.

    Example:

    >>> kreid.plots.draw_matrix(np.eye(7)).size
    (266, 266)
    """
    from PIL import Image

    matrix = np.asarray(matrix, np.float32)
    low, high = (matrix.min(), matrix.max()) if limits is None else limits
    shares = (matrix - low) / (high - low) if high > low else np.zeros_like(matrix)
    field = -(-size // max(matrix.shape))
    return Image.fromarray(np.repeat(np.repeat(heat(shares), field, axis=0), field, axis=1))
