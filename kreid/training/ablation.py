"""Train the rows of a table from shared image models, over several seeds, and compare them query by query.

    kreid ablate small --data data/mars
    kreid ablate small --synthetic --row "average pooling" --row STA
    kreid ablate recipes/tables/small.yaml --run runs/small --only-table

A table's file holds seeds, an image phase, fine-tuning settings, and rows of `system` and `settings`: see
recipes/tables/small.yaml. The same command continues an interrupted table, and trains rows that were added.

Exit status: 0 trained, 2 wrong usage or data, 130 interrupted, 143 stopped by SIGTERM.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from kreid import training
from kreid.runs import RunFiles
from kreid.training.command import add_arguments as add_train_arguments, plain_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("table", help="name of a file in recipes/tables, such as small, or a path")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help="the data set's folder, in MARS's layout (default: data/mars)")
    source.add_argument(
        "--synthetic", action="store_true", help="render a synthetic set into data/synthetic and use it"
    )
    parser.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of the runs (default: runs/TABLE)")
    parser.add_argument("--row", action="append", help="train only this row; may be repeated")
    parser.add_argument(
        "--only-table", action="store_true", help="print the table of the trained rows, and train nothing"
    )


def run(options: argparse.Namespace) -> int:
    """Train the missing runs and print the table; return the exit status."""
    with plain_errors():
        path = training.recipe_file("tables", options.table)
        table = training.load_table(path, options.row)
        # Paths are relative to the table's file; a name has no ending.
        table["overlays"] = [str(path.parent / file) if "." in file else file for file in table["overlays"]]
        folder = options.run or pathlib.Path("runs") / path.stem
        if not options.only_table:
            train_rows(table, folder, options)
        print(training.table_text(table, folder))
    return 0


def train_rows(table: Mapping[str, Any], folder: pathlib.Path, options: argparse.Namespace) -> None:
    """Train each seed's image model, then its rows.

    Args:
        table: data of `load_table`.
        folder: folder of the runs.
        options: `data` and `synthetic` of the command line.
    """
    for seed in table["seeds"]:
        image = table["image_phase"]
        start = folder / f"seed_{seed}" / "image_phase"
        _train(image["system"], {**table["settings"], **image["settings"], "seed": seed}, start, table, options)
        for name in table["chosen"]:
            row = table["rows"][name]
            settings = {**table["settings"], **table["fine_tuning"], **row["settings"], "seed": seed}
            settings["init"] = str(RunFiles(start).model)
            _train(row["system"], settings, training.row_folder(folder, seed, name), table, options)


def _train(
    system: str, settings: Mapping[str, Any], run: pathlib.Path, table: Mapping[str, Any], options: argparse.Namespace
) -> None:
    if RunFiles(run).is_complete:
        return
    line = ["--system", system, "--run", str(run), "--quiet"]
    line += [part for overlay in table["overlays"] for part in ("--overlay", overlay)]
    line += [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    line += ["--synthetic"] if options.synthetic else ["--data", options.data] if options.data else []
    parser = argparse.ArgumentParser()
    add_train_arguments(parser, "mars")
    command = parser.parse_args(line)
    # The image model replaces the recipe's earlier phases.
    phases = training.load_phases(system, data="mars", overlays=command.overlay, settings=command.set)
    command.phase = list(phases)[-1]
    training.train(command)
