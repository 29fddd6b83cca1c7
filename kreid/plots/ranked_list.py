"""A query tracklet and its nearest gallery tracklets, as one picture."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from kreid.data.clips import evenly

# Colours that stay apart for colour-blind readers; the caption's words say the same.
COLOURS = {True: (0, 140, 70), False: (200, 50, 30), None: (140, 140, 140)}
QUERY_COLOUR = (30, 80, 180)
WORDS = {True: "same person", False: "other person", None: ""}
_INK, _PAPER, _MISSING = (20, 20, 20), (255, 255, 255), (225, 225, 225)
_BORDER, _GAP, _FONT_SIZE = 5, 14, 15


@dataclasses.dataclass(frozen=True)
class RankedTracklet:
    """One tracklet of a ranked list.

    Args:
        frames: paths of images, or uint8 arrays `(height, width, 3)`.
        caption: lines of text below it.
        same_person: True frames it green, False red, `None` (not known) grey.
    """

    frames: Sequence
    caption: Sequence[str] = ()
    same_person: bool | None = None


def draw_ranked_list(query, matches, *, columns=5, tile=(192, 96), frames_shown=2):
    """Draws the query on the left and its matches, nearest first, in rows on the right.

    Args:
        query: a `RankedTracklet`.
        matches: list of `RankedTracklet`, nearest first.
        columns: matches in one row.
        tile: `(height, width)` of one drawn frame in pixels.
        frames_shown: frames drawn per tracklet, evenly spread over it. A file
            that cannot be read is drawn as a grey field.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        ValueError: for fewer than one column or frame.

    Example:

    >>> frame = np.zeros((64, 32, 3), "uint8")
    >>> entry = kreid.plots.RankedTracklet([frame], ["person 1"], same_person=True)
    >>> kreid.plots.draw_ranked_list(entry, [entry, entry]).mode
    'RGB'
    """
    from PIL import Image, ImageDraw, ImageFont

    if columns < 1 or frames_shown < 1:
        raise ValueError(
            f"At least one column and one frame are drawn. Received: columns={columns}, frames_shown={frames_shown}"
        )
    font = ImageFont.load_default(size=_FONT_SIZE)
    line = _FONT_SIZE + 4
    height, width = tile
    entries = [query, *matches]
    cell_width = frames_shown * width + 2 * _BORDER
    lines = max(len(_caption(entry)) for entry in entries)
    cell_height = line + height + 2 * _BORDER + (lines + 1) * line
    columns = min(columns, max(1, len(matches)))
    rows = max(1, -(-len(matches) // columns))
    picture = Image.new(
        "RGB",
        ((columns + 1) * (cell_width + _GAP) + 3 * _GAP, rows * (cell_height + _GAP) + _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(picture)

    def put(entry, left, top, title, colour):
        draw.text((left, top), title, fill=colour, font=font)
        top += line
        frame = (left, top, left + cell_width - 1, top + height + 2 * _BORDER - 1)
        draw.rectangle(frame, fill=_PAPER, outline=colour, width=_BORDER)
        for number, position in enumerate(evenly(len(entry.frames), frames_shown)):
            place = (left + _BORDER + number * width, top + _BORDER)
            picture.paste(tile_of(entry.frames[position], (width, height)), place)
        top += height + 2 * _BORDER + 2
        for text in _caption(entry):
            draw.text((left, top), _shortened(text, cell_width, draw, font), fill=_INK, font=font)
            top += line

    put(query, _GAP, _GAP, "query", QUERY_COLOUR)
    start = cell_width + 3 * _GAP
    draw.line((start - _GAP, _GAP, start - _GAP, picture.height - _GAP), fill=_MISSING, width=2)
    for rank, entry in enumerate(matches):
        row, column = divmod(rank, columns)
        left = start + column * (cell_width + _GAP)
        put(entry, left, _GAP + row * (cell_height + _GAP), f"{rank + 1}", COLOURS[entry.same_person])
    return picture


def _caption(entry):
    word = WORDS[entry.same_person]
    return [*entry.caption, word] if word else list(entry.caption)


def tile_of(frame, size):
    """Returns a frame, a path or an array, as a `PIL.Image.Image` of `(width, height)`; grey where it is unreadable."""
    from PIL import Image

    if not isinstance(frame, str | os.PathLike):
        return Image.fromarray(np.asarray(frame)).resize(size, Image.Resampling.BILINEAR)
    try:
        with Image.open(frame) as image:
            return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # Pillow tells of broken files in all these ways.
        return Image.new("RGB", size, _MISSING)


def _shortened(text, width, draw, font):
    """Cuts the front of a text that is too wide: the ends of file names tell them apart."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength("…" + text, font=font) > width:
        text = text[1:]
    return "…" + text
