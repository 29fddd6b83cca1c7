"""Train a system on each of iLIDS-VID's ten splits, evaluate and export each, and average them.

    python recipes/train_ilids_vid.py --system mg_rafa --data DIR
    python recipes/train_ilids_vid.py --system mg_rafa --data DIR --splits 1,2,3
    python recipes/train_ilids_vid.py --system sta --synthetic

Each split has its own folder inside the run's folder; the mean over the complete splits is in splits.json. The same
command continues an interrupted run. A synthetic set has no splits and is run once.
`recipes/train_mars.py` shows the experiment step by step.
"""

import sys
from collections.abc import Sequence

from kreid.training import command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the experiment."""
    return command.main(argv, __doc__, "ilids_vid")


if __name__ == "__main__":
    sys.exit(main())
