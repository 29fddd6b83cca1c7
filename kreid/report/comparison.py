"""The section of the comparison with another run: differences of the scores, and the queries that changed most."""

from kreid.evaluation.tables import score_intervals
from kreid.report.choice import most_changed, query_scores
from kreid.report.html import cell, escape, paragraph, table
from kreid.report.measure import Measured, differences, percent, run_names
from kreid.report.ranked_lists import query_list


def comparison_section(measured: Measured, compared: Measured) -> str:
    """Make the tables of differences, and lists of the queries that changed most.

    Args:
        measured: the run's scores.
        compared: the other run's scores on the same tracklets.

    Returns:
        HTML.
    """
    names = run_names([measured, compared])
    body = "".join(_differences(measured, compared, names, protocol) for protocol in measured.protocols)
    body += paragraph(
        f"The difference is {names[1]} minus {names[0]}, query by query: its interval by a paired bootstrap, its "
        "p-value by flipping signs. Both are about other queries for these two models, not about other training runs.",
        quiet=True,
    )
    for each, name in zip((measured, compared), names, strict=True):
        body += paragraph(f"{name}: {each.diameter_text()}", quiet=True)
    changed = most_changed(measured.protocols["standard"], compared.protocols["standard"])
    for queries, word in zip(changed, ("at a better rank", "at a worse rank"), strict=True):
        body += f"<h3>First match {word} with {escape(names[1])}</h3>"
        body += _changed(measured, compared, names, queries, word) if queries else paragraph("None.")
    return body


def _differences(measured: Measured, compared: Measured, names: list[str], protocol: str) -> str:
    one, other = (score_intervals(each.protocols[protocol]) for each in (measured, compared))
    rows = [
        [
            score,
            *(
                cell(percent(each.mean), f"{percent(each.low)} to {percent(each.high)}")
                for each in (one[score], other[score])
            ),
            cell(_signed(mean), f"{_signed(low)} to {_signed(high)}"),
            f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001",
        ]
        for score, (mean, low, high, p_value) in differences(measured, compared, protocol).items()
    ]
    return table(f"Protocol {protocol}, in per cent", ["", *names, "difference (95%)", "p-value"], rows)


def _signed(share: float) -> str:
    """Return a difference in per cent with its sign; a difference that rounds to 0 is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _changed(measured: Measured, compared: Measured, names: list[str], queries: list[int], word: str) -> str:
    embeddings = measured.embeddings
    ranks = [query_scores(each.protocols["standard"])[0] for each in (measured, compared)]
    rows = []
    for query in queries:
        row = embeddings.query_rows[query]
        labels = embeddings.ids[row], embeddings.persons[row], embeddings.cameras[row]
        rows.append([*map(str, labels), *(str(rank[query]) for rank in ranks)])
    columns = ["query", "person", "camera", *(f"first match, {name}" for name in names)]
    body = table(f"Queries whose first match moved most, {word}", columns, rows)
    for each, name in zip((measured, compared), names, strict=True):
        body += paragraph(f"The first of them, by {name}:", quiet=True) + query_list(each, queries[0])
    return body
