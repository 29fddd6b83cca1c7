"""The section of verification: the error rates of "same person or not" by the threshold on the distance."""

from kreid.evaluation.bootstrap import Interval
from kreid.evaluation.verification import equal_error_rate
from kreid.plots.charts import line_chart
from kreid.report.html import Cell, cell, paragraph, row, table
from kreid.report.measure import Measured, error_curve, percent


def verification_section(measured: Measured) -> str:
    """Draw both error rates, with the rates at the threshold that the run fitted.

    Args:
        measured: the run's scores.

    Returns:
        HTML.
    """
    pairs = measured.pairs
    if pairs is None:
        return paragraph("The test set has no pair of one person in two cameras, or no pair of two persons.")
    body = paragraph(
        f"Equal error rate {percent(equal_error_rate(pairs))}%, over {len(pairs.genuine):,} pairs of one person in "
        f"two cameras and {pairs.num_impostors:,} pairs of two persons: all pairs of the test set."
    )
    fitted, rates = measured.run.verification, measured.at_threshold
    marks = []
    if fitted is not None and rates is not None:
        marks = [(fitted["threshold"], "the run's threshold")]
        rows: list[list[str]] = [
            ["other persons accepted", f"{100 * fitted['false_match_rate']:.3g}%", _rate(rates.false_match)],
            ["same person refused", f"{percent(fitted['false_non_match_rate'])}%", _rate(rates.false_non_match)],
            ["persons", str(fitted["fitted_on"]["persons"]), str(rates.num_persons)],
        ]
        body += table(
            f"At the run's threshold, a distance of {fitted['threshold']:.4g}",
            ["", f"fitted on {fitted['fitted_on']['who']}", "on this test set (95%)"],
            rows,
        )
        body += paragraph("Intervals are over persons; each distractor counts as one.", quiet=True)
    else:
        body += paragraph(
            "The run has no threshold for this metric, so only the curves are shown: a threshold must not be chosen on "
            "test persons."
        )
    thresholds, false_match, false_non_match = error_curve(pairs)
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
    return body + row(rising, trade)


def _rate(interval: Interval) -> Cell:
    return cell(f"{100 * interval.mean:.3g}%", f"{100 * interval.low:.2g} to {100 * interval.high:.2g}%")
