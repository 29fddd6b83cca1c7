"""Trains the rows of a table from shared image models, over several seeds, and compares them query by query.

    python recipes/ablate.py recipes/ablations/small.yaml --data DIR [--run DIR] [--row NAME ...] [--only-table]

A table's file names seeds, an image phase, fine-tuning settings and rows of `system` and `settings`; see
`recipes/ablations/small.yaml`. The same command continues where it was interrupted, and trains rows added since.
"""

import argparse
import json
import pathlib

import numpy as np
import train_mars
import yaml

from kreid import training
from kreid.evaluation import paired_bootstrap

RECIPES = pathlib.Path(__file__).resolve().parent
PROTOCOL = "mars"  # with the queries in the gallery, every query has a match


def main(argv=None):
    """Reads the command line, trains what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=pathlib.Path, help="a YAML file, as in recipes/ablations")
    parser.add_argument("--data", metavar="DIR", help="the data set's folder (default: data/mars)")
    parser.add_argument("--synthetic", action="store_true", help="render a synthetic set in data/synthetic, use that")
    parser.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of the runs (default: runs/TABLE)")
    parser.add_argument("--row", action="append", help="train this row only, and print those that are there")
    parser.add_argument("--only-table", action="store_true", help="train nothing")
    options = parser.parse_args(argv)
    with training.plain_errors():
        table = read_table(options.table, options.row)
        folder = options.run or pathlib.Path("runs") / options.table.stem
        if not options.only_table:
            train_rows(table, folder, options)
        print(comparison(table, folder))


def read_table(path, rows=None):
    """Reads a table's file.

    Raises:
        ValueError: if it is no table, or has no row of a name in `rows`.
    """
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"This is no table of rows ({error}). Received: table={str(path)!r}") from None
    keys = {"seeds", "overlays", "settings", "image_phase", "fine_tuning", "baseline", "rows"}
    if not isinstance(table, dict) or set(table) != keys:
        raise ValueError(f"A table holds {', '.join(sorted(keys))}. Received: table={str(path)!r}")
    unknown = [name for name in [*(rows or []), table["baseline"]] if name not in table["rows"]]
    if unknown:
        raise ValueError(f"The rows are {', '.join(table['rows'])}. Received: row={unknown[0]!r}")
    table["chosen"] = rows or list(table["rows"])
    return table


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
            train(row["system"], settings, row_folder(folder, seed, name), table, options)


def train(system, settings, run, table, options):
    """One run of `train_mars.py`, in this process."""
    if (run / "results.json").exists():
        return
    import keras

    print(f"\n{run}", flush=True)
    keras.backend.clear_session()
    line = ["--system", system, "--run", str(run), "--quiet"]
    line += [part for overlay in table["overlays"] for part in ("--overlay", str(RECIPES / overlay))]
    line += [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    line += ["--synthetic"] if options.synthetic else ["--data", options.data] if options.data else []
    command = training.command_line(line, train_mars.__doc__, system=system, data_dir="data/mars")
    # A recipe's earlier phases would start from nothing: the image model stands in their place.
    command.phase = list(training.load_phases(system, RECIPES, "mars", command.overlay, command.set))[-1]
    train_mars.run_experiment(command)


def row_folder(folder, seed, name):
    """A row's run folder: its name with what a file system takes."""
    return folder / f"seed_{seed}" / "".join(c if c.isalnum() else "_" for c in name)


def comparison(table, folder):
    """The table as text: means over seeds, and the difference to the baseline row with its bootstrap interval."""
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


def row_scores(table, folder, name):
    """Average precisions and first-rank hits `(seeds, queries)` of the seeds that are complete."""
    precisions, hits = [], []
    for seed in table["seeds"]:
        run = row_folder(folder, seed, name)
        if (run / "results.json").exists():
            queries = json.loads((run / "queries.json").read_text())[PROTOCOL]
            precisions.append([np.nan if value is None else value for value in queries["average_precision"]])
            hits.append([np.nan if rank is None else float(rank == 1) for rank in queries["first_match"]])
    return np.array(precisions), np.array(hits)


def spread(scores):
    """Mean and standard deviation over runs, in per cent."""
    means = 100 * np.nanmean(scores, axis=1)
    return f"{means.mean():5.1f} (sd {means.std(ddof=1) if len(means) > 1 else 0:4.1f})  "


if __name__ == "__main__":
    main()
