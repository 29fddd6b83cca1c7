"""Charts as SVG text for an HTML page, without a library or script, for light and dark backgrounds.

The page defines the colours of the classes `series-1` to `series-6` (`kreid.plots.palette.css_variables`), `axis`,
`grid` and `bar`. Series also differ in their dashes, and the legend names them.
"""

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kreid.plots.palette import SERIES

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 10, 42
_LEGEND_LINE, _TEXT_LINE = 20, 16
# An upper estimate of a letter's width in the 13 pixel font, which differs between systems, so that no text is cut.
_LETTER = 7.6


def line_chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    description: str,
    size: tuple[int, int] = (380, 250),
    y_limits: tuple[float, float] | None = None,
    logarithmic: bool = False,
    marks: Iterable[tuple[float, str]] = (),
) -> str:
    """Draw lines over a common axis.

    Args:
        series: dict from a name to `(x, y)`, up to six; points that are not finite are skipped.
        x_label: label of the horizontal axis, broken into lines if it is long.
        y_label: label of the vertical axis, broken into lines if it is long.
        description: text alternative of the chart, for screen readers.
        size: `(width, height)` in pixels, without the legend and further lines of the x label.
        y_limits: ends of the vertical axis; by default the smallest and the largest value.
        logarithmic: whether the x axis is logarithmic; points at 0 or below are then skipped.
        marks: `(x, text)` of vertical lines.

    Returns:
        SVG as text.

    Raises:
        ValueError: without a finite point, without a series, or for more than six series.

    Example:

    >>> text = line_chart({"loss": ([1, 2, 3], [3.0, 1.0, 0.5])}, x_label="epoch", y_label="loss", description="Loss")
    >>> text.startswith("<svg"), text.count("<polyline")
    (True, 1)
    """
    if not 1 <= len(series) <= len(SERIES):
        raise ValueError(f"A chart must have 1 to {len(SERIES)} series. Received: {len(series)} series")
    lines = {name: _finite(x, y, logarithmic) for name, (x, y) in series.items()}
    if not any(len(x) for x, _ in lines.values()):
        raise ValueError(f"There is no finite point to draw. Received: series={list(series)}")
    forward = np.log10 if logarithmic else np.asarray
    marks = [(x, text) for x, text in marks if np.isfinite(x) and (x > 0 or not logarithmic)]
    all_x = forward(np.concatenate([*(x for x, _ in lines.values()), [x for x, _ in marks]]).astype(float))
    all_y = np.concatenate([y for _, y in lines.values()])
    left, right = _ends(all_x.min(), all_x.max())
    low, high = _ends(*(y_limits or (all_y.min(), all_y.max())))

    width, height = size
    inner_height = height - _TOP - _BOTTOM
    y_lines = _lines(y_label, inner_height)
    start = _LEFT + _TEXT_LINE * (len(y_lines) - 1)
    inner = width - start - _RIGHT, inner_height
    x_lines = _lines(x_label, inner[0])
    names = [_lines(name, inner[0] - 42) for name in lines] if len(lines) > 1 else []
    below = height + _TEXT_LINE * (len(x_lines) - 1)
    total = below + sum(_LEGEND_LINE + _TEXT_LINE * (len(name) - 1) for name in names)

    def place_x(x):
        return start + (forward(x) - left) / (right - left) * inner[0]

    def place_y(y):
        return _TOP + (1 - (np.clip(y, low, high) - low) / (high - low)) * inner[1]

    parts = [_opening(width, total, description)]
    for tick in _ticks(low, high):
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{start}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{start - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    x_ticks = _ticks(left, right, whole=_all_whole(all_x))
    if logarithmic:
        x_ticks = 10.0 ** np.arange(math.ceil(left), math.floor(right) + 1)
    for tick in x_ticks:
        x = place_x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - _BOTTOM}" y2="{height - 37}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 24}" text-anchor="middle">{_number(tick)}</text>')
    floor = height - _BOTTOM
    parts.append(f'<line class="axis" x1="{start}" x2="{width - _RIGHT}" y1="{floor}" y2="{floor}"/>')
    for x, text in marks:
        x = place_x(x)
        anchor, shift = ("end", -5) if x > start + inner[0] / 2 else ("start", 5)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}" stroke-dasharray="3 3"/>')
        parts.append(_text(round(x + shift, 1), _TOP + 12, text, anchor))
    for number, (x, y) in enumerate(lines.values(), 1):
        if len(x) == 1:
            parts.append(f'<circle class="series-{number}" cx="{place_x(x[0]):.1f}" cy="{place_y(y[0]):.1f}" r="3"/>')
        elif len(x):
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(place_x(x), place_y(y), strict=True))
            parts.append(f'<polyline class="series-{number}" points="{points}"/>')
    for number, text in enumerate(x_lines):
        parts.append(_text((start + width - _RIGHT) / 2, height - 6 + _TEXT_LINE * number, text, "middle"))
    middle = (_TOP + floor) / 2
    for number, text in enumerate(y_lines):
        x = 13 + _TEXT_LINE * number
        parts.append(_text(x, middle, text, "middle", f'transform="rotate(-90 {x} {middle})"'))
    parts += _legend(names, start, below + 12)
    return "".join([*parts, "</svg>"])


