"""The page of a report: what was measured, as HTML with everything in it."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from kreid.data.clips import evenly
from kreid.evaluation.verification import equal_error_rate
from kreid.gallery.search import ranked_list
from kreid.plots.attention import draw_frames, draw_heat, draw_matrix, shown_frames
from kreid.plots.charts import bar_chart, line_chart
from kreid.plots.ranked_list import WORDS
from kreid.report import measure
from kreid.report.choice import best_and_worst, most_changed
from kreid.report.explain import explain_tracklet
from kreid.report.html import beside, cell, escape, figure, page, paragraph, picture, scrolling, table

_RANKS_DRAWN = 50
_TILE = (128, 64)
_STRIP_COLUMNS = 10
# One more, the first match beyond them, fills the line of a wide page.
_LISTED = 7
_EXPLAINED = 4
# Attention between all pairs of frames, and maps of all frames, of a longer tracklet take too much memory.
_MOST_FRAMES = 96
_MAPPED_PERSONS = 12
_SIGNS = {True: "✓", False: "✗"}

_PROTOCOLS = {
    "standard": "Gallery without the queries, average precision as the mean of the precisions at the matches.",
    "mars": "Gallery with the queries, trapezoidal average precision, as the makers of MARS have it.",
}


def report_page(measured, compared=None, data="", trained_in=None):
    """Makes the page.

    Args:
        measured: a `Measured`.
        compared: the `Measured` of another run on the same tracklets, or `None`.
        data: name of the data set.
        trained_in: the folders that the run was trained on, if they are not this data set's.

    Returns:
        HTML as text.
    """
    run, found = measured.run, measured.embeddings
    system = run.config["system"]
    persons = len(np.unique(found.persons[found.persons > 0]))
    lead = paragraph(
        f"System {system}, run {run.name}, on the test set of {data}: {len(found.query_rows)} queries among "
        f"{len(found):,} tracklets of {persons} persons in {len(np.unique(found.cameras))} cameras; "
        f"{found.metric} distance of {found.embeddings.shape[1]} numbers."
    )
    if trained_in:
        lead += paragraph(
            f"The run was trained on {', '.join(trained_in)}: unless that is the same data, this is a test across data "
            "sets."
        )
    if len(found.damaged_frames) or len(found.unreadable):
        names = f", such as {', '.join(found.unreadable[:3].tolist())}" if len(found.unreadable) else ""
        lead += paragraph(
            f"{len(found.damaged_frames)} frames could not be read; {len(found.unreadable)} tracklets without a "
            f"readable frame are left out{names}."
        )
    lead += paragraph("This page shows people. Keep it, and delete it, as you would their photographs.", quiet=True)

    best, worst = best_and_worst(measured.protocols["standard"], found.persons[found.query_rows])
    sections = {"numbers": ("Numbers", _numbers(measured, not trained_in))}
    if compared is not None:
        sections["comparison"] = (f"Beside {compared.run.name}", _comparison(measured, compared))
    sections |= {
        "cmc": ("Cumulative matching", _cmc(measured, compared)),
        "cameras": ("Pairs of cameras", _cameras(measured)),
        "verification": ("Same person or not", _verification(measured)),
        "best": ("Best queries", _lists(measured, best, "The highest average precision, each of another person.")),
        "worst": (
            "Worst queries",
            _lists(
                measured,
                worst,
                "The lowest average precision, each of another person. A first match beyond the list ends it.",
            ),
        ),
        "attention": ("Attention", _attention(measured, best, worst)),
        "map": ("Embedding map", _map(measured)),
        "training": ("Training", _training(run)),
    }
    return page(f"{run.name} on {data}", lead, sections)


def _percent(value):
    return f"{100 * value:.1f}"


def _numbers(measured, own_data):
    columns = {name: measure.intervals(result) for name, result in measured.all_scores.items()}
    scores = list(next(iter(columns.values())))
    rows = [
        [score]
        + [
            cell(_percent(found[score].mean), f"{_percent(found[score].low)} to {_percent(found[score].high)}")
            for found in columns.values()
        ]
        for score in scores
    ]
    rows.append(["queries"] + [f"{one.num_valid} of {one.num_queries}" for one in measured.all_scores.values()])
    body = table("Scores in per cent, with 95% bootstrap intervals over queries", ["", *columns], rows)
    body += "".join(paragraph(f"{name}: {text}", quiet=True) for name, text in _PROTOCOLS.items())
    body += paragraph(
        "In both, the query's own person in the query's own camera is removed; queries that then have no match are "
        "dropped. Intervals take queries for independent: read them as the narrowest that are honest.",
        quiet=True,
    )
    kept = measured.run.results.get("protocols", {}).get("standard")
    if kept and own_data:
        body += paragraph(
            f"The run's own results.json has rank-1 {_percent(kept['cmc']['1'])} and mAP {_percent(kept['map'])} "
            "under the standard protocol.",
            quiet=True,
        )
    return body


def _comparison(measured, compared):
    names = measured.run.name, compared.run.name
    body = ""
    for protocol in measured.protocols:
        one, other = (measure.intervals(each.protocols[protocol]) for each in (measured, compared))
        rows = []
        for score, (mean, low, high, p_value) in measure.differences(measured, compared, protocol).items():
            rows.append(
                [
                    score,
                    *(
                        cell(_percent(each.mean), f"{_percent(each.low)} to {_percent(each.high)}")
                        for each in (one[score], other[score])
                    ),
                    cell(f"{100 * mean:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"),
                    f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001",
                ]
            )
        body += table(f"Protocol {protocol}, in per cent", ["", *names, "difference (95%)", "p-value"], rows)
    body += paragraph(
        f"The difference is {names[1]} less {names[0]}, query by query: its interval by a paired bootstrap, its "
        "p-value by flipping signs. It is about other queries for these two trained models, not about other trainings.",
        quiet=True,
    )
    found = measured.embeddings
    ranks = [each.protocols["standard"].first_hit for each in (measured, compared)]
    changed = most_changed(*(each.protocols["standard"] for each in (measured, compared)))
    for chosen, word in zip(changed, ("earlier", "later"), strict=True):
        body += f"<h3>Found {word} by {escape(names[1])}</h3>"
        if not chosen:
            body += paragraph("None.")
            continue
        rows = []
        for query in chosen:
            row = found.query_rows[query]
            rows.append(
                [
                    found.ids[row],
                    str(found.persons[row]),
                    str(found.cameras[row]),
                    *(str(rank[query]) for rank in ranks),
                ]
            )
        columns = ["query", "person", "camera", *(f"first match, {name}" for name in names)]
        body += table(f"Queries whose first match moved most, {word}", columns, rows)
        for each in (measured, compared):
            body += paragraph(f"The first of them, by {each.run.name}:", quiet=True) + _list(each, chosen[0])
    return body


def _cmc(measured, compared):
    ranks = np.arange(1, _RANKS_DRAWN + 1)
    series = {}
    for each in (measured, compared) if compared is not None else (measured,):
        before = f"{each.run.name}, " if compared is not None else ""
        chosen = each.all_scores if compared is None else each.protocols
        for name, result in chosen.items():
            first = result.first_hit[result.first_hit > 0]
            series[before + name] = ranks, [100 * np.mean(first <= rank) for rank in ranks]
    low = min(values[0] for _, values in series.values())
    chart = line_chart(
        series,
        x_label="rank",
        y_label="queries with a match, %",
        description="Share of queries with a match within each rank: "
        + "; ".join(
            f"{name} {values[0]:.1f}% at rank 1, {values[-1]:.1f}% at {ranks[-1]}"
            for name, (_, values) in series.items()
        ),
        size=(430, 280),
        y_limits=(10 * np.floor(low / 10), 100),
    )
    return f"<figure>{chart}</figure>"


def _cameras(measured):
    found = measured.cameras
    body = ""
    for name, scores in (("Rank-1", found.rank1), ("mAP", found.map)):
        rows = [
            [
                f"camera {camera}",
                *(
                    cell("-" if not count else _percent(score), shade=score if count else None)
                    for score, count in zip(line, counts, strict=True)
                ),
            ]
            for camera, line, counts in zip(found.cameras, scores, found.num_queries, strict=True)
        ]
        columns = ["query from", *(f"in {camera}" for camera in found.cameras)]
        body += f"<div>{table(f'{name} in per cent, by the camera searched', columns, rows)}</div>"
    return f'<div class="beside">{body}</div>' + paragraph(
        "As in figure 7 of the MARS paper: matches are the query's person in one camera, its tracklets in the others "
        "are removed, everybody else stays. In the query's own camera these are the person's other tracklets there.",
        quiet=True,
    )


def _verification(measured):
    if measured.pairs is None:
        return paragraph("These tracklets have no pair of one person in two cameras, or none of two persons.")
    fitted = measured.run.results.get("verification")
    pairs = measured.pairs
    body = paragraph(
        f"Equal error rate {_percent(equal_error_rate(pairs))}%, over {len(pairs.genuine):,} pairs of one person in "
        f"two cameras and {pairs.num_impostors:,} of two persons, all of the test set."
    )
    rates = measured.at_threshold
    if rates is not None:
        low = f"{100 * fitted['false_match_rate']:.3g}%"
        rows = [
            ["other persons accepted", low, _rate(rates.false_match)],
            ["same person refused", f"{_percent(fitted['false_non_match_rate'])}%", _rate(rates.false_non_match)],
            ["persons", str(fitted["fitted_on"]["persons"]), str(rates.num_persons)],
        ]
        body += table(
            f"At the run's threshold, a distance of {fitted['threshold']:.4g}",
            ["", f"fitted on {fitted['fitted_on']['who']}", "on this test set (95%)"],
            rows,
        )
        body += paragraph("Intervals are over persons, distractors counted one by one.", quiet=True)
    else:
        body += paragraph(
            "The run keeps no threshold that fits this metric, so only the curve is shown: none is chosen on test "
            "persons."
        )
    thresholds, false_match, false_non_match = measure.error_curve(pairs)
    marks = [] if rates is None else [(fitted["threshold"], "the run's threshold")]
    rising = line_chart(
        {
            "other persons accepted": (thresholds, 100 * false_match),
            "same person refused": (thresholds, 100 * false_non_match),
        },
        x_label="threshold: pairs with a smaller distance are accepted",
        y_label="pairs, %",
        description="Both error rates by threshold; they meet at the equal error rate.",
        y_limits=(0, 100),
        marks=marks,
    )
    trade = line_chart(
        {"errors": (100 * false_match, 100 * false_non_match)},
        x_label="other persons accepted, % (logarithmic)",
        y_label="same person refused, %",
        description="Share of the same person's pairs refused by the share of other persons' pairs accepted.",
        y_limits=(0, 100),
        logarithmic=True,
    )
    return body + beside(rising, trade)


def _rate(interval):
    return cell(f"{100 * interval.mean:.3g}%", f"{100 * interval.low:.2g} to {100 * interval.high:.2g}%")


def _lists(measured, queries, text):
    return paragraph(text, quiet=True) + "".join(_list(measured, query) for query in queries)


def _list(measured, query):
    """The ranked list of a query, by its number."""
    found, result = measured.embeddings, measured.protocols["standard"]
    row = found.query_rows[query]
    entries = "".join(f"<li>{_entry(measured, *entry)}</li>" for entry in ranked_list(found, row, _LISTED))
    precision = f"average precision {_percent(result.average_precision[query])}%"
    first = f"first match at rank {result.first_hit[query]}"
    title = _tracklet(measured, row, "query", "Query", f"{precision}, {first}")
    return f'<div class="ranked" data-query="{escape(found.ids[row])}">{title}<ol>{entries}</ol></div>'


def _entry(measured, row, rank, distance, same_person):
    if rank is None:
        return _tracklet(measured, row, "uncounted", "∅ same camera, not counted", f"distance {distance:.3g}")
    kind = "same" if same_person else "other"
    return _tracklet(
        measured, row, kind, f"{rank}. {_SIGNS[same_person]} {WORDS[same_person]}", f"distance {distance:.3g}"
    )


def _tracklet(measured, row, kind, heading, text):
    found, tracklet = measured.embeddings, measured.tracklets[row]
    frames = [tracklet.frames[position] for position in evenly(len(tracklet), 2)]
    person = {0: "a distractor"}.get(tracklet.person, f"person {tracklet.person}")
    alt = f"{heading}: {person}, camera {tracklet.camera}"
    return (
        f'<div class="tracklet {kind}">{picture(draw_frames(frames, tile=_TILE), alt)}<b>{escape(heading)}</b>'
        f"{escape(person)}<br>camera {tracklet.camera}<br>{escape(text)}<br>"
        f'<span class="quiet">{escape(found.ids[row])}</span></div>'
    )


def _attention(measured, best, worst):
    model, found = measured.run.model, measured.embeddings
    lengths = np.array([len(model.selection.positions(len(tracklet))) for tracklet in measured.tracklets])
    # The queries of the lists above, in turn, then all others; one frame alone has nothing to be weighed against.
    listed = [query for pair in zip(best, worst, strict=False) for query in pair]
    rows = [*found.query_rows[listed], *np.delete(found.query_rows, listed)]
    rows = [row for row in rows if 2 <= lengths[row] <= _MOST_FRAMES][:_EXPLAINED]
    explained = [one for row in rows if (one := explain_tracklet(model, measured.tracklets[row])) is not None]
    if not explained:
        return paragraph(f"No query has from 2 to {_MOST_FRAMES} frames, for which attention is drawn.")
    body = paragraph(
        "What the model attends to in queries of the lists above. Time runs from left to right; where a tracklet has "
        f"more than {_STRIP_COLUMNS} frames, those shown are spread evenly, and bars are of all."
    )
    if any(name.startswith(("maps", "stripes")) for name in explained[0].attention):
        body += (
            '<p>Heat from <span class="heat" role="img" aria-label="dark to light"></span> the least (dark) to the '
            "largest (light) value of the tracklet.</p>"
        )
    return body + "".join(_explained(one) for one in explained)


def _explained(explained):
    tracklet, frames = explained.tracklet, explained.frames
    shown = shown_frames(len(frames), _STRIP_COLUMNS)
    width = _TILE[1] * len(shown)
    strips = [picture(draw_frames(list(frames[shown]), tile=_TILE), f"{len(shown)} of {len(frames)} frames")]
    beneath = []
    for name, values in explained.attention.items():
        label = _LABELS.get(name) or _numbered(name)
        span = f"from {values.min():.3g} to {values.max():.3g}"
        if name == "self_attention":
            text = "Row by row, what each frame takes from every frame (columns)"
            matrix = picture(draw_matrix(values), f"{label}, {len(values)} by {len(values)} frames, {span}", "whole")
            beneath.append(figure(matrix, f"{label}. {text}; {span}."))
        elif name == "stages":
            text = ", ".join(f"{value:.3f}" for value in values)
            beneath.append(
                figure(bar_chart(values, description=f"{label}: {text}", size=(240, 70)), f"{label}: {text}.")
            )
        elif name.startswith("maps") or name == "stripes":
            maps = values[:, :, None] if name == "stripes" else values
            limits = values.min(), values.max()
            if name == "stripes":
                # Shares of the frames: what hardly differs is not to look as if it did.
                alike = 1 / len(values)
                limits = min(limits[0], alike / 2), max(limits[1], alike * 2)
                span += f", {alike:.3g} if all were alike"
            drawn = draw_heat(list(frames[shown]), maps[shown], tile=_TILE, limits=limits, smooth=name != "stripes")
            strips.append(
                f'<span class="label">{escape(label)}, {span}</span>{picture(drawn, f"{label} as heat, {span}")}'
            )
        elif values.ndim == 1:
            if np.ptp(values) < 1e-6 * max(abs(values).max(), 1e-6):
                strips.append(f'<span class="label">{escape(label)}: all alike, {values[0]:.3g}</span>')
                continue
            edges = None
            if name == "clips":
                clip = -(-len(frames) // len(values))
                edges = np.minimum(np.arange(len(values) + 1) * clip, len(frames))
            chart = bar_chart(values, description=f"{label}, {span}", size=(width, 56), edges=edges)
            strips.append(f'<span class="label">{escape(label)}, {span}</span>{chart}')
        else:
            strips.append(f'<span class="label">{escape(label)}, {span}, is not drawn</span>')
    title = f"Person {tracklet.person}, camera {tracklet.camera}"
    return (
        f"<h3>{escape(title)}</h3>{paragraph(f'{tracklet.id}, {len(frames)} frames', quiet=True)}"
        f"{scrolling(''.join(strips), f'Frames and attention of {tracklet.id}', 'strips')}"
        f"{beside(*beneath) if beneath else ''}"
    )


_LABELS = {
    "frames": "Weight of each frame",
    "intra": "Weight by the frame itself (w)",
    "inter": "Weight by its relation to the others (v)",
    "clips": "Weight of each clip",
    "stages": "Share of each stage (u)",
    "stripes": "Stripe scores",
    "maps": "Attention within each frame",
    "channels": "Channel weights",
    "self_attention": "Mask M of the self-attention",
}
# MG-RAFA's, one for each granularity, or for each split of the channels.
_GROUP_LABELS = {"maps": "Attention of channel group", "channels": "Channel weights of channel group"}


def _numbered(name):
    kind, _, number = name.rpartition("_")
    return f"{_GROUP_LABELS[kind]} {number}" if kind in _GROUP_LABELS else name


def _map(measured):
    if any(importlib.util.find_spec(name) is None for name in ("sklearn", "matplotlib")):
        return paragraph("The map needs two more packages: pip install kreid[plots]")
    from PIL import Image

    from kreid.plots.embedding_map import draw_embedding_map

    found = measured.embeddings
    persons, counts = np.unique(found.persons[found.persons > 0], return_counts=True)
    # Of those with the most tracklets, so that there is something to see; spread evenly, not picked.
    enough = persons[counts >= min(4, counts.max())]
    chosen = enough[evenly(len(enough), _MAPPED_PERSONS)].tolist()
    if np.isin(found.persons, chosen).sum() < 4:
        return paragraph("There are too few tracklets for a map.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        draw_embedding_map(found.embeddings, found.persons, path, chosen=chosen)
        with Image.open(path) as image:
            drawn = image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3))
    return figure(
        picture(drawn, f"Embeddings of {len(chosen)} persons in the plane, by t-SNE", "whole paper"),
        f"Tracklets of {len(chosen)} persons, spread evenly over those with four tracklets or more, placed by t-SNE. "
        "Neighbours stay neighbours; how far apart groups lie says little.",
    )


def _training(run):
    logs = run.logs()
    if not logs:
        return paragraph("The run has no log.csv.")
    body = ""
    for phase, columns in logs.items():
        if len(logs) > 1:
            body += f"<h3>{'Last phase' if phase == 'main' else f'Phase {escape(phase)}'}</h3>"
        epochs = columns["epoch"]
        groups = {
            "loss": {name: values for name, values in columns.items() if name.endswith("loss")},
            "held-out score, %": {
                name.removeprefix("holdout_"): 100 * values for name, values in columns.items() if "holdout" in name
            },
            "learning rate": {name: values for name, values in columns.items() if name == "learning_rate"},
        }
        charts = []
        for label, lines in groups.items():
            lines = {name: (epochs, values) for name, values in lines.items() if np.isfinite(values).any()}
            if lines:
                last = ", ".join(f"{name} {values[np.isfinite(values)][-1]:.3g}" for name, (_, values) in lines.items())
                # MG-RAFA has a loss for each head: the first ones, the sum among them.
                lines = dict(sorted(lines.items(), key=lambda item: item[0] != "loss")[:6])
                charts.append(
                    line_chart(
                        lines,
                        x_label="epoch",
                        y_label=label,
                        description=f"{label} by epoch; at the end {last}",
                        size=(340, 240),
                    )
                )
        body += beside(*charts)
    return body
