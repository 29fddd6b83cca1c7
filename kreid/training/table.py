"""Tables of rows that are trained from shared image models and compared query by query."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import yaml

from kreid.evaluation.bootstrap import paired_bootstrap
from kreid.runs import RunFiles

PROTOCOL = "mars"  # The queries stay in the gallery, so every query has a match.
KEYS = ("seeds", "overlays", "settings", "image_phase", "fine_tuning", "baseline", "rows")


class RowScores(NamedTuple):
    """Scores of the single queries of a row's complete runs, in the order of the query ids.

    Args:
        average_precision: float64 `(runs, queries)`.
        rank1: float64 `(runs, queries)`, 1 where the first entry of the ranked list is a match.
    """

    average_precision: np.ndarray
    rank1: np.ndarray


def load_table(path: pathlib.Path, rows: Sequence[str] | None = None) -> dict[str, Any]:
    """Read a table's file, such as `recipes/tables/small.yaml`.

    Args:
        path: of the file.
        rows: names of the rows to train, `None` for all.

    Returns:
        A dict of the file's keys, and `chosen`, the names of the rows to train.

    Raises:
        ValueError: if the file is not a table, or a row is unknown.
    """
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"This is no table of rows ({error}). Received: table={str(path)!r}") from None
    if not isinstance(table, dict) or set(table) != set(KEYS):
        raise ValueError(f"A table holds {', '.join(KEYS)}. Received: table={str(path)!r}")
    unknown = [name for name in [*(rows or []), table["baseline"]] if name not in table["rows"]]
    if unknown:
        raise ValueError(f"The rows are {', '.join(table['rows'])}. Received: row={unknown[0]!r}")
    table["chosen"] = rows or list(table["rows"])
    return table


def row_folder(folder: pathlib.Path, seed: int, name: str) -> pathlib.Path:
    """Return the run folder of a row and a seed.

    Args:
        folder: folder of the table's runs.
        seed: of the run.
        name: of the row; characters other than letters and digits become underscores.

    Example:

    >>> kreid.training.row_folder(pathlib.Path("runs/small"), 0, "TACAN +TA").as_posix()
    'runs/small/seed_0/TACAN__TA'
    """
    return folder / f"seed_{seed}" / "".join(c if c.isalnum() else "_" for c in name)


def table_text(table: Mapping[str, Any], folder: pathlib.Path) -> str:
    """Format the table: means over seeds, and the difference to the baseline row with its bootstrap interval.

    Args:
        table: data of `load_table`.
        folder: folder of the table's runs.

    Returns:
        A header, and a line for each row with a complete run.
    """
    scores_of = {name: row_scores(table, folder, name) for name in table["rows"]}
    baseline = scores_of[table["baseline"]].average_precision
    width = max(map(len, scores_of))
    lines = [f"{'row':<{width}}  runs  rank-1           mAP              mAP against {table['baseline']} (95%)"]
    for name, (average_precision, rank1) in scores_of.items():
        runs = len(average_precision)
        if not runs:
            continue
        line = f"{name:<{width}}  {runs:>4}  {spread(rank1)}  {spread(average_precision)}"
        if name != table["baseline"] and runs == len(baseline):
            difference = paired_bootstrap(average_precision, baseline)
            line += f"  {100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
        lines.append(line)
    return "\n".join(lines)


def row_scores(table: Mapping[str, Any], folder: pathlib.Path, name: str) -> RowScores:
    """Read the scores of a row's complete runs.

    Args:
        table: data of `load_table`.
        folder: folder of the table's runs.
        name: of the row.

    Returns:
        A `RowScores`.
    """
    average_precision, rank1 = [], []
    for seed in table["seeds"]:
        run = RunFiles(row_folder(folder, seed, name))
        if run.is_complete:
            # Sorted by id, so that queries pair up between runs that were evaluated in another order.
            order = np.argsort(run.read_query_ids(PROTOCOL))
            scores = run.read_protocols()[PROTOCOL].by_query()
            average_precision.append(scores["mAP"][order])
            rank1.append(scores["rank-1"][order])
    return RowScores(np.array(average_precision), np.array(rank1))


def spread(scores: np.ndarray) -> str:
    """Format the mean and the standard deviation over runs, in per cent."""
    means = 100 * np.nanmean(scores, axis=1)
    return f"{means.mean():5.1f} (sd {means.std(ddof=1) if len(means) > 1 else 0:4.1f})  "