def bar_chart(
    values: ArrayLike, *, description: str, size: tuple[int, int] = (640, 70), edges: ArrayLike | None = None
) -> str:
    """Draw values as bars over the whole width, to match a strip of frames above them.

    Args:
        values: floats `(bars,)`.
        description: text alternative of the chart, for screen readers.
        size: `(width, height)` in pixels.
        edges: `bars + 1` increasing numbers, the edges of the bars; by default all bars are equally wide.

    Returns:
        SVG as text. Bars of positive values rise from 0, bars of negative values fall from it.

    Raises:
        ValueError: without a value, or for more than one axis.

    Example:

    >>> bar_chart([0.2, 0.5, 0.3], description="Weights").count("<rect")
    3
    """
    bars = np.nan_to_num(np.asarray(values, float))
    if bars.ndim != 1 or not len(bars):
        raise ValueError(f"Bars need a list of values. Received: values of shape {bars.shape}")
    ends = np.arange(len(bars) + 1) if edges is None else np.asarray(edges, float)
    width, height = size
    low, high = min(0.0, bars.min()), max(0.0, bars.max())
    high = high if high > low else low + 1.0
    x = ends / ends[-1] * width
    gap = min(2.0, 0.2 * float(np.min(x[1:] - x[:-1])))

    def place(value):
        return 1 + (high - value) / (high - low) * (height - 2)

    parts = [_opening(width, height, description)]
    for value, start, stop in zip(bars, x, x[1:], strict=False):
        top, bottom = place(max(value, 0.0)), place(min(value, 0.0))
        parts.append(
            f'<rect class="bar" x="{start + gap / 2:.1f}" y="{top:.1f}" width="{stop - start - gap:.1f}" '
            f'height="{max(bottom - top, 0.5):.1f}"/>'
        )
    zero = place(0.0)
    parts.append(f'<line class="axis" x1="0" x2="{width}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    return "".join([*parts, "</svg>"])


def _opening(width: int, height: int, description: str) -> str:
    return (
        f'<svg class="chart" role="img" aria-label="{html.escape(description)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{" " * bool(more)}{more}>{html.escape(text)}</text>'


def _legend(names: Iterable[Sequence[str]], left: float, y: float) -> list[str]:
    """Return a line and the lines of text of each series, one below the other."""
    parts = []
    for number, name in enumerate(names, 1):
        parts.append(f'<polyline class="series-{number}" points="{left},{y} {left + 34},{y}"/>')
        for line, text in enumerate(name):
            parts.append(_text(left + 42, y + 4 + _TEXT_LINE * line, text))
        y += _LEGEND_LINE + _TEXT_LINE * (len(name) - 1)
    return parts


def _lines(text: str, width: float) -> list[str]:
    """Break a text into lines that fit a width in pixels."""
    return textwrap.wrap(text, max(8, int(width / _LETTER)), break_on_hyphens=False) or [""]


def _finite(x: ArrayLike, y: ArrayLike, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, float), np.asarray(y, float)
    drawn = np.isfinite(x) & np.isfinite(y)
    if positive:
        drawn &= x > 0
    return x[drawn], y[drawn]


def _ends(low: float, high: float) -> tuple[float, float]:
    """Return the ends, moved apart if they are equal."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _all_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _ticks(low: float, high: float, whole: bool = False) -> np.ndarray:
    """Return about five round numbers from `low` to `high`; integers only if `whole`."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, np.ceil(step)) if whole else step
    return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def _number(value: float) -> str:
    return f"{value + 0.0:.4g}"
