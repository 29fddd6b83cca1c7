"""Charts as SVG text to stand in an HTML page: no library, no script, readable in light and in dark.

Colours come from the page, by the classes `series-1` to `series-6`, `axis` and `grid`; `CHART_STYLE` has them. Series
differ by dashes too, and are named in words.
"""

import html
import math

import numpy as np

# Okabe and Ito's colours, which stay apart for colour-blind readers; lighter ones on dark paper.
_SERIES = (
    ("#0072b2", "#56b4e9", "none"),
    ("#c04a00", "#ff9a4d", "7 4"),
    ("#007a58", "#35cfa0", "2 4"),
    ("#a2487d", "#e9a6ca", "9 3 2 3"),
    ("#8a6a00", "#f0c040", "4 2"),
    ("#555555", "#bbbbbb", "1 3"),
)

CHART_STYLE = "\n".join(
    [
        "svg.chart { display: block; max-width: 100%; height: auto; font: 13px system-ui, sans-serif; }",
        "svg.chart text { fill: currentColor; } svg.chart .axis { stroke: currentColor; }",
        "svg.chart .grid { stroke: currentColor; stroke-opacity: .15; }",
        "svg.chart polyline { fill: none; stroke-width: 2; } svg.chart .bar { fill: var(--series-1); }",
        ":root { " + " ".join(f"--series-{n}: {light};" for n, (light, _, _) in enumerate(_SERIES, 1)) + " }",
        "@media (prefers-color-scheme: dark) { :root { "
        + " ".join(f"--series-{n}: {dark};" for n, (_, dark, _) in enumerate(_SERIES, 1))
        + " } }",
        *(
            f".series-{n} {{ stroke: var(--series-{n}); stroke-dasharray: {dashes}; }}"
            for n, (_, _, dashes) in enumerate(_SERIES, 1)
        ),
    ]
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 10, 42
_LEGEND_LINE = 20


def line_chart(series, *, x_label, y_label, description, size=(380, 250), y_limits=None, logarithmic=False, marks=()):
    """Draws lines over a common axis.

    Args:
        series: dict from a name to `(x, y)`, up to six; points of which a value is not finite are left out.
        x_label: below the axis.
        y_label: beside the axis.
        description: what the chart shows, for those who do not see it.
        size: `(width, height)` in pixels, without the legend.
        y_limits: the ends of the upright axis; by default those of the values.
        logarithmic: a logarithmic x axis; points at 0 or below are left out.
        marks: `(x, text)` of upright lines.

    Returns:
        SVG as text.

    Raises:
        ValueError: without a point to draw, or for more than six series.

    Example:

    >>> text = line_chart({"loss": ([1, 2, 3], [3.0, 1.0, 0.5])}, x_label="epoch", y_label="loss", description="Loss")
    >>> text.startswith("<svg"), text.count("<polyline")
    (True, 1)
    """
    if not 1 <= len(series) <= len(_SERIES):
        raise ValueError(f"A chart has 1 to {len(_SERIES)} series. Received: {len(series)} series")
    lines = {name: _finite(x, y, logarithmic) for name, (x, y) in series.items()}
    if not any(len(x) for x, _ in lines.values()):
        raise ValueError(f"There is no finite point to draw. Received: series={list(series)}")
    forward = np.log10 if logarithmic else np.asarray
    marks = [(x, text) for x, text in marks if np.isfinite(x) and (x > 0 or not logarithmic)]
    all_x = forward(np.concatenate([*(x for x, _ in lines.values()), [x for x, _ in marks]]).astype(float))
    all_y = np.concatenate([y for _, y in lines.values()])
    left, right = _ends(all_x.min(), all_x.max())
    low, high = y_limits or _ends(all_y.min(), all_y.max())

    width, height = size
    legend = _LEGEND_LINE * (len(lines) if len(lines) > 1 else 0)
    inner = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def place_x(x):
        return _LEFT + (forward(x) - left) / (right - left) * inner[0]

    def place_y(y):
        return _TOP + (1 - (np.clip(y, low, high) - low) / (high - low)) * inner[1]

    parts = [_opening(width, height + legend, description)]
    for tick in _ticks(low, high):
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    x_ticks = 10.0 ** np.arange(math.ceil(left), math.floor(right) + 1) if logarithmic else _ticks(left, right)
    for tick in x_ticks:
        x = place_x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - _BOTTOM}" y2="{height - 37}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 24}" text-anchor="middle">{_number(tick)}</text>')
    floor = height - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{floor}" y2="{floor}"/>')
    for x, text in marks:
        x = place_x(x)
        anchor, shift = ("end", -5) if x > width * 0.6 else ("start", 5)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}" stroke-dasharray="3 3"/>')
        parts.append(f'<text x="{x + shift:.1f}" y="{_TOP + 12}" text-anchor="{anchor}">{html.escape(text)}</text>')
    for number, (x, y) in enumerate(lines.values(), 1):
        if len(x) == 1:
            parts.append(f'<circle class="series-{number}" cx="{place_x(x[0]):.1f}" cy="{place_y(y[0]):.1f}" r="3"/>')
        elif len(x):
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(place_x(x), place_y(y), strict=True))
            parts.append(f'<polyline class="series-{number}" points="{points}"/>')
    middle = (_TOP + floor) / 2
    parts.append(
        f'<text x="{(_LEFT + width - _RIGHT) / 2}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    parts.append(
        f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">'
        f"{html.escape(y_label)}</text>"
    )
    if legend:
        for number, name in enumerate(lines, 1):
            y = height + _LEGEND_LINE * number - 8
            parts.append(f'<polyline class="series-{number}" points="{_LEFT},{y} {_LEFT + 34},{y}"/>')
            parts.append(f'<text x="{_LEFT + 42}" y="{y + 4}">{html.escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def bar_chart(values, *, description, size=(640, 70), edges=None):
    """Draws weights along a time axis that fills the whole width, so that it fits a strip of frames above it.

    Args:
        values: floats `(bars,)`.
        description: what the chart shows, for those who do not see it.
        size: `(width, height)` in pixels.
        edges: where the bars begin and the last ends, `bars + 1` rising numbers; by default all are equally wide.

    Returns:
        SVG as text. Bars rise from 0, or hang from it where values are negative.

    Example:

    >>> bar_chart([0.2, 0.5, 0.3], description="Weights").count("<rect")
    3
    """
    values = np.nan_to_num(np.asarray(values, float))
    edges = np.arange(len(values) + 1) if edges is None else np.asarray(edges)
    width, height = size
    low, high = min(0.0, values.min(initial=0.0)), max(0.0, values.max(initial=0.0))
    high = high if high > low else low + 1.0
    x = edges / edges[-1] * width
    gap = min(2.0, 0.2 * float(np.diff(x).min()))

    def place(value):
        return 1 + (high - value) / (high - low) * (height - 2)

    parts = [_opening(width, height, description)]
    for value, start, stop in zip(values, x, x[1:], strict=False):
        top, bottom = place(max(value, 0.0)), place(min(value, 0.0))
        parts.append(
            f'<rect class="bar" x="{start + gap / 2:.1f}" y="{top:.1f}" width="{stop - start - gap:.1f}" '
            f'height="{max(bottom - top, 0.5):.1f}"/>'
        )
    zero = place(0.0)
    parts.append(f'<line class="axis" x1="0" x2="{width}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    return "".join([*parts, "</svg>"])


def _opening(width, height, description):
    return (
        f'<svg class="chart" role="img" aria-label="{html.escape(description)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )


def _finite(x, y, positive):
    x, y = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(x) & np.isfinite(y)
    if positive:
        kept &= x > 0
    return x[kept], y[kept]


def _ends(low, high):
    """Returns two different ends around values."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low, high):
    """Returns about five round numbers from `low` to `high`."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def _number(value):
    return f"{value + 0.0:.4g}"
