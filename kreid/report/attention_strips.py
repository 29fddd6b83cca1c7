"""Section of attention: frames of tracklets, and every attention of the model below them, drawn by its axes."""

from collections.abc import Sequence

import numpy as np

from kreid.plots.attention import attention_parts, draw_bars, draw_heat, draw_matrix, first_component, heat_limits
from kreid.plots.charts import bar_chart
from kreid.plots.strips import draw_frames, shown_frames
from kreid.report.explain import Explained, explain_tracklet, explains_any_length
from kreid.report.html import escape, figure, paragraph, picture, row, scrolling
from kreid.report.measure import Measured

_TILE = (128, 64)
_STRIP_COLUMNS = 10
_EXPLAINED = 4
# Maps of all frames of a longer tracklet take too much memory. Models that aggregate vectors need no such limit.
_MOST_FRAMES = 96
# Parts of an attention of many axes, such as the heads of a multi-head attention.
_MOST_PARTS = 12
_MAP_HEIGHT = 256
_COMPONENT_HEIGHT = 24
_HEATS = (("frame", "height", "width"), ("frame", "stripe"))


def attention_section(measured: Measured, best: Sequence[int], worst: Sequence[int]) -> str:
    """Draw the attention within some queries.

    Args:
        measured: the run's scores.
        best: numbers of the best queries.
        worst: numbers of the worst queries.

    Returns:
        HTML.
    """
    model, query_rows = measured.run.model, measured.embeddings.query_rows
    lengths = np.array([len(model.selection.positions(len(tracklet))) for tracklet in measured.tracklets])
    # The queries of the lists above, in turn, then all others. A single frame has no other to be compared with.
    listed = [query for pair in zip(best, worst, strict=False) for query in pair]
    rows = [*query_rows[listed], *np.delete(query_rows, listed)]
    most = lengths.max() if explains_any_length(model) else _MOST_FRAMES
    rows = [row for row in rows if 2 <= lengths[row] <= most][:_EXPLAINED]
    explained = [one for row in rows if (one := explain_tracklet(model, measured.tracklets[row])) is not None]
    if not explained:
        return paragraph(f"Attention is drawn for queries of 2 to {most} frames; there are none.")
    body = paragraph(
        "The model's attention in queries of the lists above. Time runs from left to right. Of a tracklet of more than "
        f"{_STRIP_COLUMNS} frames, {_STRIP_COLUMNS} are shown, spread evenly; bars show all of its frames."
    )
    if any(len(axes) > 1 for axes in explained[0].axes.values()):
        body += (
            '<p>Heat from <span class="heat" role="img" aria-label="dark to light"></span> the smallest (dark) to the '
            "largest (light) value of the tracklet.</p>"
        )
    return body + "".join(attention_strips(one) for one in explained)


def attention_strips(explained: Explained) -> str:
    """Draw a tracklet's frames and every attention.

    Attentions that start with frames or clips are drawn below the frames, along the same time axis; all others after
    them, side by side.

    Args:
        explained: of one tracklet.

    Returns:
        HTML.
    """
    tracklet, frames = explained.tracklet, explained.frames
    shown = shown_frames(len(frames), _STRIP_COLUMNS)
    strips = [picture(draw_frames(list(frames[shown]), tile=_TILE), f"{len(shown)} of {len(frames)} frames")]
    others = []
    components = _components(explained)
    limit = max((float(abs(values).max()) for values in components.values()), default=0.0)
    for name, values in explained.attention.items():
        if name in components:
            strips.append(_component_strip(explained.labels[name], components[name][shown], limit))
            continue
        parts = attention_parts(values, explained.axes[name])
        for part, part_values, axes in parts[:_MOST_PARTS]:
            label = explained.labels[name] + (f", {part}" if part else "")
            if _follows_time(axes):
                strips.append(_strip(explained, shown, label, part_values, axes))
            else:
                others.append(_figure(label, part_values, axes))
        if len(parts) > _MOST_PARTS:
            others.append(paragraph(f"{explained.labels[name]}: the first {_MOST_PARTS} of {len(parts)} parts."))
    title = f"Person {tracklet.person}, camera {tracklet.camera}"
    return (
        f"<h3>{escape(title)}</h3>{paragraph(f'{tracklet.id}, {len(frames)} frames', quiet=True)}"
        f"{scrolling(''.join(strips), f'Frames and attention of {tracklet.id}', 'strips')}"
        f"{row(*others) if others else ''}"
    )


