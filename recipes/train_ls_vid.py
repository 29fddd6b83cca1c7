"""Trains a system on LS-VID, evaluates it and exports it.

    python recipes/train_ls_vid.py --system gltr --data DIR
    python recipes/train_ls_vid.py --system gltr --overlay recipes/overlays/small.yaml --synthetic

Where the folder has LS-VID's validation set, choices are made on that, and all train persons are trained on. The same
command continues an interrupted run. What is run stands in recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_ls_vid

LS_VID = experiment.Benchmark(
    layout="ls_vid",
    folder="data/ls_vid",
    expected="LS-VID (list_sequence/, test/data/ and the folders of frames)",
    read=lambda config: read_ls_vid(config.data_dir),
)


def main(argv=None):
    """Reads the command line and runs the experiment."""
    experiment.main(argv, __doc__, LS_VID)


if __name__ == "__main__":
    main()
