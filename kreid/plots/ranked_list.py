"""Draw a query tracklet and its nearest gallery tracklets as one picture."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kreid.data.clips import evenly
from kreid.plots import palette
from kreid.plots.strips import MISSING, Frame, tile_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WORDS = {True: "same person", False: "other person", None: ""}
_COLOURS = {True: palette.SAME_PERSON, False: palette.OTHER_PERSON, None: palette.UNCOUNTED}
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_BORDER, _GAP, _FONT_SIZE = 5, 14, 15


@dataclasses.dataclass(frozen=True)
class RankedTracklet:
    """One tracklet of a ranked list.

    Args:
        frames: paths of images, or uint8 arrays `(height, width, 3)`.
        caption: lines of text below the frames.
        same_person: True for a green border, False for red, `None` (not known) for grey.

    Example:

    >>> frames = np.zeros((3, 64, 32, 3), "uint8")
    >>> kreid.plots.RankedTracklet(list(frames), ["camera 2"], same_person=False).caption
    ['camera 2']
    """

    frames: Sequence[Frame]
    caption: Sequence[str] = ()
    same_person: bool | None = None


def draw_ranked_list(
    query: RankedTracklet,
    matches: Sequence[RankedTracklet],
    *,
    columns: int = 5,
    tile: tuple[int, int] = (192, 96),
    frames_shown: int = 2,
) -> "Image":
    """Draw the query on the left, and its matches in rows on the right.

    Args:
        query: a `RankedTracklet`.
        matches: list of `RankedTracklet`, nearest first.
        columns: matches in one row.
        tile: `(height, width)` of one drawn frame in pixels.
        frames_shown: frames drawn per tracklet, evenly spread over it. An
            unreadable file is drawn grey.

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
            f"`columns` and `frames_shown` must be at least 1. Received: columns={columns}, frames_shown={frames_shown}"
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

    def put(entry: RankedTracklet, left: int, top: int, title: str, colour: str) -> None:
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

    put(query, _GAP, _GAP, "query", palette.QUERY)
    start = cell_width + 3 * _GAP
    draw.line((start - _GAP, _GAP, start - _GAP, picture.height - _GAP), fill=MISSING, width=2)
    for rank, entry in enumerate(matches):
        row, column = divmod(rank, columns)
        left = start + column * (cell_width + _GAP)
        put(entry, left, _GAP + row * (cell_height + _GAP), f"{rank + 1}", _COLOURS[entry.same_person])
    return picture


def _caption(entry: RankedTracklet) -> list[str]:
    word = WORDS[entry.same_person]
    return [*entry.caption, word] if word else list(entry.caption)


def _shortened(text: str, width: int, draw: "ImageDraw", font: "ImageFont | FreeTypeFont") -> str:
    """Cut the front of a text that is too wide, because file names differ in their ends."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength("…" + text, font=font) > width:
        text = text[1:]
    return "…" + text
