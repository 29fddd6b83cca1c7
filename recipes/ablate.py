"""Trains the rows of a table from shared image models, over several seeds, and compares them query by query.

    python recipes/ablate.py recipes/tables/small.yaml --data DIR [--run DIR] [--row NAME ...] [--only-table]

A table's file names seeds, an image phase, fine-tuning settings and rows of `system` and `settings`; see
`recipes/tables/small.yaml`. The same command continues where it was interrupted, and trains rows added since.
"""

import argparse
import json
import pathlib

import experiment
import train_mars

from kreid import training

RECIPES = pathlib.Path(__file__).resolve().parent


def main(argv=None):
    """Reads the command line, trains what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=pathlib.Path, help="a YAML file, as in recipes/tables")
    parser.add_argument("--data", metavar="DIR", help="the data set's folder (default: data/mars)")
    parser.add_argument("--synthetic", action="store_true", help="render a synthetic set in data/synthetic, use that")
    parser.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of the runs (default: runs/TABLE)")
    parser.add_argument("--row", action="append", help="train this row only, and print those that are there")
    parser.add_argument("--only-table", action="store_true", help="train nothing")
    options = parser.parse_args(argv)
    with training.plain_errors():
        table = training.load_table(options.table, options.row)
        folder = options.run or pathlib.Path("runs") / options.table.stem
        if not options.only_table:
            train_rows(table, folder, options)
        print(training.table_text(table, folder))


def train_rows(table, folder, options):
    """Trains each seed's image model and then its rows."""
    for seed in table["seeds"]:
        image = table["image_phase"]
        start = folder / f"seed_{seed}" / "image_phase"
        train(image["system"], {**table["settings"], **image["settings"], "seed": seed}, start, table, options)
        for name in table["chosen"]:
            row = table["rows"][name]
            settings = {**table["settings"], **table["fine_tuning"], **row["settings"], "seed": seed}
            settings["init"] = str(start / "model.keras")
            train(row["system"], settings, training.row_folder(folder, seed, name), table, options)


def train(system, settings, run, table, options):
    """One run of an experiment on MARS, in this process."""
    if (run / "results.json").exists():
        return
    import keras

    print(f"\n{run}", flush=True)
    keras.backend.clear_session()
    line = ["--system", system, "--run", str(run), "--quiet"]
    line += [part for overlay in table["overlays"] for part in ("--overlay", str(RECIPES / overlay))]
    line += [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    line += ["--synthetic"] if options.synthetic else ["--data", options.data] if options.data else []
    command = training.command_line(line, __doc__, system=system, data_dir=train_mars.MARS.folder)
    # A recipe's earlier phases would start from nothing: the image model stands in their place.
    command.phase = list(training.load_phases(system, RECIPES, "mars", command.overlay, command.set))[-1]
    experiment.run_experiment(command, train_mars.MARS)


if __name__ == "__main__":
    main()
