"""Trains a system on each of PRID2011's ten splits, evaluates and exports each, and averages them.

    python recipes/train_prid2011.py --system mg_rafa --data DIR
    python recipes/train_prid2011.py --system mg_rafa --data DIR --splits 1,2,3
    python recipes/train_prid2011.py --system sta --overlay recipes/overlays/small.yaml --synthetic

Each split has a run folder in the run's; the mean over those that are complete is in splits.json beside them. The same
command continues where it was interrupted. A rendered set (--synthetic) has no splits: it is run once. `--set
persons=200` takes all persons whom both cameras saw. What is run stands in recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_prid2011

PRID2011 = experiment.Benchmark(
    layout="prid2011",
    folder="data/prid2011",
    expected="PRID2011 (multi_shot/cam_a/, multi_shot/cam_b/, and splits_prid2011.json where you have it)",
    read=lambda config: read_prid2011(config.data_dir, config.split, config.persons),
    num_splits=10,
)


def main(argv=None):
    """Reads the command line and runs the experiment of each split."""
    experiment.main(argv, __doc__, PRID2011)


if __name__ == "__main__":
    main()
