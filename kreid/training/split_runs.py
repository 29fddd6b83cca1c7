"""Runs of several splits in one folder, and their mean."""

import json
import os
import pathlib
from collections.abc import Collection, Mapping

from kreid._files import write_atomically
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.evaluation.spread import Spread, spread_over_splits
from kreid.runs import RunFiles
from kreid.training.config import Config, changed_settings


def split_folder(folder: str | os.PathLike[str], split: int) -> pathlib.Path:
    """Return the run folder of a split.

    Args:
        folder: folder of the runs of all splits.
        split: number of the split.

    Example:

    >>> kreid.training.split_folder("runs/sta_prid2011", 3).as_posix()
    'runs/sta_prid2011/split_3'
    """
    return RunFiles(folder).split(split).path


def check_splits(folder: str | os.PathLike[str], config: Config, further: Collection[int] = ()) -> None:
    """Raise if a folder holds splits with other settings than those to be trained.

    Args:
        folder: folder of the runs of all splits.
        config: the `kreid.training.Config` of the last phase; its `split` and `init` are ignored.
        further: numbers of the splits to be trained, whose `epochs` may differ as `RunFolder` allows.

    Raises:
        ValueError: if a split has other settings, or the folder itself is a run.
    """
    files = RunFiles(folder)
    if files.is_run:
        raise ValueError(
            f"This folder holds a single run, so it cannot hold the runs of splits; choose another with --run. "
            f"Received: run={str(folder)!r}"
        )
    for number, run in files.splits().items():
        # Each split has its own persons, and may start from its own earlier phase.
        free = {"split", "init", "epochs"} if number in further else {"split", "init"}
        changes = changed_settings(run.read_config(), config, free)
        if changes:
            raise ValueError(
                f"Split {number} in this folder has other settings ({changes}), and a mean needs equal ones; "
                f"choose another with --run. Received: run={str(folder)!r}"
            )


def keep_splits(folder: str | os.PathLike[str]) -> str:
    """Average the complete splits, and write the summary next to them.

    Args:
        folder: folder of the runs of all splits.

    Returns:
        The mean and deviation of each protocol as a table, or a sentence if fewer than two splits have test results.
    """
    files = RunFiles(folder)
    runs = {number: run for number, run in files.splits().items() if run.read_protocols()}
    results = {number: run.read_protocols() for number, run in runs.items()}
    if len(results) < 2:
        return f"Complete: {len(results)} split. A mean over splits needs two."
    # Splits that an earlier version of kreid scored have fewer protocols.
    common = [name for name in next(iter(results.values())) if all(name in split for split in results.values())]
    protocols = {name: spread_over_splits(split[name] for split in results.values()) for name in common}
    summary = {
        "splits": list(results),
        "origins": {number: run.read_results()["split"] for number, run in runs.items()},
        "protocols": {
            name: {score: spread._asdict() for score, spread in scores.items()} for name, scores in protocols.items()
        },
    }
    write_atomically(files.splits_summary, json.dumps(summary, indent=2) + "\n")
    return f"{_table(results, protocols)}\nMean over {len(results)} splits: {files.splits_summary}"


def _table(results: Mapping[int, Mapping[str, RetrievalResult]], protocols: Mapping[str, Mapping[str, Spread]]) -> str:
    """Return the scores of each split, then mean and deviation, by protocol, in per cent."""
    lines = []
    for name, scores in protocols.items():
        columns = [score for score in scores if score != "mINP"]
        lines.append(f"{name:<12}" + "".join(f"{score:>16}" for score in columns))
        for number, split in results.items():
            values = [split[name].scores()[score] for score in columns]
            lines.append(f"split {number:<6}" + "".join(f"{100 * value:>16.1f}" for value in values))
        lines.append(
            f"{'mean':<12}"
            + "".join(f"{f'{100 * scores[c].mean:.1f} (sd {100 * scores[c].deviation:.1f})':>16}" for c in columns)
        )
    return "\n".join(lines)
