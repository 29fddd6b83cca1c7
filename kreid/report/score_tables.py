"""The sections of the scores: the table, and the cumulative matching curve."""

from collections.abc import Sequence

import numpy as np

from kreid.evaluation.tables import score_intervals
from kreid.plots.charts import line_chart
from kreid.report.choice import query_scores
from kreid.report.html import cell, paragraph, table
from kreid.report.measure import Measured, percent, run_names

_RANKS_DRAWN = 50
_PROTOCOLS = {
    "standard": "Gallery without the queries; average precision is the mean of the precisions at the matches.",
    "mars": "Gallery with the queries; trapezoidal average precision, as in the evaluation code of MARS.",
    "with_queries": "Gallery with the queries; average precision is the mean of the precisions at the matches.",
}


def score_section(measured: Measured, own_data: bool) -> str:
    """Make the table of all scores.

    Args:
        measured: the run's scores.
        own_data: whether the data set is the run's own, so that its `results.json` can be compared.

    Returns:
        HTML.
    """
    columns = {name: score_intervals(result) for name, result in measured.all_scores.items()}
    scores = list(next(iter(columns.values())))
    rows: list[list[str]] = [
        [
            score,
            *(
                cell(percent(column[score].mean), f"{percent(column[score].low)} to {percent(column[score].high)}")
                for column in columns.values()
            ),
        ]
        for score in scores
    ]
    rows.append(["queries", *(f"{one.num_valid} of {one.num_queries}" for one in measured.all_scores.values())])
    body = table("Scores in per cent, with 95% bootstrap intervals over queries", ["", *columns], rows)
    body += "".join(paragraph(f"{name}: {text}", quiet=True) for name, text in _PROTOCOLS.items())
    body += paragraph(
        "All protocols remove the query's person in the query's camera, and skip queries that then have no match. "
        "Intervals assume that queries are independent, so true intervals are at least this wide.",
        quiet=True,
    )
    body += paragraph(measured.diameter_text())
    recorded = measured.run.results.get("protocols", {}).get("standard")
    if recorded and own_data:
        body += paragraph(
            f"The run's own results.json has rank-1 {percent(recorded['cmc']['1'])} and mAP {percent(recorded['map'])} "
            "under the standard protocol.",
            quiet=True,
        )
    return body


def cmc_section(runs: Sequence[Measured]) -> str:
    """Draw the share of queries with a match within each rank.

    Args:
        runs: the run, and the run that it is compared with if there is one.

    Returns:
        HTML.
    """
    ranks = np.arange(1, _RANKS_DRAWN + 1)
    series = {}
    for each, run_name in zip(runs, run_names(runs), strict=True):
        results = each.all_scores if len(runs) == 1 else each.protocols
        for name, result in results.items():
            # The curve of `mars`, which ranks the same gallery.
            if name.startswith("with_queries"):
                continue
            first_hit, _ = query_scores(result)
            first = first_hit[first_hit > 0]
            shares = [100 * float(np.mean(first <= rank)) for rank in ranks]
            series[name if len(runs) == 1 else f"{run_name}, {name}"] = ranks, shares
    lowest = min(shares[0] for _, shares in series.values())
    spans = (
        f"{name} {shares[0]:.1f}% at rank 1, {shares[-1]:.1f}% at {ranks[-1]}" for name, (_, shares) in series.items()
    )
    chart = line_chart(
        series,
        x_label="rank",
        y_label="queries with a match, %",
        description=f"Share of queries with a match within each rank: {'; '.join(spans)}",
        size=(430, 280),
        y_limits=(min(90.0, 10 * float(np.floor(lowest / 10))), 100),
    )
    return f"<figure>{chart}</figure>"