def _components(explained: Explained) -> dict[str, np.ndarray]:
    """Return the first principal component of frames' features, by the names of the features."""
    return {
        name: first_component(explained.attention[name])
        for name in explained.attention
        if name in explained.unweighted and explained.axes[name] == ("frame", "channel")
    }


def _component_strip(label: str, values: np.ndarray, limit: float) -> str:
    """Draw a component of the frames shown as a strip of heat, on the scale that all components have."""
    label = f"{label}: first principal component, {_span(values)} of the mean feature's length"
    strip = draw_matrix(values[:, None], ("frame", "channel"), limits=(-limit, limit))
    drawn = picture(strip.resize((_TILE[1] * len(values), _COMPONENT_HEIGHT)), label)
    return f'<span class="label">{escape(label)}; colours from {-limit:.3g} to {limit:.3g}</span>{drawn}'


def _follows_time(axes: tuple[str, ...]) -> bool:
    return (axes[:1] == ("frame",) and axes != ("frame", "frame")) or axes == ("clip",)


def _strip(explained: Explained, shown: np.ndarray, label: str, values: np.ndarray, axes: tuple[str, ...]) -> str:
    """Draw an attention along the time axis of the frames above it."""
    frames, span = explained.frames, _span(values)
    width = _TILE[1] * len(shown)
    if axes in _HEATS:
        limits = heat_limits(values, axes)
        if limits[0] < values.min():
            span += f", {1 / len(values):.3g} if all were equal"
        drawn = picture(
            draw_heat(list(frames[shown]), values[shown], axes, tile=_TILE, limits=limits), f"{label} as heat, {span}"
        )
    elif values.ndim == 2:
        matrix = draw_matrix(values, axes, size=width)
        drawn = picture(matrix.resize((width, _TILE[0])), f"{label}, {axes[1]} by {axes[0]}, as heat, {span}")
        label += f", {values.shape[1]} {axes[1]}s from top to bottom"
    elif np.ptp(values) < 1e-6 * max(abs(values).max(), 1e-6):
        return f'<span class="label">{escape(label)}: all equal, {values[0]:.3g}</span>'
    else:
        drawn = draw_bars(
            values,
            axes,
            description=f"{label}, {span}",
            num_frames=len(frames),
            clip_frames=explained.clip_frames,
            size=(width, 56),
        )
    return f'<span class="label">{escape(label)}, {span}</span>{drawn}'


def _figure(label: str, values: np.ndarray, axes: tuple[str, ...]) -> str:
    """Draw an attention that has no time axis, or two."""
    from PIL import Image

    span = _span(values)
    if values.ndim == 2:
        height, width = values.shape
        matrix = draw_matrix(values, axes)
        text = f"{label}: {axes[0]}s from top to bottom, {axes[1]}s from left to right; {span}."
        if axes == ("frame", "frame"):
            text = f"{label}: each row is a frame, its columns the frames that it attends to; {span}."
        elif axes == ("height", "width"):
            # Maps of several stages are shown in one size.
            matrix = matrix.resize((round(_MAP_HEIGHT * width / height), _MAP_HEIGHT), Image.Resampling.NEAREST)
            text = f"{label}, {height} by {width}: {span}."
        return figure(picture(matrix, f"{label}, {height} by {width}, {span}", "whole"), text)
    if values.ndim == 0:
        return paragraph(f"{label}: {float(values):.3g}.")
    listed = ", ".join(f"{value:.3f}" for value in values) if len(values) <= 12 else span
    return figure(bar_chart(values, description=f"{label}: {listed}", size=(240, 70)), f"{label}: {listed}.")


def _span(values: np.ndarray) -> str:
    return f"from {values.min():.3g} to {values.max():.3g}"
