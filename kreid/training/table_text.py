"""A table of rows as Markdown and as plain data."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kreid.evaluation.bootstrap import paired_bootstrap
from kreid.training.table import Table
from kreid.training.table_scores import CLEAN, PROTOCOL, RowScores, row_scores
from kreid.training.table_speed import RowCost


def table_data(
    table: Table, folder: pathlib.Path, costs: Mapping[str, RowCost] | None = None
) -> dict[str, dict[str, Any]]:
    """Collect the figures of a table, scores in per cent.

    Args:
        table: a `Table`.
        folder: folder of the table's runs.
        costs: of `measure_costs`, by row; `None` for none.

    Returns:
        A dict from the name of each row with a scored run to `runs`, their number; `rank1` and `map`, each the mean and
        the standard deviation over runs, `None` of one run; `against_first`, the mean difference of mAP to the first
        row and the ends of its 95% interval; `bad_frames`, mean and deviation of mAP by kind; `bad_frames_mean`, of the
        mean over kinds, and its `bad_frames_against_first`; `gmac`; `frames_per_second`; and `printed`, the paper's
        figures. A figure that is not there is `None`. Differences need runs of the same seeds of both rows.
    """
    scores = {name: row_scores(table, folder, name) for name in table.rows}
    first = scores[next(iter(table.rows))]
    data = {}
    for name, found in scores.items():
        if CLEAN not in found:
            continue
        kinds = [condition for condition in found if condition != CLEAN]
        is_first = found is first
        cost = (costs or {}).get(name)
        data[name] = {
            "runs": len(found[CLEAN].average_precision),
            "rank1": _spread(found[CLEAN].rank1),
            "map": _spread(found[CLEAN].average_precision),
            "against_first": None if is_first else _difference(found, first, [CLEAN]),
            "bad_frames": {kind: _spread(found[kind].average_precision) for kind in kinds} or None,
            "bad_frames_mean": _spread(_mean(found, kinds)) if kinds else None,
            "bad_frames_against_first": None if is_first or not kinds else _difference(found, first, kinds),
            "gmac": cost and cost.gmac,
            "frames_per_second": cost and cost.frames_per_second,
            "printed": dict(table.rows[name].printed) or None,
        }
    return data


def table_text(table: Table, data: Mapping[str, Mapping[str, Any]]) -> str:
    """Format a table's figures as Markdown.

    Args:
        table: a `Table`.
        data: of `table_data`.

    Returns:
        The title, a line for each row with a scored run, and what the columns are. The paper's figures, if a row has
        some, have columns of their own.
    """
    first = next(iter(table.rows))
    kinds = next((list(row["bad_frames"]) for row in data.values() if row["bad_frames"]), [])
    header = ["row", "runs", "rank-1", "mAP", f"mAP against {first} (95%)"]
    header += [f"mAP, {kind}" for kind in kinds]
    header += ["mAP, mean of bad frames", f"mean against {first} (95%)"] if kinds else []
    header += ["GMAC", "frames/s"]
    is_of_a_paper = any(row["printed"] for row in data.values())
    header += [f"paper, {table.printed_on}: {score}" for score in ("rank-1", "mAP")] if is_of_a_paper else []
    lines = [header]
    for name, row in data.items():
        line = [name, str(row["runs"]), _spread_text(row["rank1"]), _spread_text(row["map"])]
        line.append(_difference_text(row["against_first"]))
        line += [_spread_text((row["bad_frames"] or {}).get(kind)) for kind in kinds]
        if kinds:
            line += [_spread_text(row["bad_frames_mean"]), _difference_text(row["bad_frames_against_first"])]
        line += ["" if row["gmac"] is None else f"{row['gmac']:.3f}"]
        line += ["" if row["frames_per_second"] is None else f"{row['frames_per_second']:.0f}"]
        if is_of_a_paper:
            line += [str((row["printed"] or {}).get(score, "")) for score in ("rank1", "map")]
        lines.append(line)
    notes = f"Protocol {PROTOCOL}; mean and standard deviation over runs, paired bootstrap over queries."
    if kinds:
        share = table.bad_frames_test["share"]
        notes += f" With bad frames: {share:.1%} of each tracklet's frames, of queries and gallery."
    notes += f" Figures of a paper are its own, on {table.printed_on}, and not kreid's." if is_of_a_paper else ""
    return f"{table.title}\n\n{_markdown(lines)}\n\n{notes}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    header, *rows = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    ]
    return "\n".join([header, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *rows])


def _spread(scores: np.ndarray) -> tuple[float, float | None]:
    """Return mean and standard deviation over runs of scores `(runs, queries)`, in per cent."""
    means = 100 * np.nanmean(scores, axis=1)
    return float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else None


def _mean(scores: Mapping[str, RowScores], conditions: Sequence[str]) -> np.ndarray:
    return np.mean([scores[condition].average_precision for condition in conditions], axis=0)


def _difference(
    scores: Mapping[str, RowScores], first: Mapping[str, RowScores], conditions: Sequence[str]
) -> tuple[float, float, float] | None:
    """Return the mean difference of mAP in per cent and its interval, `None` for runs of other seeds."""
    if not all(condition in first for condition in conditions):
        return None
    if any(scores[condition].seeds != first[condition].seeds for condition in conditions):
        return None
    one, other = _mean(scores, conditions), _mean(first, conditions)
    mean, low, high = (100 * value for value in paired_bootstrap(one, other))
    return mean, low, high


def _spread_text(spread: Sequence[float | None] | None) -> str:
    if spread is None:
        return ""
    mean, deviation = spread
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} (sd {deviation:.1f})"


def _difference_text(difference: Sequence[float] | None) -> str:
    return "" if difference is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*difference)
