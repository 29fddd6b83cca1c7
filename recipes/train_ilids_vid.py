"""Trains a system on each of iLIDS-VID's ten splits, evaluates and exports each, and averages them.

    python recipes/train_ilids_vid.py --system mg_rafa --data DIR
    python recipes/train_ilids_vid.py --system mg_rafa --data DIR --splits 1,2,3
    python recipes/train_ilids_vid.py --system sta --overlay recipes/overlays/small.yaml --synthetic

Each split has a run folder in the run's; the mean over those that are complete is in splits.json beside them. The same
command continues where it was interrupted. A rendered set (--synthetic) has no splits: it is run once. What is run
stands in recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_ilids_vid

ILIDS_VID = experiment.Benchmark(
    layout="ilids_vid",
    folder="data/ilids_vid",
    expected="iLIDS-VID (i-LIDS-VID/sequences/cam1/, cam2/, and 'train-test people splits/' where you have it)",
    read=lambda config: read_ilids_vid(config.data_dir, config.split),
    num_splits=10,
)


def main(argv=None):
    """Reads the command line and runs the experiment of each split."""
    experiment.main(argv, __doc__, ILIDS_VID)


if __name__ == "__main__":
    main()
