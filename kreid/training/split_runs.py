"""Runs of several splits side by side in one folder, and their mean."""

import json
import os

import yaml

from kreid._files import write_atomically
from kreid.evaluation import results_from_dict
from kreid.evaluation.spread import spread_over_splits
from kreid.runs import RunFiles
from kreid.training.config import Config

# The settings that may differ between the runs of one mean.
_OWN = ("split", "init")


def check_splits(folder: str | os.PathLike[str], config: Config) -> None:
    """Refuse a folder of runs whose settings differ from those of the splits to add.

    Args:
        folder: the folder that holds the runs of all splits.
        config: the `Config` of the last phase of any split to add.

    Raises:
        ValueError: naming a split and the settings that differ, or if the folder itself is a run.
    """
    around = RunFiles(folder)
    if around.is_run:
        raise ValueError(
            f"This folder holds a single run, and splits have one folder each inside; choose another with --run. "
            f"Received: run={str(folder)!r}"
        )
    wanted = yaml.safe_load(config.to_yaml())
    for number, run in around.splits().items():
        there = run.read_config()
        other = sorted(key for key in {**there, **wanted} if key not in _OWN and there.get(key) != wanted.get(key))
        if other:
            changes = ", ".join(f"{key}={there.get(key)!r} there and {wanted.get(key)!r} here" for key in other)
            raise ValueError(
                f"Split {number} in this folder was run with other settings ({changes}), and a mean needs equal ones; "
                f"choose another with --run. Received: run={str(folder)!r}"
            )


def keep_splits(folder: str | os.PathLike[str]) -> str:
    """Average the complete splits and write `splits.json` into their folder.

    Args:
        folder: the folder that holds the runs of all splits.

    Returns:
        The mean and deviation of each protocol as a table, or a sentence where fewer than two splits have a test set's
        results.
    """
    around = RunFiles(folder)
    results = {number: run.results for number, run in around.splits().items() if run.is_complete}
    results = {number: values for number, values in results.items() if "protocols" in values}
    scored = {number: results_from_dict(values["protocols"]) for number, values in results.items()}
    if len(results) < 2:
        return f"Complete: {len(results)} split. A mean over splits needs two."
    protocols = {
        name: spread_over_splits(split[name] for split in scored.values()) for name in next(iter(scored.values()))
    }
    summary = {
        "splits": list(results),
        "origins": {number: values["split"] for number, values in results.items()},
        "protocols": {
            name: {score: spread._asdict() for score, spread in scores.items()} for name, scores in protocols.items()
        },
    }
    write_atomically(around.splits_file, json.dumps(summary, indent=2) + "\n")
    return f"{_table(scored, protocols)}\nMean over {len(results)} splits: {around.splits_file}"


def _table(results, protocols):
    """Rank-1 and mAP of each split, then mean and deviation of all scores, by protocol, in per cent."""
    lines = []
    for name, scores in protocols.items():
        columns = [score for score in scores if score != "mINP"]
        lines.append(f"{name:<10}" + "".join(f"{score:>16}" for score in columns))
        for number, split in results.items():
            values = [split[name].scores()[score] for score in columns]
            lines.append(f"split {number:<4}" + "".join(f"{100 * value:>16.1f}" for value in values))
        lines.append(
            f"{'mean':<10}"
            + "".join(f"{f'{100 * scores[c].mean:.1f} (sd {100 * scores[c].deviation:.1f})':>16}" for c in columns)
        )
    return "\n".join(lines)
