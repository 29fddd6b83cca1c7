"""Results as text and as plain data."""

import math

import numpy as np

from kreid.evaluation.bootstrap import bootstrap_interval

# Enough for the digits that are shown, and a fraction of a second at MARS's size.
_DRAWS = 2000


def results_table(results):
    """Formats the results of several protocols as a plain-text table, in per cent.

    The last columns are the bootstrap intervals over queries that hold 95%.

    Args:
        results: dict from a protocol's name to its `RetrievalResult`; all with
            the same ranks.

    Returns:
        A string of one line per protocol below a header.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1])
    >>> print(kreid.evaluation.results_table({"standard": result}))
    protocol  rank-1  rank-5  rank-10  rank-20   mAP  mINP  queries  rank-1 (95%)    mAP (95%)
    standard     0.0   100.0    100.0    100.0  50.0  50.0      1/1    0.0 to 0.0  50.0 to 50.0
    """
    rows = []
    for name, result in results.items():
        row = {"protocol": name}
        row |= {f"rank-{rank}": f"{100 * score:.1f}" for rank, score in result.cmc.items()}
        row |= {"mAP": f"{100 * result.map:.1f}", "mINP": f"{100 * result.minp:.1f}"}
        row |= {"queries": f"{result.num_valid}/{result.num_queries}"}
        for score, (low, high) in _intervals(result).items():
            row[f"{score} (95%)"] = f"{100 * low:.1f} to {100 * high:.1f}"
        rows.append(row)
    if not rows:
        return ""
    lines = [list(rows[0]), *([row.get(column, "") for column in rows[0]] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def results_dict(results):
    """Turns the results of several protocols into data that `json` can write, as fractions.

    Args:
        results: dict from a protocol's name to its `RetrievalResult`.

    Returns:
        A dict of dicts with `cmc`, `map`, `minp`, `num_queries`, `num_valid`
        and `intervals_95`, the bootstrap intervals over queries of rank-1 and
        mAP. The ranks are strings, as JSON has no other keys.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1], ranks=(1,))
    >>> kreid.evaluation.results_dict({"standard": result})["standard"]["intervals_95"]
    {'rank-1': [0.0, 0.0], 'mAP': [0.5, 0.5]}
    """
    return {
        name: {
            "cmc": {str(rank): score for rank, score in result.cmc.items()},
            "map": result.map,
            "minp": result.minp,
            "num_queries": result.num_queries,
            "num_valid": result.num_valid,
            "intervals_95": _intervals(result),
        }
        for name, result in results.items()
    }


def queries_dict(evaluated):
    """Turns the scores of the single queries into data that `json` can write, for tests of one model against another.

    Args:
        evaluated: an `Evaluated`.

    Returns:
        A dict from the protocol to `queries` (ids of tracklets), `average_precision` and `first_match` (the rank, from
        1, of the first right tracklet), each a list; null for a query without a match.
    """
    return {
        name: {
            "queries": [tracklet.id for tracklet in evaluated.queries],
            "average_precision": [None if math.isnan(score) else float(score) for score in result.average_precision],
            "first_match": [int(rank) or None for rank in result.first_hit],
        }
        for name, result in evaluated.protocols.items()
    }


def _intervals(result):
    """Returns the ends of the intervals of rank-1 and mAP."""
    first = np.where(result.first_hit > 0, result.first_hit == 1, np.nan)
    scores = {"rank-1": first, "mAP": result.average_precision}
    return {name: list(bootstrap_interval(values, draws=_DRAWS)[1:]) for name, values in scores.items()}
