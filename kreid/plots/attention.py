"""Draw attention as bars along time, as heat over frames, or as a matrix.

The names of an attention's axes, not the name of the attention, decide the form. See `kreid.models.attention` for the
names in kreid's models.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.plots import palette
from kreid.plots.charts import bar_chart
from kreid.plots.strips import Frame, draw_frames

if TYPE_CHECKING:
    from PIL.Image import Image

_HEAT_COLOURS = [palette.rgb(colour) for colour in palette.HEAT]
_FRAMES_SHARE = 0.45


def heat(values: ArrayLike) -> NDArray[np.uint8]:
    """Return the colours of values, from dark at 0 to light at 1.

    Args:
        values: floats of any shape, clipped to 0 and 1.

    Returns:
        uint8 RGB, the same shape with a last axis of 3.

    Example:

    >>> kreid.plots.heat([0.0, 1.0]).tolist()
    [[20, 11, 82], [255, 245, 170]]
    """
    places = np.clip(np.asarray(values, float), 0, 1) * (len(_HEAT_COLOURS) - 1)
    steps = np.arange(len(_HEAT_COLOURS))
    colours = [np.interp(places, steps, channel) for channel in np.transpose(_HEAT_COLOURS)]
    return np.stack(colours, axis=-1).round().astype(np.uint8)


def attention_parts(values: ArrayLike, axes: Sequence[str]) -> list[tuple[str, np.ndarray, tuple[str, ...]]]:
    """Split an attention into parts that one picture can show.

    A picture shows one or two axes, or `("frame", "height", "width")`. Attention of more axes is split along its first
    axes. The axes `("clip", "clip_frame")` become one axis `"frame"`.

    Args:
        values: floats, one axis per name.
        axes: names of the axes.

    Returns:
        A list of tuples `(name, values, axes)`. The name of the part, such as `"head 2"`, is empty for a single part.

    Raises:
        ValueError: if the number of names is not the number of axes.

    Example:

    >>> parts = kreid.plots.attention_parts(np.zeros((2, 5, 5)), ("head", "frame", "frame"))
    >>> [(name, part.shape, axes) for name, part, axes in parts]
    [('head 1', (5, 5), ('frame', 'frame')), ('head 2', (5, 5), ('frame', 'frame'))]
    """
    values, axes = np.asarray(values, np.float32), tuple(axes)
    if values.ndim != len(axes):
        raise ValueError(f"Name every axis of the attention. Received: axes={axes!r}, values of shape {values.shape}")
    if axes[:2] == ("clip", "clip_frame"):
        values, axes = values.reshape(-1, *values.shape[2:]), ("frame", *axes[2:])
    if values.ndim <= 2 or axes == ("frame", "height", "width"):
        return [("", values, axes)]
    return [
        (f"{axes[0]} {number}{', ' if name else ''}{name}", part, rest)
        for number, one in enumerate(values, 1)
        for name, part, rest in attention_parts(one, axes[1:])
    ]


def draw_bars(
    values: ArrayLike,
    axes: Sequence[str],
    *,
    description: str,
    num_frames: int | None = None,
    clip_frames: int | None = None,
    size: tuple[int, int] = (640, 56),
) -> str:
    """Draw an attention of one axis as bars.

    The bars fill the whole width, to match a strip of frames above them. The width of a clip is proportional to its
    number of frames, because the last clip may have fewer.

    Args:
        values: floats of one axis, or of `("clip", "clip_frame")`, drawn frame by frame.
        axes: names of the axes.
        description: text alternative of the chart, for screen readers.
        num_frames: optional int, frames of the tracklet. Bars of padding after them are not drawn.
        clip_frames: optional int, frames of a clip. Without it or `num_frames` all clips are equally wide.
        size: `(width, height)` in pixels.

    Returns:
        SVG as text.

    Raises:
        ValueError: if the attention has more axes.

    Example:

    >>> text = kreid.plots.draw_bars([0.6, 0.4], ("clip",), description="Weights", num_frames=6, clip_frames=4)
    >>> text.count("<rect")
    2
    """
    [(_, values, axes), *others] = attention_parts(values, axes)
    if others or values.ndim != 1:
        raise ValueError(
            f"Bars need an attention of one axis. Received: axes={tuple(axes)!r}, values of shape {values.shape}"
        )
    edges = None
    if axes == ("frame",):
        values = values[:num_frames]
    elif axes == ("clip",) and num_frames is not None and clip_frames is not None:
        values = values[: -(-num_frames // clip_frames)]
        edges = np.minimum(np.arange(len(values) + 1) * clip_frames, num_frames)
    return bar_chart(values, description=description, size=size, edges=edges)


def heat_limits(values: ArrayLike, axes: Sequence[str]) -> tuple[float, float]:
    """Return the values to draw darkest and lightest.

    These are the smallest and the largest value. Weights that sum to 1 over the frames get at least the range from
    half to twice their mean, so that nearly equal weights look nearly equal.

    Args:
        values: floats, one axis per name.
        axes: names of the axes.

    Returns:
        A tuple `(darkest, lightest)`.

    Example:

    >>> kreid.plots.heat_limits([[0.24], [0.26], [0.26], [0.24]], ("frame", "stripe"))
    (0.125, 0.5)
    """
    values = np.asarray(values, np.float32)
    low, high = float(values.min()), float(values.max())
    if axes[0] == "frame" and low >= 0 and len(values) > 1 and np.allclose(values.sum(axis=0), 1, atol=1e-3):
        low, high = min(low, 0.5 / len(values)), max(high, 2 / len(values))
    return low, high


def draw_heat(
    frames: Sequence[Frame],
    maps: ArrayLike,
    axes: Sequence[str] = ("frame", "height", "width"),
    *,
    tile: tuple[int, int] = (128, 64),
    limits: tuple[float, float] | None = None,
) -> "Image":
    """Draw attention as heat over grey frames, side by side.

    Args:
        frames: paths of images, or uint8 arrays `(height, width, 3)`.
        maps: floats `(frames, h, w)`, or `(frames, stripes)` for stripes from top to bottom.
        axes: `("frame", "height", "width")`, drawn with interpolation, or `("frame", "stripe")`.
        tile: `(height, width)` of one drawn frame in pixels.
        limits: the values drawn darkest and lightest; by default those of `heat_limits`. Give the limits of a whole
            tracklet to compare strips.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        ValueError: if there is not one map per frame, or for other axes.

    Example:

    >>> kreid.plots.draw_heat(np.zeros((3, 64, 32, 3), "uint8"), np.random.default_rng(0).random((3, 8, 4))).size
    (192, 128)
    """
    from PIL import Image

    maps, axes = np.asarray(maps, np.float32), tuple(axes)
    if axes not in (("frame", "height", "width"), ("frame", "stripe")):
        raise ValueError(
            f"Heat over frames needs the axes frame, height, width or frame, stripe. Received: axes={axes!r}"
        )
    if maps.ndim != len(axes) or len(maps) != len(frames):
        raise ValueError(
            f"Heat needs one map ({', '.join(axes[1:])}) for each of the {len(frames)} frames. "
            f"Received: maps of shape {maps.shape}"
        )
    shares = _shares(maps, limits or heat_limits(maps, axes))
    stripes = axes == ("frame", "stripe")
    if stripes:
        shares = shares[:, :, None]
    height, width = tile
    resampling = Image.Resampling.NEAREST if stripes else Image.Resampling.BILINEAR
    grown = [np.asarray(Image.fromarray(one).resize((width, height), resampling)) for one in shares]
    grey = draw_frames(frames, tile=tile).convert("L").convert("RGB")
    return Image.blend(Image.fromarray(heat(np.concatenate(grown, axis=1))), grey, _FRAMES_SHARE)


def first_component(features: ArrayLike) -> NDArray[np.float64]:
    """Reduce the features of each frame to one value by principal component analysis.

    The unit is the length of the mean feature, so that features of different scale can be compared: at 0.5 a feature
    differs from the mean by half the mean's length. The sign makes the largest deviation positive.

    Args:
        features: floats `(frames, channels)`.

    Returns:
        float64 array `(frames,)` of mean 0; all 0 if all frames are equal.

    Example:

    >>> kreid.plots.first_component([[3.0, 4.0], [3.0, 4.0], [3.0, 7.0]]).round(2).tolist()
    [-0.17, -0.17, 0.34]

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, figure 3.
    """
    features = np.asarray(features, float)
    mean = features.mean(axis=0)
    _, _, directions = np.linalg.svd(features - mean, full_matrices=False)
    values = (features - mean) @ directions[0]
    values /= max(float(np.linalg.norm(mean)), np.finfo(float).tiny)
    return values * (np.sign(values[np.argmax(abs(values))]) or 1.0)


def draw_matrix(
    matrix: ArrayLike,
    axes: Sequence[str] = ("frame", "frame"),
    *,
    size: int = 260,
    limits: tuple[float, float] | None = None,
) -> "Image":
    """Draw an attention of two axes as fields of heat.

    Rows are the first axis. For `("frame", ...)` with another second axis, columns are the frames, so that time runs
    from left to right as in a strip of frames. A side with more than `size` values is averaged to `size` pixels.

    Args:
        matrix: floats of two axes.
        axes: names of the axes.
        size: int, pixels of the longer side. It is rounded up so that each value gets a whole number of pixels.
        limits: the values drawn darkest and lightest; by default the smallest and the largest value.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        ValueError: for another number of axes.

    Example:

    >>> kreid.plots.draw_matrix(np.eye(7)).size
    (266, 266)
    >>> kreid.plots.draw_matrix(np.zeros((4, 2048)), ("frame", "channel")).size
    (260, 260)
    """
    from PIL import Image

    matrix = np.asarray(matrix, np.float32)
    if matrix.ndim != 2 or len(axes) != 2:
        raise ValueError(f"A matrix must have two axes. Received: axes={tuple(axes)!r}, values of shape {matrix.shape}")
    shares = _shares(matrix, limits or (float(matrix.min()), float(matrix.max())))
    if axes[0] == "frame" and axes[1] != "frame":
        shares = shares.T
    # Fields are square if both sides have the same unit. Otherwise, as for few frames of many channels, each side has
    # its own scale.
    square = axes[0] == axes[1] or tuple(axes) == ("height", "width")
    longest = max(shares.shape)
    rows, columns = (max(1, -(-size // (longest if square else length))) for length in shares.shape)
    fields = np.repeat(np.repeat(shares, rows, axis=0), columns, axis=1)
    if longest > size:
        height, width = (min(length, size) for length in fields.shape)
        if square:
            height, width = (max(1, round(length * size / longest)) for length in fields.shape)
        fields = np.asarray(Image.fromarray(fields).resize((width, height), Image.Resampling.BOX))
    return Image.fromarray(heat(fields))


def _shares(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scale values so that the limits become 0 and 1; all 0 if the limits are equal."""
    low, high = limits
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
