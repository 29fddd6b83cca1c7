"""Build an HTML page that needs no other file: everything is inside it, and nothing is fetched.

Functions that take `text` escape it; functions that take `body` take finished HTML.
"""

import base64
import html
import importlib.resources
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kreid._files import printable
from kreid.plots.palette import css_variables

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITY = 82


def page(title: str, lead: str, sections: Mapping[str, tuple[str, str]]) -> str:
    """Make the page.

    Args:
        title: text of the title and the heading.
        lead: body below the heading.
        sections: dict from an anchor to its `(heading, body)`.

    Returns:
        HTML as text.
    """
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, (name, _) in sections.items())
    blocks = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-heading"><h2 id="{anchor}-heading">{escape(name)}</h2>'
        f"{body}</section>\n"
        for anchor, (name, body) in sections.items()
    )
    style = css_variables() + importlib.resources.files("kreid.report").joinpath("style.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f'<body><header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{blocks}</main></body></html>\n"
    )


def escape(text: object) -> str:
    r"""Escape text for HTML, also for attributes.

    Bytes of a file name that are not valid UTF-8 are shown with backslashes.

    Args:
        text: text, or any object with a `str`.

    Returns:
        HTML that can be written as UTF-8.

    Example:

    >>> print(escape("Jos\udce9 & <i>"))
    Jos\udce9 &amp; &lt;i&gt;
    """
    return html.escape(printable(str(text)))


def paragraph(*texts: str, quiet: bool = False) -> str:
    """Return a paragraph of texts."""
    return f"<p{' class=quiet' * quiet}>{' '.join(escape(text) for text in texts)}</p>"


def scrolling(body: str, label: str, kind: str = "") -> str:
    """Return a body that scrolls, also with the keyboard, if the page is too narrow for it."""
    return f'<div class="scroll {kind}" role="region" aria-label="{escape(label)}" tabindex="0">{body}</div>'


def table(caption: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column has the headings of the rows.

    Args:
        caption: text above the table.
        columns: texts of the column headings.
        rows: sequences of cells: texts, or results of `cell`.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(text if isinstance(text, Cell) else cell(text) for text in others)
        + "</tr>"
        for first, *others in rows
    )
    # The caption stays visible when the table is scrolled.
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f"<figure><figcaption>{escape(caption)}</figcaption>{scrolling(body, caption)}</figure>"


class Cell(str):
    """A table's cell as finished HTML; its type keeps it apart from text, which is escaped."""

    __slots__ = ()


def cell(text: str, small: str = "", shade: float | None = None) -> Cell:
    """Return a table's cell.

    Args:
        text: text of the cell.
        small: smaller text below it.
        shade: share from 0 to 1, shown as shading; `None` or NaN for none.
    """
    small = f"<small>{escape(small)}</small>" if small else ""
    kind = ""
    if shade is not None and not math.isnan(shade):
        kind = f' class="shade" style="--share: {shade:.3f}"'
    return Cell(f"<td{kind}>{escape(text)}{small}</td>")


def picture(image: "Image", alt: str, kind: str = "") -> str:
    """Return an `img` element that holds a `PIL.Image.Image`, as JPEG.

    Args:
        image: the image.
        alt: text for readers who cannot see the image.
        kind: CSS class.
    """
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=_QUALITY, optimize=True)
    data = base64.b64encode(content.getvalue()).decode()
    kind = f' class="{kind}"' if kind else ""
    return (
        f'<img{kind} src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" '
        f'width="{image.width}" height="{image.height}">'
    )


def figure(body: str, caption: str) -> str:
    """Return a body with a caption below it."""
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def row(*bodies: str) -> str:
    """Return bodies next to each other, or below each other if the page is narrow."""
    return f'<div class="row">{"".join(f"<div>{body}</div>" for body in bodies)}</div>'
