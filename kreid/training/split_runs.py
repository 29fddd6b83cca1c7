"""Runs of several splits side by side in one folder, and their mean."""

import json
import pathlib
import re

import yaml

from kreid._files import write_atomically
from kreid.evaluation import results_from_dict
from kreid.evaluation.spread import spread_over_splits

SUMMARY = "splits.json"
# What may differ between runs of one average.
_OWN = ("split", "init")


def split_folder(folder, split):
    """The run folder of a split.

    Args:
        folder: around the runs of all splits.
        split: its number.

    Returns:
        A `pathlib.Path`.
    """
    return pathlib.Path(folder) / f"split_{split}"


def check_splits(folder, config):
    """Refuses a folder whose runs have other settings than the splits that are to join them.

    Args:
        folder: around the runs of all splits.
        config: the `kreid.training.Config` of the last phase of any of those to come.

    Raises:
        ValueError: naming a split and the settings that differ, or if the folder itself is a run.
    """
    folder = pathlib.Path(folder)
    if (folder / "config.yaml").exists():
        raise ValueError(
            f"This folder holds a single run, and splits have one folder each inside; choose another with --run. "
            f"Received: run={str(folder)!r}"
        )
    wanted = yaml.safe_load(config.to_yaml())
    for number, run in _runs(folder).items():
        found = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        other = sorted(key for key in {**found, **wanted} if key not in _OWN and found.get(key) != wanted.get(key))
        if other:
            changes = ", ".join(f"{key}={found.get(key)!r} there and {wanted.get(key)!r} here" for key in other)
            raise ValueError(
                f"Split {number} in this folder was run with other settings ({changes}), and a mean needs equal ones; "
                f"choose another with --run. Received: run={str(folder)!r}"
            )


def keep_splits(folder):
    """Averages the splits that are complete, and writes `splits.json` beside them.

    Args:
        folder: around the runs of all splits.

    Returns:
        The mean and deviation of each protocol as a table, or a sentence where fewer than two splits have a test set's
        results.
    """
    folder = pathlib.Path(folder)
    results = {
        number: json.loads((run / "results.json").read_text())
        for number, run in _runs(folder).items()
        if (run / "results.json").exists()
    }
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
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return f"{_table(scored, protocols)}\nMean over {len(results)} splits: {folder / SUMMARY}"


def _runs(folder):
    """The run folders of the splits that were begun, by their number, in order."""
    found = {}
    for run in folder.glob("split_*"):
        number = re.fullmatch(r"split_(\d+)", run.name)
        if number and (run / "config.yaml").exists():
            found[int(number[1])] = run
    return dict(sorted(found.items()))


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
