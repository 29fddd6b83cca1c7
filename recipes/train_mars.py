"""Trains a system on MARS, or on any set in MARS's layout, evaluates it and exports it.

    python recipes/train_mars.py --system sta --data DIR
    python recipes/train_mars.py --system sta --overlay recipes/overlays/small.yaml --synthetic
    python recipes/train_mars.py --system sta --set num_stripes=8 --set epochs=70 --run runs/sta_8_stripes

The same command continues an interrupted run. What is run stands in recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_mars

MARS = experiment.Benchmark(
    layout="mars",
    folder="data/mars",
    expected="MARS (bbox_train/, bbox_test/, info/)",
    read=lambda config: read_mars(config.data_dir),
)


def main(argv=None):
    """Reads the command line and runs the experiment."""
    experiment.main(argv, __doc__, MARS)


if __name__ == "__main__":
    main()
