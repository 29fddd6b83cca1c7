"""Train the rows of a table, over several seeds, and compare them query by query, clean and with bad frames.

    kreid ablate sta1 --data data/mars
    kreid ablate sta1 --small --weights mobilenet_v2.safetensors --data data/mars --dry-run
    kreid ablate rtf2 --small --synthetic --row "Intra-frame" --seeds 0,1
    kreid ablate recipes/tables/sta1.yaml --run runs/sta1 --only-table

The papers' tables are named by system and number: rtf1, rtf2, tacan1, sta1 to sta3, rafa2 to rafa5, gltr2, gltr3, and
gltr6 for its figure 6. They are trained as in the papers, on GPUs, or with --small, for 2 CPU cores; --dry-run says how
long it takes on this machine. `small` and `robust` are kreid's own and always small.

The same command continues an interrupted table, trains rows that were added, and trains further if epochs have grown.
The table is printed, and written as table.md and table.json into the run's folder. recipes/README.md describes a
table's file.

Exit status: 0 trained, 2 wrong usage or data, 130 interrupted, 143 stopped by SIGTERM.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from kreid import training
from kreid._files import write_atomically
from kreid.training.command import plain_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("table", help="name of a file in recipes/tables, such as sta1, or a path")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help="the data set's folder (default: the recipe's, data/mars)")
    source.add_argument(
        "--synthetic", action="store_true", help="render a synthetic set into data/synthetic and use it"
    )
    parser.add_argument("--small", action="store_true", help="small networks, frames and numbers of steps, for CPUs")
    parser.add_argument("--weights", metavar="FILE", help="starting weights of the backbone (small: a mobilenet_v2)")
    parser.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of the runs (default: runs/TABLE)")
    parser.add_argument(
        "--image-models", type=pathlib.Path, metavar="DIR", help="folder of the image models, for tables to share"
    )
    parser.add_argument("--row", action="append", help="only this row; may be repeated")
    parser.add_argument("--seeds", type=_numbers, metavar="0,1,...", help="only these seeds (default: the table's)")
    parser.add_argument("--steps", type=int, metavar="N", help="train each model for N steps, as a trial")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting of all runs, which wins over files"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the time that the table will take")
    parser.add_argument(
        "--only-table", action="store_true", help="print the table of the trained rows, and train nothing"
    )


def run(options: argparse.Namespace) -> int:
    """Train the missing runs and print the table; return the exit status."""
    with plain_errors():
        path = training.recipe_file("tables", options.table)
        whole = training.load_table(path, options.small, options.weights).chosen(seeds=options.seeds)
        table = whole.chosen(options.row, options.seeds)
        folder = options.run or pathlib.Path("runs") / (f"{path.stem}_small" if options.small else path.stem)
        if not options.only_table:
            runs = training.plan_table(
                table,
                folder,
                data=options.data,
                synthetic=options.synthetic,
                settings=[*_trial(options.steps), *options.set],
                image_models=options.image_models,
            )
            if options.dry_run:
                training.expected_time(table, runs)
                return 0
            train_table(table, runs, folder)
        print_table(whole, folder, measure=not options.only_table)
    return 0


def train_table(table: "training.Table", runs: "Sequence[training.TableRun]", folder: pathlib.Path) -> None:
    """Train and score the runs of a table that are not complete.

    An image model that another process trains, as another table may, is waited for.

    Args:
        table: a `Table`.
        runs: of `plan_table`.
        folder: of the table's runs.

    Raises:
        ValueError: if the data set has no test tracklets.
    """
    rows = [one.folder for one in runs if one.rows and not one.folder.is_complete]
    if rows and not training.load_dataset(rows[0].config).test:
        raise ValueError(
            "A table compares scores, and this data set has no test tracklets to score; add some, or train a row by "
            f"`kreid train`. Received: data={rows[0].config.data_dir!r}"
        )
    for one in runs:
        if one.rows:
            _train(one.folder)
        else:
            _train_or_wait(one.folder)
        for name in one.rows:
            training.score_row(table, table.rows[name], one.seed, one.folder, folder)


def _train(run: "training.RunFolder") -> None:
    if not run.is_complete:
        training.run_experiment(run, quiet=True)


def _train_or_wait(run: "training.RunFolder") -> None:
    """Train a run, or wait for the process that trains it, also for one that was faster to begin."""
    while True:
        run.wait()
        try:
            return _train(run)
        except training.RunBusyError:
            continue


def print_table(table: "training.Table", folder: pathlib.Path, measure: bool = True) -> None:
    """Print a table of all rows with scores, and write it into its folder.

    Args:
        table: a `Table`.
        folder: of the table's runs.
        measure: measure the cost of the rows; else take those in the folder's table.
    """
    file = folder / "table.json"
    costs = {}
    if measure:
        costs = training.measure_costs(training.scored_models(table, folder))
    elif file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        costs = {
            name: training.RowCost(row["gmac"], row["frames_per_second"])
            for name, row in kept.items()
            if row["gmac"] is not None
        }
    data = training.table_data(table, folder, costs)
    if not data:
        raise ValueError(
            "No row of this table is trained yet and scored with its bad frames; --small belongs to a table that was "
            f"trained with it. Received: run={str(folder)!r}, bad_frames_test={dict(table.bad_frames_test)!r}"
        )
    text = training.table_text(table, data)
    write_atomically(file, json.dumps(data, indent=2) + "\n")
    write_atomically(folder / "table.md", text + "\n")
    print(f"\n{text}")


def _trial(steps: int | None) -> list[str]:
    if steps is None:
        return []
    if steps < 1:
        raise ValueError(f"A trial takes at least one step. Received: steps={steps}")
    return ["epochs=1", f"steps_per_epoch={steps}", "warmup_epochs=0"]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"give whole numbers, as in 0,1,2; received {text!r}") from None
