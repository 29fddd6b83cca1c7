"""The page to review persons: one HTML file that works without a server and without a network."""

import base64
import hashlib
import html
import importlib.resources
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.identities.files import FORMAT, first_and_last, run_digest
from kreid.identities.linking import Identities, Link
from kreid.plots.palette import css_variables

# Bounds of the page: a picture takes about 8 kB in it.
_PAIRS = 40
_SIDE = 6
_PICTURES = 1500

_LEAD = (
    "The tracklets of one person should stand together. Decide the doubtful pairs first: a pair is linked where the "
    "mean distance of its two sides is below the threshold. Then look at each person: select tracklets to split them "
    "off, or tracklets of several persons to merge these, and accept the persons that are right. Save the decisions at "
    "the end."
)
_KEEP = "This page shows people: keep it and delete it as you would their photographs. It sends nothing anywhere."


def review_page(
    embeddings: TrackletEmbeddings,
    identities: Identities,
    pictures: Mapping[str, bytes],
    title: str = "Persons to review",
) -> str:
    """Make the page.

    Doubtful pairs come first, by their margin, then the persons with several tracklets. The page saves decisions as a
    JSON file, which `kreid identify --decisions` takes.

    Args:
        embeddings: of a `Sightings`.
        identities: of its tracklets.
        pictures: of the `Sightings`. The page holds those of the 40 most doubtful pairs, and of as many persons as
            there is room for.
        title: heading of the page.

    Returns:
        HTML as text.
    """
    pairs = identities.links[:_PAIRS]
    shown = dict.fromkeys(
        [row for pair in pairs for side in (pair.one, pair.other) for row in side[:_SIDE]]
        + _in_order_of_the_page(identities)
    )
    kept = set(list(shown)[:_PICTURES])
    first, last = first_and_last(embeddings)
    data = {
        "format": FORMAT,
        "run": run_digest(embeddings),
        "threshold": identities.threshold,
        "persons": identities.persons.tolist(),
        "pairs": [_pair(link) for link in pairs],
        "tracklets": [
            {
                "id": name,
                "camera": tags.get("camera", str(camera)),
                "place": f"{camera} {source}",
                "first": _whole_or_none(first[row]),
                "last": _whole_or_none(last[row]),
                **(_picture(pictures[name]) if row in kept and name in pictures else {}),
            }
            for row, (name, camera, source, tags) in enumerate(
                zip(
                    embeddings.ids.tolist(),
                    embeddings.cameras.tolist(),
                    embeddings.sources.tolist(),
                    embeddings.tags,
                    strict=True,
                )
            )
        ],
    }
    return _page(title, data)


def _in_order_of_the_page(identities: Identities) -> list[int]:
    persons = identities.persons.tolist()
    sizes = {person: persons.count(person) for person in set(persons)}
    return sorted(range(len(persons)), key=lambda row: (sizes[persons[row]] == 1, persons[row], row))


def _pair(link: Link) -> dict[str, Any]:
    return {
        "one": link.one[:_SIDE],
        "other": link.other[:_SIDE],
        "rows": [link.one, link.other],
        "distance": link.distance,
        "probability": None if math.isnan(link.probability) else link.probability,
        "joined": link.joined,
    }


def _picture(content: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    address = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return {"picture": address, "width": width, "height": height}


def _whole_or_none(value: float) -> float | int | None:
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _page(title: str, data: Mapping[str, Any]) -> str:
    style = css_variables() + _text("kreid.report", "style.css") + _text("kreid.identities", "review.css")
    script = _text("kreid.identities", "review.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # As ASCII, and without a sign that could end the element.
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>\n"
        f"<body><header><h1>{html.escape(title)}</h1>{_paragraphs((_LEAD, _KEEP))}</header>\n"
        '<div class="bar"><output id="counts"></output>'
        '<nav aria-label="Sections"><a href="#pairs-heading">Pairs</a> <a href="#persons-heading">Persons</a></nav>'
        '<button type="button" id="merge">Merge selected</button>'
        '<button type="button" id="undo">Undo</button>'
        '<button type="button" id="all">Accept all</button>'
        '<label class="file">Load decisions<input type="file" id="load" accept=".json"></label>'
        '<button type="button" id="save">Save decisions</button>'
        '<p class="notice" id="notice" role="status"></p></div>\n'
        '<main><section aria-labelledby="pairs-heading"><h2 id="pairs-heading">Doubtful pairs</h2>'
        '<div id="pairs"></div></section>\n'
        '<section aria-labelledby="persons-heading"><h2 id="persons-heading">Persons</h2>'
        '<div id="persons"></div></section></main>\n'
        "<noscript><p>This page needs JavaScript, which is inside it.</p></noscript>\n"
        f'<script type="application/json" id="data">{content}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _text(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
