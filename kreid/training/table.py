"""Read tables of rows that are trained from shared image models, and compare the rows query by query."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from kreid.evaluation.bootstrap import paired_bootstrap
from kreid.runs import RunFiles

PROTOCOL = "mars"  # with the queries in the gallery, every query has a match
KEYS = ("seeds", "overlays", "settings", "image_phase", "fine_tuning", "baseline", "rows")


def load_table(path: pathlib.Path, rows: Sequence[str] | None = None) -> dict[str, Any]:
    """Read a table's file, such as `recipes/tables/small.yaml`.

    Args:
        path: of the file.
        rows: names of the rows to train, `None` for all.

    Returns:
        A dict of the file's keys, and `chosen`, the rows to train.

    Raises:
        ValueError: if it is no table, or has no row of a name in `rows`.
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
    """Return the run folder of a row's seed, named by the letters and digits of the row's name."""
    return folder / f"seed_{seed}" / "".join(c if c.isalnum() else "_" for c in name)


def table_text(table: Mapping[str, Any], folder: pathlib.Path) -> str:
    """Format the table: means over seeds, and the difference to the baseline row with its bootstrap interval."""
    scores = {name: row_scores(table, folder, name) for name in table["rows"]}
    baseline = scores[table["baseline"]]
    width = max(map(len, scores))
    lines = [f"{'row':<{width}}  runs  rank-1           mAP              mAP against {table['baseline']} (95%)"]
    for name, (precisions, hits) in scores.items():
        if not len(precisions):
            continue
        line = f"{name:<{width}}  {len(precisions):>4}  {spread(hits)}  {spread(precisions)}"
        if name != table["baseline"] and len(precisions) == len(baseline[0]):
            difference = paired_bootstrap(precisions, baseline[0])
            line += f"  {100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
        lines.append(line)
    return "\n".join(lines)


def row_scores(table: Mapping[str, Any], folder: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return average precisions and rank-1 hits `(seeds, queries)` of the complete seeds, in the order of query ids."""
    precisions, hits = [], []
    for seed in table["seeds"]:
        run = RunFiles(row_folder(folder, seed, name))
        if run.is_complete:
            # In the order of names, so that runs pair up whatever order they were evaluated in.
            order = np.argsort(run.read_query_ids(PROTOCOL))
            scores = run.read_protocols()[PROTOCOL].by_query()
            precisions.append(scores["mAP"][order])
            hits.append(scores["rank-1"][order])
    return np.array(precisions), np.array(hits)


def spread(scores: np.ndarray) -> str:
    """Format the mean and standard deviation over runs, in per cent."""
    means = 100 * np.nanmean(scores, axis=1)
    return f"{means.mean():5.1f} (sd {means.std(ddof=1) if len(means) > 1 else 0:4.1f})  "
