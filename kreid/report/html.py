"""Pieces of an HTML page that stands alone: everything is inside it, and nothing is fetched.

Functions that take `text` escape it; those that take `body` take HTML that is finished.
"""

import base64
import html
import io
import math

from kreid.plots.attention import HEAT_COLOURS
from kreid.plots.charts import CHART_STYLE
from kreid.plots.ranked_list import COLOURS, QUERY_COLOUR

_QUALITY = 82


def _css(colour):
    return f"rgb({', '.join(map(str, colour))})"


_STYLE = f"""
:root {{ color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --quiet: #595959; --line: #d5d5d5; --card: #f5f5f5;
  --same: {_css(COLOURS[True])}; --other: {_css(COLOURS[False])}; --uncounted: {_css(COLOURS[None])};
  --query: {_css(QUERY_COLOUR)}; --link: #0a58a5; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #161616; --ink: #ececec; --quiet: #a9a9a9; --line: #444;
  --card: #222; --same: #2eb872; --other: #f06a4f; --query: #7aa5f5; --link: #7ab8ff; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }}
h2 {{ font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }}
h3 {{ font-size: 1.05rem; margin: 1.5rem 0 .5rem; }}
p, li, figcaption {{ max-width: 46rem; }}
a {{ color: var(--link); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }}
nav a {{ display: inline-block; padding: .3rem 0; }}
.quiet, figcaption {{ color: var(--quiet); font-size: .875rem; }}
.scroll {{ overflow-x: auto; max-width: 100%; }}
.scroll:focus-visible {{ outline: 2px solid var(--link); }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .3rem 0 .75rem; }}
th, td {{ padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th {{ font-weight: 600; }} th:first-child {{ text-align: left; }}
thead th {{ vertical-align: bottom; white-space: normal; min-width: 4.5rem; max-width: 9rem; overflow-wrap: anywhere; }}
td small {{ color: var(--quiet); display: block; font-size: .8rem; }}
td.shade {{ background: rgb(0 114 178 / calc(var(--share) * .45)); }}
.beside {{ display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }}
.beside > * {{ min-width: 0; }}
figure {{ margin: 0 0 .75rem; }}
figure img {{ display: block; height: auto; }}
img.whole {{ max-width: 100%; }}
.paper {{ background: #fff; }}
.ranked {{ display: grid; grid-template-columns: 6.9rem 1fr; gap: 1.5rem; padding: .75rem; margin: .75rem 0;
  background: var(--card); border-radius: .4rem; }}
.ranked ol {{ display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; margin: 0; list-style: none; }}
.tracklet {{ width: 6.9rem; font-size: .8rem; line-height: 1.35; }}
.tracklet .quiet {{ font-size: .7rem; overflow-wrap: anywhere; }}
.tracklet img {{ display: block; width: 100%; height: auto; border: 5px solid var(--uncounted); border-radius: 3px; }}
.tracklet b {{ display: block; }}
.tracklet.query img {{ border-color: var(--query); }}
.tracklet.same img {{ border-color: var(--same); }} .tracklet.same b {{ color: var(--same); }}
.tracklet.other img {{ border-color: var(--other); border-style: dashed; }} .tracklet.other b {{ color: var(--other); }}
.tracklet.uncounted img {{ border-style: dotted; opacity: .6; }} .tracklet.uncounted b {{ color: var(--quiet); }}
.strips img, .strips svg.chart {{ display: block; max-width: none; }}
.strips .label {{ font-size: .8rem; color: var(--quiet); position: sticky; left: 0; display: table;
  margin: .35rem 0 .1rem; }}
.heat {{ display: inline-block; width: 6rem; height: .8em; vertical-align: middle; border-radius: 2px;
  background: linear-gradient(to right, {", ".join(map(_css, HEAT_COLOURS))}); }}
@media (max-width: 40rem) {{
  .ranked {{ grid-template-columns: 1fr; }}
  th, td {{ padding: .3rem .5rem; }}
}}
@media print {{ nav {{ display: none; }} }}
{CHART_STYLE}
"""


def page(title, lead, sections):
    """Makes the page.

    Args:
        title: text of the title and the heading.
        lead: body below the heading.
        sections: dict from an anchor to `(heading, body)`.

    Returns:
        HTML as text.
    """
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, (name, _) in sections.items())
    blocks = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-heading"><h2 id="{anchor}-heading">{escape(name)}</h2>'
        f"{body}</section>\n"
        for anchor, (name, body) in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{blocks}</main></body></html>\n"
    )


def escape(text):
    """Returns text that HTML shows as it is, in attributes too."""
    return html.escape(str(text))


def paragraph(*texts, quiet=False):
    """Returns a paragraph of texts."""
    return f"<p{' class=quiet' * quiet}>{' '.join(escape(text) for text in texts)}</p>"


def scrolling(body, label, kind=""):
    """Returns a body that scrolls within itself where the page is too narrow, by keys too."""
    return f'<div class="scroll {kind}" role="region" aria-label="{escape(label)}" tabindex="0">{body}</div>'


def table(caption, columns, rows):
    """Returns a table whose first column heads the rows.

    Args:
        caption: text above it.
        columns: texts of the head.
        rows: lists of cells: texts, or what `cell` returns.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(one if isinstance(one, Cell) else cell(one) for one in others)
        + "</tr>"
        for first, *others in rows
    )
    # The caption stays in sight when the table is scrolled.
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f"<figure><figcaption>{escape(caption)}</figcaption>{scrolling(body, caption)}</figure>"


class Cell(str):
    """A table's cell as finished HTML, which a text, whatever it holds, cannot be taken for."""

    __slots__ = ()


def cell(text, small="", shade=None):
    """Returns a table's cell.

    Args:
        text: of it.
        small: text below it.
        shade: a share from 0 to 1, shown as shading.
    """
    small = f"<small>{escape(small)}</small>" if small else ""
    kind = ""
    if shade is not None and not math.isnan(shade):
        kind = f' class="shade" style="--share: {shade:.3f}"'
    return Cell(f"<td{kind}>{escape(text)}{small}</td>")


def picture(image, alt, kind=""):
    """Returns an `img` with a `PIL.Image.Image` in it, as JPEG.

    Args:
        image: to show.
        alt: text for those who do not see it.
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


def figure(body, caption):
    """Returns a body with a text below it."""
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def beside(*bodies):
    """Returns bodies side by side, below each other where the page is narrow."""
    return f'<div class="beside">{"".join(f"<div>{body}</div>" for body in bodies)}</div>'
