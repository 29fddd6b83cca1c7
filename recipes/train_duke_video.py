"""Trains a system on DukeMTMC-VideoReID, evaluates it and exports it.

    python recipes/train_duke_video.py --system sta --data DIR
    python recipes/train_duke_video.py --system sta --overlay recipes/overlays/small.yaml --synthetic

DukeMTMC was withdrawn by its makers and is not to be newly used; this is for those who hold a copy and the right to use
it. The same command continues an interrupted run. What is run stands in recipes/experiment.py.
"""

import experiment

from kreid.data.readers import read_duke_video

DUKE_VIDEO = experiment.Benchmark(
    layout="duke_video",
    folder="data/duke_video",
    expected="DukeMTMC-VideoReID, which was withdrawn by its makers (train/, query/, gallery/),",
    read=lambda config: read_duke_video(config.data_dir),
)


def main(argv=None):
    """Reads the command line and runs the experiment."""
    experiment.main(argv, __doc__, DUKE_VIDEO)


if __name__ == "__main__":
    main()
