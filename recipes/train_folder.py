"""Trains a system on one's own tracklets, evaluates it and exports it.

    python recipes/train_folder.py --system sta --data DIR
    python recipes/train_folder.py --system sta --overlay recipes/overlays/small.yaml --synthetic

DIR holds `train/`, and, to be tested on, `query/` and `gallery/`; in each, <person>/<camera>/<frame>, or a folder more
where a camera saw a person several times. The same command continues an interrupted run. What is run stands in
recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_folder

FOLDER = experiment.Benchmark(
    layout="folder",
    folder="data/folder",
    expected="A folder of tracklets (train/<person>/<camera>/<frame>)",
    read=lambda config: read_folder(config.data_dir),
)


def main(argv=None):
    """Reads the command line and runs the experiment."""
    experiment.main(argv, __doc__, FOLDER)


if __name__ == "__main__":
    main()
