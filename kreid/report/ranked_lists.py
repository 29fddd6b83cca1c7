"""The sections of ranked lists: queries and their nearest gallery tracklets."""

from collections.abc import Sequence

from kreid.data.clips import evenly
from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.search import Ranked, ranked_list
from kreid.plots.ranked_list import WORDS
from kreid.plots.strips import draw_frames
from kreid.report.choice import query_scores
from kreid.report.html import escape, paragraph, picture
from kreid.report.measure import Measured, percent

# With the first match beyond them and a tracklet of the same camera, they fill a line of a wide page.
_LISTED = 7
_TILE = (128, 64)
_SIGNS = {True: "✓", False: "✗"}


def list_section(measured: Measured, queries: Sequence[int], text: str) -> str:
    """Make the ranked lists of some queries.

    Args:
        measured: the run's scores.
        queries: numbers of queries.
        text: text above the lists.

    Returns:
        HTML.
    """
    return paragraph(text, quiet=True) + "".join(query_list(measured, query) for query in queries)


def query_list(measured: Measured, query: int) -> str:
    """Make the ranked list of a query.

    Args:
        measured: the run's scores.
        query: number of the query.

    Returns:
        HTML.
    """
    embeddings = measured.embeddings
    first_hit, average_precision = query_scores(measured.protocols["standard"])
    row = embeddings.query_rows[query]
    entries = "".join(f"<li>{_entry(measured, entry)}</li>" for entry in ranked_list(embeddings, row, _LISTED))
    precision = f"average precision {percent(average_precision[query])}%"
    first = f"first match at rank {first_hit[query]}"
    title = _tracklet(measured, row, "query", "Query", f"{precision}, {first}")
    return f'<div class="ranked" data-query="{escape(embeddings.ids[row])}">{title}<ol>{entries}</ol></div>'


def _entry(measured: Measured, entry: Ranked) -> str:
    distance = f"distance {entry.distance:.3g}"
    if entry.rank is None:
        return _tracklet(measured, entry.row, "uncounted", "∅ same camera, not counted", distance)
    kind = "same" if entry.same_person else "other"
    heading = f"{entry.rank}. {_SIGNS[entry.same_person]} {WORDS[entry.same_person]}"
    return _tracklet(measured, entry.row, kind, heading, distance)


def _tracklet(measured: Measured, row: int, kind: str, heading: str, text: str) -> str:
    tracklet = measured.tracklets[row]
    frames = [tracklet.frames[position] for position in evenly(len(tracklet), 2)]
    person = "a distractor" if tracklet.person == DISTRACTOR else f"person {tracklet.person}"
    alt = f"{heading}: {person}, camera {tracklet.camera}"
    return (
        f'<div class="tracklet {kind}">{picture(draw_frames(frames, tile=_TILE), alt)}<b>{escape(heading)}</b>'
        f"{escape(person)}<br>camera {tracklet.camera}<br>{escape(text)}<br>"
        f'<span class="quiet">{escape(measured.embeddings.ids[row])}</span></div>'
    )
