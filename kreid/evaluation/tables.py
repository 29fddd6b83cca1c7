"""Results as text and as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from kreid.evaluation.bootstrap import Interval, bootstrap_interval
from kreid.evaluation.retrieval_result import RetrievalResult

# Enough for the digits shown, and a fraction of a second for the queries of MARS.
_DRAWS = 2000

# The scores whose intervals tables show.
_SHOWN = ("rank-1", "mAP")


def _shown(result: RetrievalResult) -> list[str]:
    """Return the scores of a result whose intervals tables show."""
    return [name for name in _SHOWN if name in result.scores()]


def results_table(results: Mapping[str, RetrievalResult]) -> str:
    """Format the results of several protocols as a plain-text table, in per cent.

    The last columns are the 95% bootstrap intervals over queries.

    Args:
        results: dict from a protocol's name to its `RetrievalResult`; all with the same ranks.

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
        row = {"protocol": name, **{score: f"{100 * value:.1f}" for score, value in result.scores().items()}}
        row |= {"queries": f"{result.num_valid}/{result.num_queries}"}
        for score, (_, low, high) in score_intervals(result, _shown(result)).items():
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


def results_dict(results: Mapping[str, RetrievalResult]) -> dict[str, dict[str, Any]]:
    """Turn the results of several protocols into data that `json` can write, as fractions.

    Args:
        results: dict from a protocol's name to its `RetrievalResult`.

    Returns:
        A dict from the protocol's name to the data of `RetrievalResult.to_dict` with `intervals_95`, the bootstrap
        intervals over queries of rank-1 and mAP. `results_from_dict` reads it back.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1], ranks=(1,))
    >>> kreid.evaluation.results_dict({"standard": result})["standard"]["intervals_95"]
    {'rank-1': [0.0, 0.0], 'mAP': [0.5, 0.5]}
    """
    return {
        name: {
            **result.to_dict(),
            "intervals_95": {
                score: [interval.low, interval.high]
                for score, interval in score_intervals(result, _shown(result)).items()
            },
        }
        for name, result in results.items()
    }


def queries_dict(results: Mapping[str, RetrievalResult], query_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Turn the scores of single queries into data that `json` can write, for tests of one model against another.

    Args:
        results: dict from a protocol's name to its `RetrievalResult`.
        query_ids: ids of the queries, in the order of the results' arrays.

    Returns:
        A dict from the protocol's name to the data of `RetrievalResult.queries_to_dict` with `queries`, the ids.

    Raises:
        ValueError: if the number of ids is not the number of queries.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1])
    >>> kreid.evaluation.queries_dict({"standard": result}, ["a"])["standard"]["first_match"]
    [2]
    """
    for result in results.values():
        if len(query_ids) != result.num_queries:
            raise ValueError(
                f"Give one id for each of the {result.num_queries} queries. Received: {len(query_ids)} query_ids"
            )
    return {name: {"queries": list(query_ids), **result.queries_to_dict()} for name, result in results.items()}


def results_from_dict(
    results: Mapping[str, Mapping[str, Any]], queries: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, RetrievalResult]:
    """Read back the results of several protocols.

    Args:
        results: data of `results_dict`.
        queries: data of `queries_dict`, `None` for results without arrays of single queries.

    Returns:
        A dict from a protocol's name to its `RetrievalResult`.

    Raises:
        ValueError: as `RetrievalResult.from_dict` does.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1])
    >>> data = kreid.evaluation.results_dict({"standard": result})
    >>> kreid.evaluation.results_from_dict(data)["standard"].map
    0.5
    """
    return {
        name: RetrievalResult.from_dict(scores, None if queries is None else queries[name])
        for name, scores in results.items()
    }


def score_intervals(
    result: RetrievalResult, names: Sequence[str] | None = None, draws: int = _DRAWS
) -> dict[str, Interval]:
    """Return the 95% bootstrap interval over queries of each score.

    Args:
        result: a `RetrievalResult` with its single queries.
        names: names of the scores, `None` for all of `RetrievalResult.by_query`.
        draws: see `bootstrap_interval`.

    Returns:
        A dict from the score's name to its `Interval`, as fractions.

    Raises:
        ValueError: if the result was read back without its queries.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, 9], [1, 1])
    >>> kreid.evaluation.score_intervals(result)["mAP"]
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    by_query = result.by_query()
    return {name: bootstrap_interval(by_query[name], draws=draws) for name in names or by_query}
